#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "registry/stream_claims.hpp"

namespace bus::registry {
namespace {

std::vector<subject::pattern> parse(const std::vector<std::string>& texts) {
  std::vector<subject::pattern> all;
  for (const std::string& text : texts) all.push_back(*subject::pattern::parse(text));
  return all;
}

bool has_conflict(const stream_claims& claims, const std::string& text) {
  return claims.find(*subject::pattern::parse(text)).has_value();
}

TEST(StreamClaims, NamesWhoCapturesTheSame) {
  stream_claims claims;
  claims.set("orders", 7, parse({"orders.>", "fills.*"}));
  const auto found = claims.find(*subject::pattern::parse("fills.eu"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->stream, "orders");
  EXPECT_EQ(found->pattern, "fills.*");
  EXPECT_TRUE(has_conflict(claims, "*.new"));
  EXPECT_FALSE(has_conflict(claims, "fills.eu.late"));
  EXPECT_EQ(claims.inode_of("orders"), 7u);
  EXPECT_EQ(claims.inode_of("none"), 0u);
  claims.set("orders", 8, parse({"trades.>"}));
  EXPECT_FALSE(has_conflict(claims, "orders.new"));
  EXPECT_TRUE(has_conflict(claims, ">"));
  claims.forget_all_but({"other"});
  EXPECT_FALSE(has_conflict(claims, ">"));
}

// Compared with a test of all pairs.
TEST(StreamClaims, FindsWhatALookAtAllWouldFind) {
  const std::vector<std::string> tokens{"a", "b", "c", "*", "aa"};
  std::mt19937 random(20'261'130);
  const auto any_pattern = [&] {
    std::string text;
    const std::size_t count = 1 + random() % 3;
    for (std::size_t i = 0; i < count; ++i)
      text += (i != 0 ? "." : "") + tokens[random() % tokens.size()];
    if (random() % 4 == 0) text += ".>";
    if (random() % 16 == 0) text = ">";
    if (random() % 16 == 0) text = "#";
    if (random() % 8 == 0)
      text += text == ">" || text.ends_with('#') || text.ends_with('>') ? "" : ".#";
    return text;
  };
  stream_claims claims;
  std::map<std::string, std::vector<subject::pattern>> model;
  std::size_t conflicts = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::string name = "s" + std::to_string(random() % 6);
    if (random() % 3 == 0) {
      claims.forget(name);
      model.erase(name);
    } else if (random() % 3 == 0) {
      std::vector<std::string> texts(1 + random() % 3);
      for (std::string& text : texts) text = any_pattern();
      claims.set(name, 1, parse(texts));
      model[name] = parse(texts);
    }
    const auto wanted = *subject::pattern::parse(any_pattern());
    bool expected = false;
    for (const auto& [stream, patterns] : model)
      for (const auto& pattern : patterns) expected = expected || wanted.overlaps(pattern);
    const auto found = claims.find(wanted);
    ASSERT_EQ(found.has_value(), expected) << wanted.text();
    conflicts += expected;
    if (found) {
      ASSERT_TRUE(wanted.overlaps(*subject::pattern::parse(found->pattern)));
      ASSERT_TRUE(model.contains(found->stream));
    }
  }
  EXPECT_GT(conflicts, 2'000u);
  EXPECT_LT(conflicts, 18'000u);
}

}  // namespace
}  // namespace bus::registry
