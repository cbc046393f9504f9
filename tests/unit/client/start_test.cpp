#include <gtest/gtest.h>

#include <numeric>
#include <thread>

#include "support/buses.hpp"

namespace {

using namespace test;

std::vector<std::uint64_t> range(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> all(last + 1 - first);
  std::iota(all.begin(), all.end(), first);
  return all;
}

class Start : public testing::TestWithParam<bus::overflow> {
 protected:
  Start() {
    must(session.add_stream(small_stream("s", GetParam())));
    p.emplace(must(session.publisher("s.a")));
  }
  void publish(int count, const char* subject = "s.a") {
    for (int i = 0; i < count; ++i) send_to(*p, subject, "x");
  }
  bus::subscriber subscribe(bus::start from, std::string_view pattern = "s.>") {
    bus::subscriber_options options;
    options.start = from;
    options.on_gap = [this](const bus::gap& g) { gaps.push_back(g); };
    return must(session.subscribe(pattern, options));
  }
  test::scratch scratch;
  bus::session session = join(scratch);
  std::optional<bus::publisher> p;
  std::vector<bus::gap> gaps;
};

INSTANTIATE_TEST_SUITE_P(Policies, Start,
                         testing::Values(bus::overflow::block, bus::overflow::drop_oldest),
                         [](const auto& policy) {
                           return std::string(bus::overflow_name(policy.param));
                         });

TEST_P(Start, NewMessagesAreThoseAfterSubscribeReturned) {
  publish(100);
  auto s = subscribe(bus::start::new_messages());
  EXPECT_TRUE(drain(s).empty());
  publish(3);
  EXPECT_EQ(drain_sequences(s), range(101, 103));
}

TEST_P(Start, AllIsWhateverTheRingStillHas) {
  publish(100);
  {
    auto s = subscribe(bus::start::all());
    EXPECT_EQ(drain_sequences(s), range(1, 100));
  }
  publish(5000);
  auto late = subscribe(bus::start::all());
  const auto seen = drain_sequences(late);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen, range(seen.front(), 5100));
  EXPECT_GT(seen.size(), 600u) << "most of the ring; a gated one keeps a quarter for its publisher";
  EXPECT_TRUE(gaps.empty()) << "starting late is no loss";
}

TEST_P(Start, LastIsTheLastThatMatches) {
  publish(10);
  publish(1, "s.b");
  publish(7);
  auto s = subscribe(bus::start::last());
  auto b = subscribe(bus::start::last(), "s.b");
  auto none = subscribe(bus::start::last(), "s.c");
  publish(1, "s.c");
  EXPECT_EQ(drain_sequences(s), range(18, 19));
  EXPECT_EQ(drain_sequences(b), range(11, 11));
  EXPECT_EQ(drain_sequences(none), range(19, 19)) << "without one it starts with what is new";
}

TEST_P(Start, BySequenceBeginsExactlyThere) {
  publish(500);
  for (const std::uint64_t first : {1u, 2u, 250u, 499u, 500u}) {
    auto s = subscribe(bus::start::by_sequence(first));
    EXPECT_EQ(drain_sequences(s), range(first, 500)) << first;
  }
  auto next = subscribe(bus::start::by_sequence(501));
  EXPECT_TRUE(drain(next).empty());
  auto zero = subscribe(bus::start::by_sequence(0));
  EXPECT_EQ(drain_sequences(zero), range(1, 500));
  EXPECT_TRUE(gaps.empty());
}

TEST_P(Start, BySequenceThatIsGoneReportsTheGapFirst) {
  publish(5000);
  auto s = subscribe(bus::start::by_sequence(10));
  const auto seen = drain_sequences(s);
  ASSERT_EQ(gaps.size(), 1u);
  EXPECT_EQ(gaps[0].first, 10u);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(gaps[0].first + gaps[0].count, seen.front());
  EXPECT_EQ(seen, range(seen.front(), 5000));
  EXPECT_EQ(s.stats().lost, gaps[0].count);
}

TEST_P(Start, ByTimeBeginsWithTheFirstStampedThen) {
  publish(300);
  std::this_thread::sleep_for(30ms);
  const auto between = std::chrono::system_clock::now();
  std::this_thread::sleep_for(30ms);
  publish(200);
  auto s = subscribe(bus::start::by_time(between));
  EXPECT_EQ(drain_sequences(s), range(301, 500));
  auto ever = subscribe(bus::start::by_time(between - 1h));
  EXPECT_EQ(drain_sequences(ever), range(1, 500));
  auto later = subscribe(bus::start::by_time(std::chrono::system_clock::now() + 1h));
  EXPECT_TRUE(drain(later).empty());
}

TEST_P(Start, WorksOnAnEmptyStream) {
  for (const auto from :
       {bus::start::new_messages(), bus::start::all(), bus::start::last(),
        bus::start::by_sequence(1), bus::start::by_time(std::chrono::system_clock::now() - 1h)}) {
    auto s = subscribe(from);
    EXPECT_TRUE(drain(s).empty());
  }
  auto s = subscribe(bus::start::last());
  publish(2);
  EXPECT_EQ(drain_sequences(s), range(1, 2));
}

TEST_P(Start, NothingIsMissedWhilePublishersRace) {
  // Every message published after subscribe() returned arrives; earlier ones may or may not.
  std::jthread noise([&](const std::stop_token& stop) {
    auto other = must(session.publisher("s.noise"));
    while (!stop.stop_requested()) {
      send(other, "noise");
      std::this_thread::sleep_for(20us);
    }
  });
  for (int i = 0; i < 200; ++i) {
    auto s = subscribe(bus::start::new_messages(), "s.a");
    const std::uint64_t seq = send(*p, "mark");
    const auto m = s.next(10s);
    ASSERT_TRUE(m) << i;
    ASSERT_EQ(m->sequence(), seq);
  }
}

}  // namespace
