#include <gtest/gtest.h>

#include "ring/lane_box.hpp"

namespace bus::ring {
namespace {

using namespace test;

constexpr std::uint64_t capacity = 64 * 1024;

TEST(HeldPosition, IsTheCursorOfAGatingPin) {
  pin_words pin{};
  sync::store_relaxed(pin.lane_key, 42);
  sync::store_relaxed(pin.cursor, 1000);
  const auto held = [&](std::uint64_t tail) {
    return held_position<hardware>(pin, 42, tail, capacity);
  };
  EXPECT_EQ(held(5000), 5000u) << "a free pin holds nothing";
  sync::store_relaxed(pin.state, pin_watching);
  EXPECT_EQ(held(5000), 5000u) << "nor does one that only watches";
  sync::store_relaxed(pin.state, pin_gating);
  EXPECT_EQ(held(5000), 1000u);
}

TEST(HeldPosition, IgnoresNonsense) {
  pin_words pin{};
  sync::store_relaxed(pin.lane_key, 42);
  sync::store_relaxed(pin.state, pin_gating);
  const auto held = [&](std::uint64_t cursor, std::uint64_t tail, std::uint64_t key = 42) {
    sync::store_relaxed(pin.cursor, cursor);
    return held_position<hardware>(pin, key, tail, capacity);
  };
  EXPECT_EQ(held(5001, 5000), 5000u) << "beyond the tail";
  EXPECT_EQ(held(~0ull, 5000), 5000u);
  EXPECT_EQ(held(0, capacity + 1), capacity + 1) << "below the ring";
  EXPECT_EQ(held(0, capacity), 0u) << "just inside the ring";
  EXPECT_EQ(held(1000, 5000, 43), 5000u) << "of another lane";
}

TEST(Gate, HoldsThePublisherBackUntilTheReaderReleases) {
  lane_box box(false);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  int written = 0;
  const std::string text(100, 'x');
  while (put(box, w, text)) ++written;
  EXPECT_GT(written, 300);
  EXPECT_LE(static_cast<std::uint64_t>(written) * 192, capacity);
  collector sink;
  while (r.poll(64, sink) == poll_outcome::more) {
  }
  EXPECT_EQ(sink.texts.size(), static_cast<std::size_t>(written)) << "nothing was overwritten";
  EXPECT_FALSE(put(box, w, text)) << "read is not yet released";
  r.release();
  EXPECT_TRUE(put(box, w, text));
}

TEST(Gate, WaitsForTheSlowestOfSeveral) {
  lane_box box(false);
  auto w = box.new_writer();
  auto fast = box.new_reader(0), slow = box.new_reader(1);
  ASSERT_TRUE(enter_oldest(fast));
  ASSERT_TRUE(enter_oldest(slow));
  std::size_t written = 0;
  while (put(box, w, std::string(100, 'x'))) ++written;
  read_all(fast);
  fast.release();
  EXPECT_FALSE(put(box, w, "x"));
  EXPECT_EQ(read_all(slow).size(), written);
  slow.release();
  EXPECT_TRUE(put(box, w, "x"));
}

TEST(Gate, IsOpenAfterTheReaderLeft) {
  lane_box box(false);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  while (put(box, w, std::string(100, 'x'))) {
  }
  r.leave();
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(put(box, w, std::string(100, 'x')));
}

TEST(Gate, IgnoresReadersThatDoNotGate) {
  lane_box box(false);
  auto w = box.new_writer();
  auto r = box.new_reader(0, false);
  ASSERT_TRUE(enter_oldest(r));
  EXPECT_TRUE(r.may_be_lapped());
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(put(box, w, std::string(100, 'x')));
  collector sink;
  ASSERT_EQ(r.poll(64, sink), poll_outcome::lapped);
  std::uint64_t first_lost = 0;
  ASSERT_TRUE(r.resume(first_lost));
  EXPECT_EQ(first_lost, 1u);
  const std::uint64_t resumed = r.next_seq();
  EXPECT_EQ(read_all(r).size(), 2000 - resumed + 1);
}

TEST(Gate, NeverLapsAReaderThatEntersAFullRing) {
  lane_box box(false);
  auto w = box.new_writer();
  for (int i = 0; i < 5000; ++i)
    ASSERT_TRUE(put(box, w, std::string(static_cast<std::size_t>(i) % 700, 'x')));
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  const std::uint64_t first = r.next_seq();
  std::uint64_t last = 5000;
  while (put(box, w, "more")) ++last;
  collector sink;
  while (r.poll(64, sink) == poll_outcome::more) {
  }
  ASSERT_EQ(sink.seqs.size(), last - first + 1);
  EXPECT_EQ(sink.seqs.front(), first);
  EXPECT_FALSE(r.lapped());
}

TEST(Gate, TicksOnlyWhenSomethingWasReleased) {
  lane_box box(false);
  auto w = box.new_writer();
  auto r = box.new_reader(0);
  ASSERT_TRUE(enter_oldest(r));
  EXPECT_FALSE(r.has_unticked_release());
  put(box, w, "x");
  read_all(r);
  EXPECT_EQ(r.held_bytes(), 64u);
  r.release();
  EXPECT_EQ(r.held_bytes(), 0u);
  EXPECT_TRUE(r.has_unticked_release());
  EXPECT_FALSE(r.tick()) << "nobody waits";
  EXPECT_FALSE(r.has_unticked_release());
  sync::store_relaxed(box.header().counters.waiting, 1);
  const std::uint64_t before = sync::load_relaxed(box.pins[0].tick);
  EXPECT_TRUE(r.tick()) << "a publisher waits";
  EXPECT_EQ(sync::load_relaxed(box.pins[0].tick), before + 1);
}

}  // namespace
}  // namespace bus::ring
