#include <gtest/gtest.h>

#include <random>

#include "ring/lane_box.hpp"
#include "support/seed.hpp"

namespace bus::ring {
namespace {

using namespace test;
using texts = std::vector<std::string>;

std::string numbered(std::uint64_t i, std::size_t bytes = 20) {
  std::string text = std::to_string(i);
  text.resize(std::max(bytes, text.size()), static_cast<char>('a' + i % 26));
  return text;
}

TEST(LaneReader, ReadsWhatWasWrittenInOrder) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  EXPECT_EQ(read_all(r), texts{});
  put(box, w, "one");
  put(box, w, "");
  put(box, w, std::string(5000, 'x'));
  collector sink;
  EXPECT_EQ(r.poll(64, sink), poll_outcome::empty);
  EXPECT_EQ(sink.texts, (texts{"one", "", std::string(5000, 'x')}));
  EXPECT_EQ(sink.seqs, (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST(LaneReader, StopsAtItsBudgetAndGoesOnThere) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  for (int i = 0; i < 5; ++i) put(box, w, std::to_string(i));
  collector sink;
  EXPECT_EQ(r.poll(3, sink), poll_outcome::more);
  EXPECT_EQ(sink.texts, (texts{"0", "1", "2"}));
  EXPECT_EQ(r.poll(3, sink), poll_outcome::empty);
  EXPECT_EQ(sink.texts.size(), 5u);
}

TEST(LaneReader, SeesNoRecordBeforeItsCommit) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  const auto head = head_of(5);
  ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
  w.write(0, head, 1, "hello");
  EXPECT_EQ(read_all(r), texts{});
  w.commit(head.shape.total_bytes(), 1, 1);
  EXPECT_EQ(read_all(r), texts{"hello"});
}

TEST(LaneReader, SeesABatchWholeOrNotAtAll) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  const texts batch{"a", std::string(200, 'b'), "c", "d"};
  ASSERT_TRUE(put_batch(box, w, batch, false));
  EXPECT_EQ(read_all(r), texts{});
  w.commit(64 + 256 + 64 + 64, 4, 1);
  EXPECT_EQ(read_all(r), batch);
  EXPECT_EQ(w.next_seq(), 5u);
  put(box, w, "after");
  EXPECT_EQ(read_all(r), texts{"after"});
}

TEST(LaneReader, CarriesOriginTicksAndHeaderBytes) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  std::vector<std::byte> area(64, std::byte{7});
  record_head head = head_of(3, 11, 22);
  head.shape.header_bytes = 64;
  head.header = area.data();
  ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
  w.write(0, head, 99, "abc");
  w.commit(head.shape.total_bytes(), 1, 99);
  struct {
    bool seen = false;
    verdict take(const record_view& view) {
      seen = true;
      EXPECT_EQ(view.subject_id(), 11u);
      EXPECT_EQ(view.publisher_id(), 22u);
      EXPECT_EQ(view.ticks, 99u);
      EXPECT_EQ(view.header()[63], std::byte{7});
      EXPECT_EQ(std::memcmp(view.payload(), "abc", 3), 0);
      return verdict::taken;
    }
    void undo() {}
  } sink;
  r.poll(1, sink);
  EXPECT_TRUE(sink.seen);
}

TEST(LaneReader, SkippedRecordsCostNoBudget) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  for (int i = 0; i < 10; ++i) put(box, w, std::to_string(i));
  struct {
    int taken = 0;
    verdict take(const record_view& view) {
      return view.seq % 2 == 0 ? (++taken, verdict::taken) : verdict::skipped;
    }
    void undo() {}
  } sink;
  EXPECT_EQ(r.poll(5, sink), poll_outcome::more);
  EXPECT_EQ(sink.taken, 5);
  EXPECT_EQ(r.next_seq(), 11u);
}

TEST(LaneReader, AFullSinkLeavesTheRecordForLater) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  put(box, w, "kept");
  struct {
    verdict take(const record_view&) { return verdict::full; }
    void undo() { ADD_FAILURE(); }
  } full;
  EXPECT_EQ(r.poll(5, full), poll_outcome::more);
  EXPECT_EQ(r.next_seq(), 1u);
  EXPECT_EQ(read_all(r), texts{"kept"});
}

TEST(LaneReader, ReportsExactLossWhenLapped) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  put(box, w, "first");
  ASSERT_EQ(read_all(r), texts{"first"});
  constexpr std::uint64_t total = 3000;
  for (std::uint64_t i = 2; i <= total; ++i) ASSERT_TRUE(put(box, w, numbered(i, 40)));
  collector sink;
  ASSERT_EQ(r.poll(64, sink), poll_outcome::lapped);
  EXPECT_TRUE(sink.texts.empty());
  std::uint64_t first_lost = 0;
  ASSERT_TRUE(r.resume(first_lost));
  EXPECT_EQ(first_lost, 2u);
  const std::uint64_t resumed = r.next_seq();
  EXPECT_GT(resumed, total - box.memory.capacity_bytes / 128);
  while (r.poll(64, sink) == poll_outcome::more) {
  }
  ASSERT_EQ(sink.seqs.size(), total - resumed + 1);
  for (std::size_t i = 0; i < sink.seqs.size(); ++i) {
    ASSERT_EQ(sink.seqs[i], resumed + i);
    ASSERT_EQ(sink.texts[i], numbered(resumed + i, 40));
  }
}

TEST(LaneReader, NoticesALapAlsoWhereItsOldPlaceStaysSilent) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  put(box, w, "");
  ASSERT_EQ(read_all(r), texts{""});  // waits at 64, inside a larger record from now on
  const std::string zeroes(4000, '\0');
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(put(box, w, zeroes));
  collector sink;
  poll_outcome outcome = poll_outcome::empty;
  for (std::uint32_t looks = 0;
       looks <= reader::lap_check_interval && outcome == poll_outcome::empty; ++looks)
    outcome = r.poll(64, sink);
  EXPECT_EQ(outcome, poll_outcome::lapped);
}

TEST(LaneReader, UndoesTheRecordThatWasOverwrittenWhileItWasCopied) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  put(box, w, "early");
  struct overtaken {
    lane_box& box;
    writer& w;
    int taken = 0, undone = 0;
    verdict take(const record_view&) {
      ++taken;
      // overtaken while this record is copied
      for (int i = 0; i < 40; ++i) put(box, w, std::string(4000, 'x'));
      return verdict::taken;
    }
    void undo() { ++undone; }
  } sink{box, w};
  EXPECT_EQ(r.poll(64, sink), poll_outcome::lapped);
  EXPECT_EQ(sink.taken, 1);
  EXPECT_EQ(sink.undone, 1);
  std::uint64_t first_lost = 0;
  ASSERT_TRUE(r.resume(first_lost));
  EXPECT_EQ(first_lost, 1u);
}

TEST(LaneReader, StopsAtAnUnknownFlagThatItMustUnderstand) {
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  for (const std::uint16_t flag :
       {std::uint16_t{layout::flag_blob}, std::uint16_t{0x8000}, std::uint16_t{0x0300}}) {
    record_head head = head_of(3);
    head.shape.flags = flag;
    ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
    const auto before = w.tail();
    w.write(0, head, 1, "abc");
    w.commit(head.shape.total_bytes(), 1, 1);
    collector sink;
    const auto outcome = r.poll(64, sink);
    if ((flag & layout::flags_may_ignore) != 0) {
      EXPECT_EQ(outcome, poll_outcome::empty);
      EXPECT_EQ(sink.texts, texts{"abc"});
    } else {
      EXPECT_EQ(outcome, poll_outcome::unsupported) << flag;
      EXPECT_TRUE(sink.texts.empty());
      r.set_position(before + 64, r.next_seq() + 1);
    }
  }
}

TEST(LaneReader, CallsImpossibleRecordsCorrupt) {
  for (const layout::record_shape shape :
       {layout::record_shape{0xffffffffu, 0, 0}, layout::record_shape{8193, 0, 0},
        layout::record_shape{1, 33, 0}, layout::record_shape{1, 0xffe0u, 0}}) {
    lane_box box(false);
    auto w = box.new_writer();
    auto r = box.new_reader(0);
    ASSERT_TRUE(enter_oldest(r));
    put(box, w, "x");
    sync::store_relaxed((&box.memory.word_at(0))[1], shape.pack());
    collector sink;
    EXPECT_EQ(r.poll(64, sink), poll_outcome::corrupt)
        << shape.payload_bytes << " " << shape.header_bytes;
    EXPECT_TRUE(sink.texts.empty());
  }
}

TEST(LaneReader, CallsAStrangeCommitWordCorrupt) {
  lane_box box(false);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  put(box, w, "x");
  sync::store_relaxed(box.memory.word_at(0), 77);
  collector sink;
  EXPECT_EQ(r.poll(64, sink), poll_outcome::corrupt);
}

TEST(LaneReader, WrapsAroundWithRecordsOfAllSizes) {
  std::mt19937_64 random(test::seed());
  lane_box box(true);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  for (std::uint64_t i = 1; i <= 20'000; ++i) {
    const std::string text = numbered(i, random() % 8 == 0 ? random() % 8192 : random() % 200);
    ASSERT_TRUE(put(box, w, text));
    ASSERT_EQ(read_all(r), texts{text}) << i;
  }
  EXPECT_GT(w.tail(), 20 * box.memory.capacity_bytes);
}

TEST(LaneReader, DeliversAnOpenRecordOnceAndThenItsCommit) {
  lane_box box(false);
  auto w = box.new_writer();
  auto eager = box.new_reader(0), patient = box.new_reader(1);
  eager.wants_open(true);
  ASSERT_TRUE(enter_oldest(eager));
  ASSERT_TRUE(enter_oldest(patient));
  const auto head = head_of(4000);
  ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
  std::byte* payload = w.write_head(0, head, 1);
  w.show_open(head.shape.total_bytes());
  collector sink, late;
  eager.poll(64, sink);
  ASSERT_EQ(sink.seqs, std::vector<std::uint64_t>{1});
  EXPECT_TRUE(sink.open[0]);
  EXPECT_EQ(eager.poll(64, sink), poll_outcome::empty);
  EXPECT_EQ(patient.poll(64, late), poll_outcome::empty);
  std::memset(payload, 'p', 4000);
  w.commit(head.shape.total_bytes(), 1, 1);
  put(box, w, "next");
  EXPECT_EQ(eager.poll(64, sink), poll_outcome::empty);
  EXPECT_EQ(sink.seqs, (std::vector<std::uint64_t>{1, 2}))
      << "the committed record does not come again";
  patient.poll(64, late);
  EXPECT_EQ(late.texts, (texts{std::string(4000, 'p'), "next"}));
}

TEST(LaneWriter, KeepsTheWordAtItsTailZero) {
  std::mt19937_64 random(test::seed());
  lane_box box(true);
  auto w = box.new_writer();
  std::string junk(8192, '\xff');
  for (int i = 0; i < 20'000; ++i) {
    const std::size_t bytes = random() % 16 == 0 ? random() % 8192 : random() % 300;
    if (random() % 20 == 0) {  // another turn begins: the writer's state passes through memory
      w.store_turn();
      w = box.new_writer();
    }
    if (random() % 50 == 0) {
      // An abandoned loan: bytes above the tail are written and never committed.
      const auto head = head_of(bytes);
      ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
      w.forget_zeroes();
      std::memcpy(w.write_head(0, head, 0), junk.data(), bytes);
      continue;
    }
    ASSERT_TRUE(put(box, w, std::string_view(junk).substr(0, bytes)));
    ASSERT_EQ(sync::load_relaxed(box.memory.word_at(w.tail())), 0u) << i;
  }
}

TEST(LaneWriter, ReservesBeforeItOverwrites) {
  lane_box box(true);
  auto w = box.new_writer();
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(put(box, w, std::string(static_cast<std::size_t>(i) % 1000, 'x')));
    ASSERT_GE(sync::load_relaxed(box.header().limits.reserved_end),
              w.tail() + layout::record_align);
  }
}

TEST(LaneWriter, HandsItsTurnOnToTheNext) {
  lane_box box(true);
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  texts sent;
  for (int turn = 0; turn < 300; ++turn) {
    auto w = box.new_writer();
    EXPECT_EQ(w.next_seq(), static_cast<std::uint64_t>(turn) + 1);
    sent.push_back(numbered(static_cast<std::uint64_t>(turn), 100));
    ASSERT_TRUE(put(box, w, sent.back()));
    w.store_turn();
    ASSERT_EQ(read_all(r), texts{sent.back()});
  }
}

}  // namespace
}  // namespace bus::ring
