#include <gtest/gtest.h>

#include <cstddef>

#include "layout/bus_files.hpp"
#include "layout/lane.hpp"
#include "layout/process.hpp"
#include "layout/validate.hpp"
#include "ring/lane_memory.hpp"
#include "ring/pin.hpp"

namespace bus::layout {
namespace {

// The numbers of docs/format/ring.md, version 1. A change here is a change of the format.
TEST(Layout, IsTheOneOfVersionOne) {
  EXPECT_EQ(layout_major, 1);
  EXPECT_EQ(sizeof(segment_header), 64u);
  EXPECT_EQ(offsetof(lane_header, limits.reserved_end), 128u);
  EXPECT_EQ(offsetof(lane_header, limits.gate_limit), 136u);
  EXPECT_EQ(offsetof(lane_header, turn.lock), 256u);
  EXPECT_EQ(offsetof(lane_header, turn.lease), 264u);
  EXPECT_EQ(offsetof(lane_header, turn.tail), 272u);
  EXPECT_EQ(offsetof(lane_header, turn.next_seq), 280u);
  EXPECT_EQ(offsetof(lane_header, counters.waiting), 384u);
  EXPECT_EQ(offsetof(lane_header, counters.closed), 432u);
  EXPECT_EQ(offsetof(lane_header, waypoints), 4096u);
  EXPECT_EQ(lane_data_offset, 65536u);
  EXPECT_EQ(offsetof(control_header, generation), 128u);
  EXPECT_EQ(offsetof(control_header, next_process_id), 256u);
  EXPECT_EQ(offsetof(subjects_header, lock), 128u);
  EXPECT_EQ(offsetof(subjects_header, used_bytes), 256u);
  EXPECT_EQ(offsetof(readers_header, armed), 128u);
  EXPECT_EQ(offsetof(process_header, identity), 64u);
  EXPECT_EQ(offsetof(process_header, life), 256u);
  EXPECT_EQ(sizeof(slot), 256u);
  EXPECT_EQ(process_file_bytes(2), 4096u + 512u);
}

TEST(Layout, LanesMeetTheirControlLinesInPairs) {
  for (const std::size_t offset :
       {offsetof(lane_header, limits), offsetof(lane_header, turn), offsetof(lane_header, counters),
        offsetof(lane_header, durability)})
    EXPECT_EQ(offset % 128, 0u);
  EXPECT_EQ(sizeof(ring::pin_words), 64u);
}

TEST(Layout, AReaderEntryIsNeverTheFreeOne) {
  EXPECT_EQ(pack_reader(1, 0), 1ull << 32 | 1);
  EXPECT_NE(pack_reader(0, 0), 0u);
}

TEST(LaneMemory, FindsTheWaypointOfEveryBlockOfTwoLaps) {
  auto header = std::make_unique<lane_header>();
  ring::lane_memory lane;
  lane.header = header.get();
  lane.capacity_bytes = 64 * 1024;
  EXPECT_EQ(lane.block_bytes(), 1024u);
  EXPECT_EQ(&lane.waypoint_of(0), &header->waypoints[0]);
  EXPECT_EQ(&lane.waypoint_of(1023), &header->waypoints[0]);
  EXPECT_EQ(&lane.waypoint_of(1024), &header->waypoints[1]);
  EXPECT_EQ(&lane.waypoint_of(2 * 64 * 1024 - 1), &header->waypoints[127]);
  EXPECT_EQ(&lane.waypoint_of(2 * 64 * 1024), &header->waypoints[0]);
}

class CheckHeader : public testing::Test {
 protected:
  segment_header header = make_header(segment_kind::lane, 8192, 131072, 5, 6, 7);
  result<void> check() const {
    return check_header(header, segment_kind::lane, 131072, "/bus/lane-0");
  }
};

TEST_F(CheckHeader, TakesWhatItMade) {
  EXPECT_TRUE(check());
  EXPECT_EQ(header.bus_id, 5u);
  EXPECT_EQ(header.owner_id, 6u);
  EXPECT_EQ(header.created_ns, 7u);
}

TEST_F(CheckHeader, TakesAHigherMinorVersion) {
  header.minor = 99;
  EXPECT_TRUE(check());
}

TEST_F(CheckHeader, CallsAStrangeFileCorruptAndNamesIt) {
  header.magic ^= 1;
  const auto answer = check();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::corrupt);
  EXPECT_NE(answer.error().message().find("/bus/lane-0"), std::string::npos);
}

TEST_F(CheckHeader, NamesBothVersionsOfAnotherMajor) {
  header.major = 7;
  header.minor = 3;
  const auto answer = check();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::unsupported);
  EXPECT_NE(answer.error().why.find("7.3"), std::string::npos);
  EXPECT_NE(answer.error().why.find("1.0"), std::string::npos);
}

TEST_F(CheckHeader, RefusesAnotherArchitecture) {
  header.abi ^= 0x300;
  EXPECT_EQ(check().error().code, errc::unsupported);
}

TEST_F(CheckHeader, RefusesAnotherKindAndAnotherSize) {
  header.kind = segment_kind::process;
  EXPECT_EQ(check().error().code, errc::corrupt);
  header = make_header(segment_kind::lane, 8192, 131072 + 4096, 5, 6, 7);
  const auto answer = check();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::corrupt);
  EXPECT_NE(answer.error().why.find("131072"), std::string::npos);
}

}  // namespace
}  // namespace bus::layout
