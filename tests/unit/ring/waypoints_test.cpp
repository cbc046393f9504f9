#include <gtest/gtest.h>

#include "ring/lane_box.hpp"

namespace bus::ring {
namespace {

using namespace test;

class Waypoints : public testing::Test {
 protected:
  // `count` records of 128 bytes; ticks are ten times the sequence.
  void publish(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t seq = w.next_seq();
      positions.push_back(w.tail());
      ASSERT_TRUE(put(box, w, std::string(80, 'x'), seq * 10));
    }
  }
  lane_box box{true};
  writer w = box.new_writer();
  std::vector<std::uint64_t> positions;
};

TEST_F(Waypoints, PointAtTheFirstRecordOfEachBlock) {
  publish(400);
  for (std::uint64_t i = 0; i < layout::waypoint_count; ++i) {
    const entry_point entry = read_waypoint<hardware>(box.memory, i);
    const std::uint64_t first = i * box.memory.block_bytes();
    if (first >= w.tail()) {
      EXPECT_FALSE(entry.found()) << i;
      continue;
    }
    ASSERT_TRUE(entry.found()) << i;
    EXPECT_EQ(entry.position, first);
    EXPECT_EQ(positions.at(entry.seq - 1), entry.position);
    EXPECT_TRUE(entry.time_ticks == entry.seq * 10 || i == 0);
  }
}

TEST_F(Waypoints, SpanTwoLapsAndThenGoRound) {
  publish(5000);
  const entry_point newest = newest_waypoint<hardware>(box.memory);
  EXPECT_LT(w.tail() - newest.position, box.memory.block_bytes() + 128);
  const entry_point oldest = oldest_waypoint<hardware>(box.memory, 0);
  EXPECT_GE(oldest.position + 2 * box.memory.capacity_bytes, w.tail());
  EXPECT_LE(oldest.position + box.memory.capacity_bytes, w.tail());
  EXPECT_EQ(positions.at(oldest.seq - 1), oldest.position);
}

TEST_F(Waypoints, AreChosenByPosition) {
  publish(400);
  EXPECT_EQ(oldest_waypoint<hardware>(box.memory, 5000).position, 5 * 1024u);
  EXPECT_EQ(oldest_waypoint<hardware>(box.memory, 5 * 1024).position, 5 * 1024u);
  EXPECT_FALSE(oldest_waypoint<hardware>(box.memory, 1ull << 40).found());
}

TEST_F(Waypoints, AreChosenBySequenceAndByTime) {
  publish(400);
  const auto by_seq = [&](std::uint64_t seq, std::uint64_t from = 0) {
    return last_waypoint_before<hardware>(box.memory, from,
                                          [&](const auto& e) { return e.seq <= seq; });
  };
  EXPECT_EQ(by_seq(1).seq, 1u);
  EXPECT_EQ(by_seq(100).seq, 97u) << "blocks hold eight records each";
  EXPECT_EQ(by_seq(97).seq, 97u);
  EXPECT_EQ(by_seq(96).seq, 89u);
  EXPECT_EQ(by_seq(10'000).seq, 393u);
  EXPECT_EQ(by_seq(3, 20 * 1024).position, 20 * 1024u) << "none so old: the oldest allowed";
  const auto by_time = last_waypoint_before<hardware>(
      box.memory, 0, [](const auto& e) { return e.time_ticks < 1000; });
  EXPECT_EQ(by_time.seq, 97u);
}

TEST_F(Waypoints, CarryTheHighestTimeSoFar) {
  // the first waypoint of a new lane has no time, so the next block must begin
  while (w.tail() < box.memory.block_bytes()) ASSERT_TRUE(put(box, w, "x", 1));
  ASSERT_TRUE(put(box, w, "x", 5000));
  publish(20);  // stamps far below
  EXPECT_EQ(newest_waypoint<hardware>(box.memory).time_ticks, 5000u);
}

TEST_F(Waypoints, ThatAreHalfWrittenOrNonsenseAreNotFound) {
  publish(100);
  auto& point = box.header().waypoints[3];
  const std::uint64_t position = sync::load_relaxed(point.position);
  ASSERT_TRUE(read_waypoint<hardware>(box.memory, 3).found());
  for (const std::uint64_t bad :
       {layout::no_waypoint, position + 1, position + 1024, std::uint64_t{0}}) {
    sync::store_relaxed(point.position, bad);
    EXPECT_FALSE(read_waypoint<hardware>(box.memory, 3).found()) << bad;
  }
  sync::store_relaxed(point.position, position);
  sync::store_relaxed(point.seq, 0);
  EXPECT_FALSE(read_waypoint<hardware>(box.memory, 3).found());
}

TEST_F(Waypoints, LeadAReaderToEveryRecordFromThereOn) {
  publish(3000);
  for (std::uint64_t back : {1u, 7u, 8u, 100u, 300u}) {
    const std::uint64_t wanted = 3000 - back;
    auto r = box.new_reader(0);
    ASSERT_TRUE(r.enter([&](std::uint64_t lowest) {
      return last_waypoint_before<hardware>(box.memory, lowest,
                                            [&](const auto& e) { return e.seq <= wanted; });
    }));
    r.walk([&](const record_view& view) { return view.seq >= wanted; });
    EXPECT_EQ(r.next_seq(), wanted);
    EXPECT_EQ(read_all(r).size(), back + 1);
  }
}

TEST_F(Waypoints, NeverTakeAReaderBack) {
  publish(100);
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_newest(r));
  const std::uint64_t seq = r.next_seq();
  EXPECT_FALSE(enter_oldest(r));
  EXPECT_EQ(r.next_seq(), seq);
}

TEST_F(Waypoints, FarApartForLargeRecordsStillLeadToAll) {
  std::uint64_t last = 0;
  for (int i = 0; i < 100; ++i, ++last) ASSERT_TRUE(put(box, w, std::string(8000, 'y')));
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  const std::uint64_t first = r.next_seq();
  EXPECT_GT(first, 90u);
  EXPECT_EQ(read_all(r).size(), last - first + 1);
}

}  // namespace
}  // namespace bus::ring
