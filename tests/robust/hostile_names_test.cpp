// Impossible names, subjects, sizes and addresses: each gives a typed error, and nothing is
// created outside the bus.

#include <atomic>
#include <filesystem>

#include "robust.hpp"

namespace {

using robust::fails_with;
using namespace std::chrono_literals;

const std::vector<std::string> impossible_names = {
    "../x",
    "..",
    ".",
    ".hidden",
    "a/b",
    "/etc",
    "x/../../y",
    "with space",
    " ",
    "tab\there",
    "new\nline",
    "semi;colon",
    "star*",
    "quote'",
    "caf\xc3\xa9",
    "\xff\xfe",
    std::string("zero\0byte", 9),
    std::string(64, 'n'),
    std::string(65, 'n'),
    std::string(100'000, 'n'),
    "%2e%2e",
    "a\\b",
    "~",
    "$HOME",
};

std::size_t entries_in(const std::string& directory) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(directory), {}));
}

TEST(HostileNames, OfABus) {
  ::alarm(100);
  test::scratch place;
  for (const auto& name : impossible_names) {
    if (name == "/etc") continue;  // slashes before the name are part of an address
    EXPECT_TRUE(fails_with(bus::open(place.url(name)), bus::errc::invalid_argument))
        << name.substr(0, 80);
    EXPECT_TRUE(fails_with(bus::open(name), bus::errc::invalid_argument)) << name.substr(0, 80);
    EXPECT_TRUE(fails_with(bus::remove_bus(place.url(name), true), bus::errc::invalid_argument))
        << name.substr(0, 80);
  }
  EXPECT_EQ(entries_in(place.root()), 0u);
  EXPECT_TRUE(bus::open(place.url(std::string(63, 'n'))));
  EXPECT_EQ(entries_in(place.root()), 1u);
}

// A directory with the name of a bus of ours, but made by another user, with a link into a real
// bus.
TEST(HostileNames, PlantedByAnother) {
  const test::scratch place;
  auto session = bus::open(place.url("mine"));
  ASSERT_TRUE(session);
  auto publisher = session->publisher("a.b");
  ASSERT_TRUE(publisher);
  const std::string evil = place.directory("evil");
  std::filesystem::create_directory(evil);
  std::filesystem::permissions(evil, std::filesystem::perms::owner_all);
  std::filesystem::create_directory_symlink(place.directory("mine") + "/streams",
                                            evil + "/streams");
  for (const bool force : {false, true}) {
    const auto removed = bus::remove_bus(place.url("evil"), force);
    ASSERT_FALSE(removed);
    EXPECT_EQ(removed.error().code, bus::errc::permission);
  }
  EXPECT_FALSE(bus::open(place.url("evil")));
  EXPECT_TRUE(publisher->publish(std::string_view("on it goes")));
  if (::geteuid() == 0) {
    std::filesystem::remove(evil + "/streams");
    ASSERT_EQ(::chown(evil.c_str(), 65534, 65534), 0);
    EXPECT_EQ(bus::list_buses(place.root()), std::vector<std::string>{"mine"});
    const auto removed = bus::remove_bus(place.url("evil"), true);
    ASSERT_FALSE(removed);
    EXPECT_NE(removed.error().why.find("belongs to uid 65534"), std::string::npos)
        << removed.error().why;
  }
  // In a directory where every user may rename every file, no bus is safe.
  std::filesystem::permissions(place.root(), std::filesystem::perms::all);
  const auto opened = bus::open(place.url("mine"));
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().fix.find("chmod +t"), std::string::npos);
  std::filesystem::permissions(place.root(),
                               std::filesystem::perms::all | std::filesystem::perms::sticky_bit);
  EXPECT_TRUE(bus::open(place.url("mine")));
}

TEST(HostileNames, OfAnAddress) {
  ::alarm(100);
  test::scratch place;
  const std::string root = "?root=" + place.root();
  for (const std::string& url :
       {std::string("bus://host/x"), std::string("bus://host"), std::string("http://x/y"),
        std::string("bus:///x?root=relative"), std::string("bus:///x?root="),
        std::string("bus:///x?root"), "bus:///x" + root + "&slots=abc",
        "bus:///x" + root + "&slots=", "bus:///x" + root + "&slots=7",
        "bus:///x" + root + "&slots=65537", "bus:///x" + root + "&slots=-8",
        "bus:///x" + root + "&slots=99999999999999999999", "bus:///x" + root + "&slots=8x",
        "bus:///x" + root + "&unknown=1", "bus:///x" + root + "&=", "bus:///x" + root + "&&",
        "bus:///x?" + std::string(1 << 20, '&'), "bus:///x?" + std::string(1 << 20, 'k')})
    EXPECT_TRUE(fails_with(bus::open(url), bus::errc::invalid_argument)) << url.substr(0, 80);
  EXPECT_EQ(entries_in(place.root()), 0u);
  EXPECT_TRUE(
      fails_with(bus::open("bus:///x?root=" + place.root() + "/not/there"), bus::errc::not_found));
  EXPECT_FALSE(bus::open("bus:///x?root=/" + std::string(8192, 'd')));
  EXPECT_FALSE(bus::open("bus:///x?root=/dev/null"));
  EXPECT_FALSE(bus::open("bus:///x?root=/proc"));
}

TEST(HostileNames, OfAProcessAreCutAndShown) {
  ::alarm(100);
  test::scratch place;
  bus::session_options how;
  how.url = place.url("t", "&name=" + std::string(500, 'p'));
  auto first = bus::session::open(how);
  ASSERT_TRUE(first);
  how.process_name = std::string(100'000, 'q') + "\x1b[31m\n";
  auto second = bus::session::open(how);
  ASSERT_TRUE(second);
  bus::subscriber_options reading;
  reading.name = std::string(10'000, 'r');
  auto subscriber = second->subscribe("a.>", reading);
  ASSERT_TRUE(subscriber) << subscriber.error().message();
  bus::publisher_options writing;
  writing.name = std::string(10'000, 'w');
  ASSERT_TRUE(second->publisher("a.b", writing));
  const auto processes = first->processes();
  ASSERT_TRUE(processes);
  ASSERT_EQ(processes->size(), 2u);
  for (const auto& process : *processes) EXPECT_LT(process.name.size(), 100u);
}

TEST(HostileNames, OfAStream) {
  ::alarm(100);
  test::scratch place;
  auto session = bus::open(place.url());
  ASSERT_TRUE(session);
  auto names = impossible_names;
  names.emplace_back();
  for (const auto& name : names) {
    auto config = test::small_stream("s", bus::overflow::block);
    config.name = name;
    EXPECT_TRUE(fails_with(session->add_stream(config), bus::errc::invalid_argument))
        << name.substr(0, 80);
    EXPECT_TRUE(fails_with(session->stream(name), bus::errc::not_found)) << name.substr(0, 80);
    EXPECT_TRUE(fails_with(session->remove_stream(name), bus::errc::not_found))
        << name.substr(0, 80);
  }
  EXPECT_EQ(entries_in(place.directory() + "/streams"), 0u);
}

TEST(HostileNames, ConfigurationsThatCannotBe) {
  ::alarm(100);
  test::scratch place;
  auto session = bus::open(place.url());
  ASSERT_TRUE(session);
  const auto refused = [&](auto&& change) {
    auto config = test::small_stream("s", bus::overflow::block);
    change(config);
    return fails_with(session->add_stream(config), bus::errc::invalid_argument);
  };
  using config = bus::stream_config;
  EXPECT_TRUE(refused([](config& c) { c.subjects.clear(); }));
  EXPECT_TRUE(refused([](config& c) { c.subjects = {""}; }));
  EXPECT_TRUE(refused([](config& c) { c.subjects = {"a.>.b"}; }));
  EXPECT_TRUE(refused([](config& c) { c.subjects.assign(5000, "some.subject"); }));
  EXPECT_TRUE(refused([](config& c) { c.overflow = static_cast<bus::overflow>(0); }));
  EXPECT_TRUE(refused([](config& c) { c.overflow = static_cast<bus::overflow>(200); }));
  EXPECT_TRUE(refused([](config& c) { c.mode = static_cast<bus::lane_mode>(77); }));
  EXPECT_TRUE(refused([](config& c) { c.lanes = 0; }));
  EXPECT_TRUE(refused([](config& c) { c.lanes = 65; }));
  EXPECT_TRUE(refused([](config& c) { c.ring_bytes = 0; }));
  EXPECT_TRUE(refused([](config& c) { c.ring_bytes = 65537; }));
  EXPECT_TRUE(refused([](config& c) { c.ring_bytes = 1ull << 63; }));
  EXPECT_TRUE(refused([](config& c) { c.max_message_bytes = 0; }));
  EXPECT_TRUE(refused([](config& c) { c.max_message_bytes = ~0ull; }));
  EXPECT_TRUE(refused([](config& c) { c.max_message_bytes = c.ring_bytes; }));
  EXPECT_TRUE(refused([](config& c) { c.send_timeout = -1ns; }));
  EXPECT_TRUE(refused([](config& c) { c.max_subjects = ~0u; }));
  EXPECT_TRUE(refused([](config& c) { c.max_readers = 0; }));
  EXPECT_TRUE(refused([](config& c) { c.max_readers = ~0u; }));
  EXPECT_EQ(entries_in(place.directory() + "/streams"), 0u);
  // The check can fail: a valid configuration is not refused.
  EXPECT_FALSE(refused([](config&) {}));
}

TEST(HostileNames, OfASubjectOrAPattern) {
  ::alarm(100);
  test::scratch place;
  auto session = bus::open(place.url());
  ASSERT_TRUE(session);
  ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
  auto publisher = session->publisher("s.ok");
  ASSERT_TRUE(publisher);
  for (const std::string& subject :
       {std::string(), std::string("."), std::string(".a"), std::string("a."), std::string("s..a"),
        std::string("s.*"), std::string("s.>"), std::string("s.#"), std::string("s.a b"),
        std::string("s.\n"), std::string("s.\0", 3), "s." + std::string(300, 'x'),
        "s." + std::string(1 << 20, 'x'), std::string("*"), std::string(">")}) {
    EXPECT_TRUE(fails_with(session->publisher(subject), bus::errc::invalid_argument))
        << subject.substr(0, 80);
    if (!subject.empty()) {
      EXPECT_EQ(publisher->publish_to(subject, "x").status, bus::publish_status::invalid)
          << subject.substr(0, 80);
    }
  }
  EXPECT_EQ(publisher->publish_to("another.stream", "x").status, bus::publish_status::invalid);
  for (const std::string& pattern :
       {std::string(), std::string(".."), std::string("a.>.b"), std::string("s.**"),
        std::string("s.a*"), "s." + std::string(300, 'x'), std::string("s. ")})
    EXPECT_TRUE(fails_with(session->subscribe(pattern), bus::errc::invalid_argument))
        << pattern.substr(0, 80);
  EXPECT_TRUE(fails_with(session->subscribe(std::span<const std::string_view>()),
                         bus::errc::invalid_argument));
  EXPECT_TRUE(publisher->publish("still works"));
}

TEST(HostileNames, SizesAndHeaders) {
  ::alarm(100);
  test::scratch place;
  auto session = bus::open(place.url());
  ASSERT_TRUE(session);
  const auto config = test::small_stream("s", bus::overflow::block);
  ASSERT_TRUE(session->add_stream(config));
  auto subscriber = session->subscribe("s.>");
  ASSERT_TRUE(subscriber);
  auto publisher = session->publisher("s.a");
  ASSERT_TRUE(publisher);
  const std::vector<std::byte> large(1 << 20);
  EXPECT_EQ(publisher->publish(std::span(large)).status, bus::publish_status::too_large);
  EXPECT_EQ(publisher->publish(std::span(large).first(config.max_message_bytes + 1)).status,
            bus::publish_status::too_large);
  EXPECT_TRUE(publisher->publish(std::span(large).first(config.max_message_bytes)));
  EXPECT_TRUE(publisher->publish(""));
  EXPECT_TRUE(fails_with(publisher->loan(1 << 30), bus::errc::too_large));
  EXPECT_TRUE(fails_with(publisher->loan(~std::size_t{0}), bus::errc::too_large));
  const std::string long_key(256, 'k'), long_value(70'000, 'v');
  for (const bus::header& wrong :
       {bus::header{"", "v"}, bus::header{long_key, "v"}, bus::header{"k", long_value}}) {
    const auto status = publisher->publish("x", std::span(&wrong, 1)).status;
    EXPECT_TRUE(status == bus::publish_status::invalid || status == bus::publish_status::too_large)
        << bus::publish_status_name(status);
  }
  const std::vector<bus::header> many(10'000, bus::header{"key", "value"});
  EXPECT_FALSE(publisher->publish("x", many));
  const std::vector<bus::outgoing> batch(1001, bus::outgoing{"", {}, {}});
  EXPECT_FALSE(publisher->publish_batch(batch));
  const std::vector<bus::outgoing> stray = {{"s.b", {}, {}}, {"other.stream", {}, {}}};
  EXPECT_FALSE(publisher->publish_batch(stray));
  EXPECT_TRUE(publisher->publish("last"));
  // What was refused left no trace.
  std::vector<std::size_t> sizes;
  while (const auto m = subscriber->try_next()) sizes.push_back(m->size());
  EXPECT_EQ(sizes, (std::vector<std::size_t>{config.max_message_bytes, 0, 4}));
}

TEST(HostileNames, TheLongestTimeoutWaits) {
  ::alarm(100);
  test::scratch place;
  auto session = bus::open(place.url());
  ASSERT_TRUE(session);
  ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
  auto subscriber = session->subscribe("s.>");
  ASSERT_TRUE(subscriber);
  bus::publisher_options how;
  how.send_timeout = std::chrono::nanoseconds::max();
  auto publisher = session->publisher("s.a", how);
  ASSERT_TRUE(publisher);
  const std::string payload(4096, 'p');
  while (!publisher->would_block(payload.size())) ASSERT_TRUE(publisher->publish(payload));
  std::atomic<bool> waiting{false};
  bus::published outcome;
  std::thread other([&] {
    waiting = true;
    outcome = publisher->publish(payload);
  });
  EXPECT_TRUE(test::eventually([&] { return waiting.load(); }));
  // so that it most likely waits; if not, the result is the same
  std::this_thread::sleep_for(50ms);
  std::size_t got = 0;
  EXPECT_TRUE(test::eventually(
      [&] { return (got += subscriber->poll(1000, [](const bus::message&) {})) >= 8; }));
  other.join();
  EXPECT_TRUE(outcome) << bus::publish_status_name(outcome.status) << ": "
                       << publisher->last_error().message();
}

}  // namespace
