#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "support/buses.hpp"

namespace {

using namespace test;
using bus::publish_status;

class Lanes : public testing::Test {
 protected:
  void add(std::uint32_t lanes, bus::lane_mode mode = bus::lane_mode::fixed) {
    bus::stream_config config = stream_of("s", {"s.>"});
    config.lanes = lanes;
    config.mode = mode;
    must(session.add_stream(config));
  }
  bus::publisher publisher(bus::publisher_options options = {}) {
    return must(session.publisher("s.a", options));
  }

  test::scratch scratch;
  bus::session session = join(scratch);
};

TEST_F(Lanes, KeepTheOrderOfEachKey) {
  add(4);
  auto one = publisher(), two = publisher();
  auto s = must(session.subscribe("s.>"));
  EXPECT_EQ(s.stats().lanes, 4u);
  constexpr int keys = 20, rounds = 30;
  for (int round = 0; round < rounds; ++round) {
    for (int k = 0; k < keys; ++k) {
      const std::string key = "k" + std::to_string(k);
      const bus::header header{"key", key};
      send(round % 2 == 0 ? one : two, std::to_string(round), std::span(&header, 1));
    }
  }
  std::map<std::string, int> next;
  std::map<std::string, std::uint32_t> lane_of;
  std::set<std::uint32_t> lanes;
  std::size_t seen = 0;
  while (s.poll(100, [&](const bus::message& m) {
    const std::string key(m.header("key").value_or("?"));
    EXPECT_EQ(m.text(), std::to_string(next[key]++)) << key;
    EXPECT_EQ(lane_of.emplace(key, m.lane()).first->second, m.lane()) << key << " is in two lanes";
    lanes.insert(m.lane());
    ++seen;
  }) != 0) {
  }
  EXPECT_EQ(seen, static_cast<std::size_t>(keys * rounds));
  EXPECT_EQ(lanes.size(), 4u) << "all lanes are used";
}

TEST_F(Lanes, MessagesWithoutAKeyGoToThePublishersLane) {
  add(4);
  bus::publisher_options third;
  third.lane = 2;
  auto fixed = publisher(third), spread = publisher();
  EXPECT_EQ(fixed.lane(), 2u);
  auto s = must(session.subscribe("s.>"));
  const bus::header header{"key", "whatever"};
  send(fixed, "x");
  send(fixed, "x", std::span(&header, 1));
  send(spread, "y");
  send(spread, "y");
  while (s.poll(100, [&](const bus::message& m) {
    EXPECT_EQ(m.lane(), m.text() == "x" ? 2u : spread.lane());
  }) != 0) {
  }
  EXPECT_EQ(s.stats().delivered, 4u);
  bus::publisher_options beyond;
  beyond.lane = 4;
  EXPECT_EQ(session.publisher("s.a", beyond).error().code, bus::errc::invalid_argument);
}

TEST_F(Lanes, ExclusivePublishersTakeTheNextFreeOne) {
  add(2);
  bus::publisher_options exclusive;
  exclusive.mode = bus::publish_mode::exclusive;
  auto one = publisher(exclusive), two = publisher(exclusive);
  EXPECT_NE(one.lane(), two.lane());
  EXPECT_EQ(session.publisher("s.a", exclusive).error().code, bus::errc::conflict);
  auto s = must(session.subscribe("s.>"));
  send(one, "1");
  send(two, "2");
  EXPECT_EQ(drain(s).size(), 2u);
}

TEST_F(Lanes, OfPublishersAreMadeForEachAndUsedAgain) {
  add(3, bus::lane_mode::per_publisher);
  auto s = must(session.subscribe("s.>"));
  EXPECT_EQ(must(session.stream("s")).lanes.size(), 1u);
  std::set<std::uint32_t> lanes;
  {
    auto one = publisher(), two = publisher(), three = publisher();
    for (auto* p : {&one, &two, &three}) {
      lanes.insert(p->lane());
      send(*p, "from lane " + std::to_string(p->lane()));
    }
    EXPECT_EQ(lanes.size(), 3u);
    const auto fourth = session.publisher("s.a");
    ASSERT_FALSE(fourth);
    EXPECT_EQ(fourth.error().code, bus::errc::conflict);
    EXPECT_NE(fourth.error().message().find("3"), std::string::npos);
    texts seen = drain(s);
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, (texts{"from lane 0", "from lane 1", "from lane 2"}));
  }
  auto again = publisher();
  EXPECT_EQ(send(again, "again"), 2u) << "its sequence goes on";
  EXPECT_EQ(drain(s), texts{"again"});
  EXPECT_EQ(must(session.stream("s")).lanes.size(), 3u);
}

TEST_F(Lanes, OfPublishersAreFoundByOtherSessions) {
  add(8, bus::lane_mode::per_publisher);
  auto other = join(scratch);
  auto mine = publisher();
  auto theirs = must(other.publisher("s.b"));
  EXPECT_NE(mine.lane(), theirs.lane());
  auto s = must(session.subscribe("s.>"));
  auto late = must(other.publisher("s.c"));
  std::vector<std::jthread> writers;
  for (auto* p : {&mine, &theirs, &late}) {
    writers.emplace_back([p] {
      for (int i = 0; i < 300; ++i) send(*p, std::to_string(i));
    });
  }
  std::map<std::uint32_t, int> next;
  std::size_t seen = 0;
  ASSERT_TRUE(eventually([&] {
    seen += s.poll(
        100, [&](const bus::message& m) { EXPECT_EQ(m.text(), std::to_string(next[m.lane()]++)); });
    return seen == 900;
  }));
  EXPECT_EQ(next.size(), 3u);
}

TEST_F(Lanes, HaveOneLastMessageAndOneOfEachSubject) {
  for (const auto mode : {bus::lane_mode::fixed, bus::lane_mode::per_publisher}) {
    const std::string name = mode == bus::lane_mode::fixed ? "f" : "p";
    bus::stream_config config = stream_of(name, {name + ".>"});
    config.lanes = 3;
    config.mode = mode;
    must(session.add_stream(config));
    const bool fixed = mode == bus::lane_mode::fixed;
    std::vector<bus::publisher> out;
    for (std::uint32_t lane = 0; lane < 3; ++lane)
      out.push_back(must(session.publisher(
          name + ".a", {.lane = fixed ? std::optional<std::uint32_t>(lane) : std::nullopt})));
    int number = 0;
    const auto publish = [&](std::uint32_t from, const char* subject) {
      send_to(out[from], name + subject, std::to_string(number++) + subject);
    };
    // the last message of each subject is the last in only one lane
    for (const std::uint32_t from : {1, 2, 0, 2, 0, 1}) {
      publish(from, ".a");
      publish((from + 1) % 3, ".b");
    }
    publish(0, ".c");
    const auto read = [&](bus::start from, const std::string& pattern) {
      auto s = must(session.subscribe(pattern, {.start = from}));
      texts seen = drain(s);
      publish(2, ".a");  // new messages of any lane arrive, too
      publish(1, ".a");
      EXPECT_EQ(drain(s).size(), pattern.ends_with(".b") ? 0u : 2u);
      std::sort(seen.begin(), seen.end());
      return seen;
    };
    EXPECT_EQ(read(bus::start::last(), name + ".b"), texts{"11.b"});
    EXPECT_EQ(read(bus::start::last(), name + ".a"), texts{"14.a"});
    EXPECT_EQ(read(bus::start::last_per_subject(), name + ".>"), (texts{"11.b", "12.c", "16.a"}));
    EXPECT_EQ(read(bus::start::last_per_subject(), name + ".a"), texts{"18.a"});
  }
}

TEST_F(Lanes, HaveSequencesOfTheirOwn) {
  add(2);
  bus::publisher_options first, second;
  first.lane = 0;
  second.lane = 1;
  auto zero = publisher(first), one = publisher(second);
  EXPECT_EQ(send(zero, "x"), 1u);
  EXPECT_EQ(send(one, "x"), 1u);
  EXPECT_EQ(send(zero, "x"), 2u);
  EXPECT_EQ(must(session.stream("s")).messages(), 3u);
}

}  // namespace
