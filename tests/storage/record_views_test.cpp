/// record_views: a record that a reader returned never changes, whatever the reader does next. A
/// subscriber that takes messages in batches holds many records of one reader. Meanwhile the
/// reader refills its buffer, opens another segment, searches for the end of damage, or rereads a
/// half-written frame.

#include <gtest/gtest.h>

#include "log_box.hpp"
#include "simulated_disk.hpp"

namespace bus {
namespace {

using namespace test;

constexpr std::size_t frame_bytes = 256 * 1024;
const std::string directory = "log";

struct written_log {
  simulated_disk disk;
  storage::frame_memory memory{frame_bytes};
  std::unique_ptr<storage::lane_log> log;

  explicit written_log(std::uint64_t segment_bytes) {
    storage::log_options options;
    options.segment_bytes = segment_bytes;
    options.largest_frame_bytes = frame_bytes;
    log = std::move(*storage::lane_log::create(disk, directory, {1, 1, 0}, 1u << 30, options));
  }
  void write(std::uint32_t frames, std::uint32_t records, std::size_t bytes) {
    for (std::uint32_t i = 0; i < frames; ++i)
      ASSERT_EQ(commit(*log, disk, memory, records, bytes), 0);
  }
};

/// Reads to the end and keeps every record.
std::vector<log::logged_record> keep_all(log::history& history, std::uint64_t limit,
                                         std::uint64_t& missing) {
  std::vector<log::logged_record> kept;
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, limit);
    if (outcome == log::walk_outcome::gap) missing += history.loss().count;
    if (outcome == log::walk_outcome::record) kept.push_back(record);
    if (outcome >= log::walk_outcome::end) return kept;
  }
}

TEST(RecordViews, OutliveTheBufferAndTheSegment) {
  written_log one(2 << 20);
  one.write(40, 60, 3000);  // 7 MB in several segments, more than a buffer holds
  log::history history(one.disk, directory);
  ASSERT_EQ(history.open(), 0);
  history.seek(1);
  std::uint64_t missing = 0;
  const auto kept = keep_all(history, ~0ull, missing);
  ASSERT_EQ(kept.size(), 40u * 60);
  ASSERT_GT(history.bases().size(), 2u);
  EXPECT_EQ(missing, 0u);
  for (const auto& record : kept) ASSERT_TRUE(is_intact(record)) << record.seq;
}

// The search for the end of damage reads far ahead, through the same buffer.
TEST(RecordViews, OfIntactNeighboursStayWhatTheyWereBesideDamage) {
  written_log one(8 << 20);
  one.write(30, 60, 3000);
  log::history look(one.disk, directory);
  ASSERT_EQ(look.open(), 0);
  const std::string path = log::segment_path(directory, look.bases().front());
  const std::uint64_t step = layout::record_shape{3000, 0, 0}.total_bytes();
  for (std::uint64_t damaged = 7; damaged < 300; damaged += 13) {
    auto disk = one.disk.clone();
    const std::uint64_t frame = (damaged - 1) / 60;
    const std::uint64_t frame_total = base::round_up(sizeof(layout::log_frame) + 60 * step, 512);
    const std::uint64_t at = layout::log_header_bytes + frame * frame_total +
                             sizeof(layout::log_frame) + (damaged - 1 - frame * 60) * step + 700;
    const std::byte changed = disk->contents(path).at(at) ^ std::byte{4};
    disk->overwrite(path, {&changed, 1}, at);
    log::history history(*disk, directory);
    ASSERT_EQ(history.open(), 0);
    history.seek(1);
    std::uint64_t missing = 0;
    const auto kept = keep_all(history, ~0ull, missing);
    EXPECT_EQ(kept.size(), 1799u) << damaged;
    EXPECT_EQ(missing, 1u) << damaged;
    for (const auto& record : kept)
      ASSERT_TRUE(is_intact(record) && record.seq != damaged) << record.seq;
  }
}

// Bytes read ahead beyond the limit may be half written. They are read again once the limit has
// passed them, even if it rose several times meanwhile.
TEST(RecordViews, NothingIsBelievedThatWasReadBeforeItWasWritten) {
  written_log one(4 << 20);
  one.write(2, 20, 900);
  log::history history(one.disk, directory);
  ASSERT_EQ(history.open(), 0);
  history.seek(1);
  // A write that is half done.
  const std::vector<std::byte> half_written(64 * 1024, std::byte{0x5a});
  const std::uint64_t end =
      layout::log_header_bytes +
      2 * base::round_up(
              sizeof(layout::log_frame) + 20 * layout::record_shape{900, 0, 0}.total_bytes(), 512);
  one.disk.overwrite(log::segment_path(directory, 1), half_written, end);
  log::logged_record record;
  std::uint64_t next = 1;
  const auto read_upto = [&](std::uint64_t last, std::uint64_t limit) {
    for (; next <= last; ++next) {
      ASSERT_EQ(history.next(record, limit), log::walk_outcome::record) << next;
      ASSERT_EQ(record.seq, next);
      ASSERT_TRUE(is_intact(record));
    }
  };
  read_upto(10, 40);  // the buffer also holds the half-written part
  one.write(3, 20, 900);
  read_upto(20, 60);    // still from the old buffer; the limit rises meanwhile
  read_upto(100, 100);  // and passes the end of the buffer
  EXPECT_TRUE(history.take_damages().empty()) << "what was half written is not damage";
}

}  // namespace
}  // namespace bus
