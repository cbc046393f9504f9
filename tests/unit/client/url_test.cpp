#include "registry/url.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <bus/version.hpp>

namespace bus::registry {
namespace {

TEST(Version, OfTheLibraryIsThatOfItsHeaders) {
  EXPECT_STREQ(library_version(), BUS_VERSION);
  const std::string parts = std::to_string(BUS_VERSION_MAJOR) + "." +
                            std::to_string(BUS_VERSION_MINOR) + "." +
                            std::to_string(BUS_VERSION_PATCH);
  EXPECT_EQ(parts, BUS_VERSION);
}

bus_address good(std::string_view url) {
  auto parsed = parse_url(url);
  EXPECT_TRUE(parsed) << url << ": " << parsed.error().message();
  return parsed ? *parsed : bus_address{};
}

std::string why_bad(std::string_view url) {
  const auto parsed = parse_url(url);
  EXPECT_FALSE(parsed) << url;
  if (parsed) return {};
  EXPECT_EQ(parsed.error().code, errc::invalid_argument);
  EXPECT_NE(parsed.error().what.find(url), std::string::npos) << "the address is named";
  return parsed.error().why;
}

TEST(Url, IsANameOrAnAddress) {
  EXPECT_EQ(good("trading").name, "trading");
  EXPECT_EQ(good("bus:///trading").name, "trading");
  EXPECT_EQ(good("bus:trading").name, "trading");
  EXPECT_EQ(good("bus:///").name, "default");
}

TEST(Url, CarriesOptions) {
  const bus_address address = good("bus:///t?name=md-feed&slots=64&root=/tmp/x");
  EXPECT_EQ(address.name, "t");
  EXPECT_EQ(address.process_name, "md-feed");
  EXPECT_EQ(address.slots, 64u);
  EXPECT_EQ(address.root, "/tmp/x");
  EXPECT_TRUE(address.directory().starts_with("/tmp/x/bus-"));
  EXPECT_TRUE(address.directory().ends_with(".t"));
}

TEST(Url, EmptyIsTheEnvironmentOrTheDefault) {
  const char* before = ::getenv("BUS_URL");
  const std::string saved = before != nullptr ? before : "";
  ::unsetenv("BUS_URL");
  EXPECT_EQ(good("").name, "default");
  ::setenv("BUS_URL", "bus:///elsewhere?slots=9", 1);
  EXPECT_EQ(good("").name, "elsewhere");
  EXPECT_EQ(good("").slots, 9u);
  EXPECT_EQ(good("given").name, "given");
  if (before != nullptr)
    ::setenv("BUS_URL", saved.c_str(), 1);
  else
    ::unsetenv("BUS_URL");
}

TEST(Url, RefusesWhatCannotBeMeantAndSaysWhy) {
  EXPECT_NE(why_bad("bus://host/name").find("host"), std::string::npos);
  EXPECT_NE(why_bad("bus:///a b").find("bus name"), std::string::npos);
  EXPECT_NE(why_bad("bus:///a/b").find("bus name"), std::string::npos);
  EXPECT_NE(why_bad("bus:///..").find("dot"), std::string::npos);
  EXPECT_NE(why_bad("bus:///" + std::string(64, 'n')).find("longer"), std::string::npos);
  EXPECT_NE(why_bad("t?root=relative").find("absolute"), std::string::npos);
  EXPECT_NE(why_bad("t?root=").find("absolute"), std::string::npos);
  for (const char* slots : {"t?slots=7", "t?slots=65537", "t?slots=", "t?slots=12x", "t?slots=-9",
                            "t?slots=99999999999"})
    EXPECT_NE(why_bad(slots).find("slots"), std::string::npos) << slots;
  EXPECT_NE(why_bad("t?colour=red").find("colour"), std::string::npos);
}

TEST(Url, TakesTheLimits) {
  EXPECT_EQ(good(std::string(63, 'n')).name.size(), 63u);
  EXPECT_EQ(good("t?slots=8").slots, 8u);
  EXPECT_EQ(good("t?slots=65536").slots, 65536u);
}

}  // namespace
}  // namespace bus::registry
