// What a publisher leaves when it dies, at each point, and that the next one resumes from there.

#include <gtest/gtest.h>

#include "ring/lane_box.hpp"

namespace bus::ring {
namespace {

using namespace test;
using texts = std::vector<std::string>;

class Repair : public testing::TestWithParam<bool> {
 protected:
  Repair() { EXPECT_TRUE(enter_oldest(r)); }

  // The dead writer's state is lost: the next one recovers it from what readers can see.
  void take_over() {
    w = writer(box.memory);
    w.load_turn();
    w.repair();
  }
  void publish(const std::string& text) { ASSERT_TRUE(put(box, w, text)); }
  texts read() { return read_all(r); }

  lane_box box{GetParam()};
  writer w = box.new_writer();
  reader r = box.new_reader(0);
};

INSTANTIATE_TEST_SUITE_P(Policies, Repair, testing::Bool(),
                         [](const auto& policy) { return policy.param ? "Overwriting" : "Gated"; });

TEST_P(Repair, OfAnEmptyLaneStartsAtTheBeginning) {
  take_over();
  EXPECT_EQ(w.tail(), 0u);
  EXPECT_EQ(w.next_seq(), 1u);
  publish("a");
  EXPECT_EQ(read(), texts{"a"});
}

TEST_P(Repair, FindsRecordsWhoseTurnWasNotStored) {
  publish("a");
  w.store_turn();
  for (int i = 0; i < 100; ++i) publish(std::string(100, 'b'));
  const std::uint64_t tail = w.tail();
  take_over();
  EXPECT_EQ(w.tail(), tail);
  EXPECT_EQ(w.next_seq(), 102u);
  publish("c");
  const texts all = read();
  ASSERT_EQ(all.size(), 102u);
  EXPECT_EQ(all.back(), "c");
  EXPECT_EQ(sync::load_relaxed(box.header().counters.repaired), 1u);
}

TEST_P(Repair, DropsARecordThatWasNotCommitted) {
  publish("a");
  const auto head = head_of(4000);
  ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
  w.write(0, head, 1, std::string(4000, '\xff').data());
  take_over();
  EXPECT_EQ(w.next_seq(), 2u);
  publish("b");
  EXPECT_EQ(read(), (texts{"a", "b"}))
      << "the payload of the dead record is not taken for a record";
}

TEST_P(Repair, DropsAnUnfinishedBatchWhole) {
  publish("a");
  // all members are marked, the first record is not committed
  ASSERT_TRUE(put_batch(box, w, {"x1", "x2", "x3", "x4"}, false));
  take_over();
  EXPECT_EQ(w.next_seq(), 2u);
  EXPECT_EQ(read(), texts{"a"});
  // The new record ends where a member of the batch lies, whose sequence is the one expected
  // there.
  publish("b");
  EXPECT_EQ(read(), texts{"b"});
  publish("c");
  EXPECT_EQ(read(), texts{"c"});
}

TEST_P(Repair, WritesTheWaypointThatIsMissing) {
  while (w.tail() < 3 * box.memory.block_bytes()) publish(std::string(80, 'x'));
  const std::uint64_t block_start = w.tail();
  publish("first of its block");
  auto& point = box.memory.waypoint_of(block_start);
  ASSERT_EQ(sync::load_relaxed(point.position), block_start);
  sync::store_relaxed(point.position, layout::no_waypoint);  // died between commit and waypoint
  take_over();
  EXPECT_EQ(sync::load_relaxed(point.position), block_start);
  EXPECT_EQ(w.tail(), block_start + 64);
}

TEST_P(Repair, WalksFromAnOlderWaypointWhenTheNewestIsTorn) {
  for (int i = 0; i < 60; ++i) publish(std::string(80, 'x'));
  const std::uint64_t tail = w.tail();
  sync::store_relaxed(
      box.memory.waypoint_of(newest_waypoint<hardware>(box.memory).position).position,
      layout::no_waypoint);
  sync::store_relaxed(
      box.memory.waypoint_of(newest_waypoint<hardware>(box.memory).position).position,
      layout::no_waypoint);
  take_over();
  EXPECT_EQ(w.tail(), tail);
  EXPECT_EQ(w.next_seq(), 61u);
}

TEST_P(Repair, WorksAfterManyLapsAndAgain) {
  std::uint64_t seq = 0;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 40; ++i, ++seq)
      publish(std::string(static_cast<std::size_t>(seq * 37 % 900), 'x'));
    const auto head = head_of(100);
    ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
    w.write(0, head, 1, std::string(100, '\xff').data());
    take_over();
    ASSERT_EQ(w.next_seq(), seq + 1);
    ASSERT_EQ(read().size(), 40u) << "nothing lost, nothing twice";
    r.release();
  }
}

TEST_P(Repair, KeepsReadersLapCheckRight) {
  for (int i = 0; i < 100; ++i) publish("x");
  const std::uint64_t reserved = sync::load_relaxed(box.header().limits.reserved_end);
  take_over();
  EXPECT_GE(sync::load_relaxed(box.header().limits.reserved_end), reserved)
      << "what was reserved may have been torn";
}

TEST(RepairOfAGate, ForgetsTheCandidateOfADeadWriter) {
  lane_box box{false};
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  ASSERT_TRUE(put(box, w, "a"));
  // died before it checked the readers
  sync::store_relaxed(box.header().limits.gate_limit, 1ull << 30);
  w = writer(box.memory);
  w.load_turn();
  w.repair();
  int written = 1;
  while (put(box, w, std::string(100, 'x'))) ++written;
  EXPECT_EQ(read_all(r).size(), static_cast<std::size_t>(written))
      << "the reader's pin was respected";
}

class OpenRecord : public testing::Test {
 protected:
  lane_box box{false};
  writer w = box.new_writer();
  reader eager = box.new_reader(0), patient = box.new_reader(1);

  OpenRecord() {
    eager.wants_open(true);
    EXPECT_TRUE(enter_oldest(eager));
    EXPECT_TRUE(enter_oldest(patient));
    put(box, w, "before");
    const auto head = head_of(4000);
    EXPECT_TRUE(box.reserve(w, head.shape.total_bytes()));
    std::memset(w.write_head(0, head, 1), 'o', 2000);
    w.show_open(head.shape.total_bytes());
  }
  void take_over() {
    w = writer(box.memory);
    w.load_turn();
    w.repair();
  }
};

TEST_F(OpenRecord, OfADeadWriterIsReportedAbortedToThoseWhoSawIt) {
  collector sink;
  eager.poll(64, sink);
  ASSERT_EQ(sink.seqs, (std::vector<std::uint64_t>{1, 2}));
  take_over();
  EXPECT_EQ(sync::load_relaxed(box.header().counters.aborted), 1u);
  EXPECT_EQ(eager.poll(64, sink), poll_outcome::aborted);
  put(box, w, "after");
  EXPECT_EQ(eager.poll(64, sink), poll_outcome::empty);
  EXPECT_EQ(sink.texts.back(), "after");
  EXPECT_EQ(sink.seqs.back(), 2u) << "the sequence goes to the next record";
}

TEST_F(OpenRecord, OfADeadWriterIsSkippedByTheOthers) {
  take_over();
  put(box, w, "after");
  collector sink;
  while (patient.poll(64, sink) == poll_outcome::more) {
  }
  EXPECT_EQ(sink.texts, (texts{"before", "after"}));
  EXPECT_EQ(sink.seqs, (std::vector<std::uint64_t>{1, 2}));
}

TEST_F(OpenRecord, ThatWasAbortedIsSkippedByALaterRepair) {
  take_over();
  put(box, w, "after");
  const std::uint64_t tail = w.tail(), seq = w.next_seq();
  take_over();
  EXPECT_EQ(w.tail(), tail);
  EXPECT_EQ(w.next_seq(), seq);
  EXPECT_EQ(sync::load_relaxed(box.header().counters.aborted), 1u);
}

}  // namespace
}  // namespace bus::ring
