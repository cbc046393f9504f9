#include "storage/lane_log.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "base/crc32c.hpp"
#include "log/posix_disk.hpp"
#include "log_box.hpp"
#include "log_life.hpp"
#include "os/files.hpp"
#include "storage/uring_disk.hpp"

namespace bus {
namespace {

using namespace test;

class LaneLog : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "bus-log-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    if (std::string(GetParam()) == "io_uring") {
      auto made = storage::uring_disk::make();
      if (!made) GTEST_SKIP() << made.error().message();
      disk_ = std::move(*made);
    } else {
      disk_ = std::make_unique<log::posix_disk>();
    }
    options_.segment_bytes = 256 * 1024;
    options_.largest_frame_bytes = 64 * 1024;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::string lane() const { return root_ + "/lane-0"; }
  std::unique_ptr<storage::lane_log> create() {
    auto made = storage::lane_log::create(*disk_, lane(), {7, 1, 0}, 1000, options_);
    EXPECT_TRUE(made) << (made ? "" : made.error().message());
    return made ? std::move(*made) : nullptr;
  }
  std::unique_ptr<storage::lane_log> reopen() {
    report_ = {};
    auto made = storage::lane_log::open(*disk_, lane(), {7, 1, 0}, options_, report_);
    EXPECT_TRUE(made) << (made ? "" : made.error().message());
    return made ? std::move(*made) : nullptr;
  }
  std::vector<std::uint64_t> numbers(std::uint64_t first, std::uint64_t last) const {
    std::vector<std::uint64_t> all(last + 1 - first);
    std::iota(all.begin(), all.end(), first);
    return all;
  }

  std::string root_;
  std::unique_ptr<log::disk> disk_;
  storage::log_options options_;
  storage::recovery_report report_;
  storage::frame_memory memory_{64 * 1024};
};

TEST_P(LaneLog, GivesBackWhatWasWrittenOverManySegments) {
  auto log = create();
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < 400; ++i) {
    const auto records = static_cast<std::uint32_t>(1 + i % 5);
    ASSERT_EQ(commit(*log, *disk_, memory_, records, i * 13 % 3000), 0);
    count += records;
  }
  EXPECT_GT(log->segments(), 3u);
  EXPECT_EQ(log->durable_seq(), count);
  const auto back = read_all_records(*disk_, lane());
  EXPECT_EQ(back.seqs, numbers(1, count));
  EXPECT_TRUE(back.all_intact);
  EXPECT_TRUE(back.losses.empty());
  const auto middle = read_all_records(*disk_, lane(), count / 2);
  EXPECT_EQ(middle.seqs, numbers(count / 2, count));
}

TEST_P(LaneLog, GoesOnInTheSameSegmentAfterACleanStop) {
  auto log = create();
  ASSERT_EQ(commit(*log, *disk_, memory_, 10, 100), 0);
  ASSERT_TRUE(log->close());
  log = reopen();
  EXPECT_EQ(log->next_seq(), 11u);
  EXPECT_EQ(log->durable_seq(), 10u);
  EXPECT_EQ(log->segments(), 1u);
  EXPECT_EQ(report_.rewritten, 0u);
  EXPECT_TRUE(report_.damages.empty());
  ASSERT_EQ(commit(*log, *disk_, memory_, 10, 100), 0);
  EXPECT_EQ(read_all_records(*disk_, lane()).seqs, numbers(1, 20));
}

TEST_P(LaneLog, WritesAnewWhatItDoesNotKnowToBeDurable) {
  auto log = create();
  ASSERT_EQ(commit(*log, *disk_, memory_, 10, 100), 0);
  ASSERT_EQ(commit(*log, *disk_, memory_, 5, 100, false), 0);
  EXPECT_EQ(log->durable_seq(), 10u);
  log.reset();
  log = reopen();
  // The second frame records that 10 are durable.
  EXPECT_EQ(report_.rewritten, 5u);
  EXPECT_EQ(log->durable_seq(), 15u);
  EXPECT_EQ(log->segments(), 2u);
  ASSERT_EQ(commit(*log, *disk_, memory_, 10, 100), 0);
  const auto back = read_all_records(*disk_, lane());
  EXPECT_EQ(back.seqs, numbers(1, 25));
  EXPECT_TRUE(back.all_intact);
}

TEST_P(LaneLog, GoesOnAboveTheHighWaterWhenMemoryWasLost) {
  auto log = create();
  ASSERT_EQ(commit(*log, *disk_, memory_, 10, 100), 0);
  ASSERT_TRUE(log->close());
  log = reopen();
  ASSERT_TRUE(log->begin_epoch(2));
  EXPECT_EQ(log->next_seq(), 1001u);
  ASSERT_TRUE(log->raise_high_water(1001, 1000));
  ASSERT_EQ(commit(*log, *disk_, memory_, 3, 100), 0);
  log.reset();
  log = reopen();
  EXPECT_EQ(log->epoch(), 2u);
  EXPECT_EQ(log->next_seq(), 1004u);
  const auto back = read_all_records(*disk_, lane());
  ASSERT_EQ(back.losses.size(), 1u);
  EXPECT_EQ(back.losses[0].first, 11u);
  EXPECT_EQ(back.losses[0].count, 990u);
  EXPECT_EQ(back.losses[0].reason, layout::log_gap::unsynced);
}

// An orderly stop causes no loss, unless something was published after it.
TEST_P(LaneLog, GoesOnWhereItEndedWhenMemoryWasLostAfterAStopInOrder) {
  options_.ring_messages = 64;
  for (const std::uint64_t beyond : {0, 5}) {
    for (const bool was_reopened : {false, true}) {
      std::filesystem::remove_all(lane());
      auto log = create();
      ASSERT_EQ(commit(*log, *disk_, memory_, 10, 100), 0);
      ASSERT_TRUE(log->close(beyond));
      log.reset();
      if (was_reopened) {
        ASSERT_TRUE(os::leave_mark(lane(), std::string(log::reopened_name)));
      }
      const std::uint64_t given_out = 10 + beyond + (was_reopened ? 64 : 0);
      const auto seen = storage::lane_log::look(*disk_, lane(), {7, 1, 0});
      ASSERT_TRUE(seen);
      EXPECT_EQ(seen->next_epoch_seq, given_out + 1);
      log = reopen();
      EXPECT_EQ(log->next_seq(), 11u);
      ASSERT_TRUE(log->begin_epoch(2));
      EXPECT_EQ(log->next_seq(), given_out + 1);
      EXPECT_EQ(log->skipped(), given_out - 10);
      ASSERT_TRUE(log->raise_high_water(2000, 0));
      ASSERT_EQ(commit(*log, *disk_, memory_, 3, 100), 0);
      log.reset();
      // The high water was exact and is so no longer.
      log = reopen();
      EXPECT_EQ(log->high_water(), 2000u);
      const auto back = read_all_records(*disk_, lane());
      EXPECT_EQ(back.seqs.size(), 13u);
      EXPECT_EQ(back.losses.size(), given_out == 10 ? 0u : 1u);
    }
  }
}

// Without such a stop, at most two rings of messages can be missing if every frame is synced.
TEST_P(LaneLog, ALossWithSharedMemoryIsNoMoreThanTwoRingsCanHold) {
  options_.ring_messages = 64;
  options_.syncs_each = true;
  auto log = create();
  ASSERT_EQ(commit(*log, *disk_, memory_, 10, 100), 0);
  log.reset();
  log = reopen();
  ASSERT_TRUE(log->begin_epoch(2));
  EXPECT_EQ(log->next_seq(), 10 + 2 * 64 + 1u);
  // An epoch that begins higher: its ring was made while the log could not be opened.
  ASSERT_TRUE(log->begin_epoch(3, 500));
  EXPECT_EQ(log->next_seq(), 500u);
}

TEST_P(LaneLog, RemovesOldSegmentsByCountAndSaysWhatIsGone) {
  auto log = create();
  for (int i = 0; i < 200; ++i) ASSERT_EQ(commit(*log, *disk_, memory_, 10, 1000), 0);
  const auto before = log->segments();
  EXPECT_GT(log->retain({0, 0, 500}), 0u);
  EXPECT_LT(log->segments(), before);
  EXPECT_LE(log->first_seq(), 1501u);
  const auto back = read_all_records(*disk_, lane());
  EXPECT_EQ(back.seqs, numbers(log->first_seq(), 2000));
  ASSERT_EQ(back.losses.size(), 1u);
  EXPECT_EQ(back.losses[0].reason, layout::log_gap::removed);
}

TEST_P(LaneLog, FindsTheFirstRecordOfATime) {
  auto log = create();
  for (int i = 0; i < 300; ++i) ASSERT_EQ(commit(*log, *disk_, memory_, 10, 900), 0);
  for (const std::uint64_t seq : {1u, 2u, 777u, 1500u, 2999u, 3000u}) {
    log::history history(*disk_, lane());
    ASSERT_EQ(history.open(), 0);
    ASSERT_EQ(history.seek_time(time_of(seq)), 0);
    log::logged_record record;
    do {
      ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
    } while (record.time_ns < time_of(seq));
    EXPECT_EQ(record.seq, seq);
  }
}

constexpr std::uint64_t second_ns = 1'000'000'000, hour_ns = 3600 * second_ns,
                        year_ns = 365 * 24 * hour_ns;

/// The clocks of one machine: time passes, the machine boots, the wall clock is set.
struct clocks {
  os::machine_time now{1, 100 * second_ns, time_of(0)};
  std::uint64_t stamp_ns = time_of(0);  // what publishers write
  void pass(std::uint64_t ns) {
    now.boot_ns += ns, stamp_ns += ns, now.wall_ns += now.wall_ns != 0 ? ns : 0;
  }
  void set(std::int64_t by) {
    const auto ns = static_cast<std::uint64_t>(by);
    stamp_ns += ns, now.wall_ns += ns;
  }
  void boot(std::uint64_t off_ns) {
    ++now.boot;
    now.boot_ns = second_ns;
    stamp_ns += off_ns, now.wall_ns += now.wall_ns != 0 ? off_ns : 0;
  }
};

int commit_stamped(storage::lane_log& log, log::disk& disk, const storage::frame_memory& memory,
                   std::uint64_t ns, std::uint32_t count = 10, std::size_t bytes = 900) {
  log::frame_builder frame(memory.bytes(), log.log_id(), log.align());
  frame.begin(log.next_seq());
  const std::vector<std::byte> payload(bytes);
  for (std::uint32_t i = 0; i < count; ++i)
    frame.add({static_cast<std::uint32_t>(bytes), 0, 0}, layout::pack_origin(1, 1), ns,
              [&](std::byte* to) { std::memcpy(to, payload.data(), bytes); });
  if (!log.begin(frame, true, 1, -1)) return -1;
  log::disk_completion done;
  while (disk.reap({&done, 1}, 1'000'000'000) == 0) {
  }
  return log.finished(done.failure);
}

TEST_P(LaneLog, AgeIsWhatHasPassedAndNotWhatAnyClockWasSetTo) {
  clocks c;
  options_.time = [&] { return c.now; };
  auto log = create();
  const auto fill = [&] {
    for (const auto before = log->segments(); log->segments() < before + 3;)
      ASSERT_EQ(commit_stamped(*log, *disk_, memory_, c.stamp_ns), 0);
  };
  const storage::retention_limits limits{hour_ns, 0, 0};
  c.set(static_cast<std::int64_t>(year_ns));  // ahead for a while
  fill();
  EXPECT_EQ(log->retain(limits), 0u);
  c.set(-static_cast<std::int64_t>(year_ns));  // right again
  fill();
  c.set(static_cast<std::int64_t>(year_ns));  // ahead again: the last hour stays
  EXPECT_EQ(log->retain(limits), 0u);
  c.set(-static_cast<std::int64_t>(year_ns + 2 * hour_ns));  // more than a year slow
  fill();
  EXPECT_EQ(log->retain(limits), 0u);
  c.pass(hour_ns * 2 / 3);
  c.set(static_cast<std::int64_t>(year_ns));
  EXPECT_EQ(log->retain(limits), 0u);
  c.pass(hour_ns / 3 + 3 * second_ns);
  fill();
  // Removes what is older than an hour, even if its stamp lies in the future.
  EXPECT_EQ(log->retain(limits), 9u);
  EXPECT_EQ(log->segments(), 4u);
}

TEST_P(LaneLog, AgeGoesOnOverBootsAndDoesNotJump) {
  clocks c;
  options_.time = [&] { return c.now; };
  auto log = create();
  const storage::retention_limits limits{4 * hour_ns, 0, 0};
  while (log->segments() < 5) ASSERT_EQ(commit_stamped(*log, *disk_, memory_, c.stamp_ns), 0);
  // Booted several times, each time with a clock that is a year ahead or not trusted.
  for (int i = 0; i < 5; ++i) {
    c.pass(hour_ns / 4);
    ASSERT_TRUE(log->close());
    c.boot(year_ns);
    if (i == 3) c.now.wall_ns = 0;
    log = reopen();
    EXPECT_EQ(log->retain(limits), 0u) << i;
  }
  // Off for a night, with the right clock: that counts, but for no more than the time it was up.
  c.now.wall_ns = c.stamp_ns;
  (void)log->now();
  c.pass(hour_ns);
  ASSERT_TRUE(log->close());
  c.boot(12 * hour_ns);
  log = reopen();
  EXPECT_EQ(log->retain(limits), 4u);
  EXPECT_EQ(log->segments(), 1u);
}

// A restored backup, or a disk or volume that moved: the uptime of that machine means nothing for
// this log.
TEST_P(LaneLog, AnotherMachinesBootMakesNothingOlder) {
  clocks c;
  options_.time = [&] { return c.now; };
  auto log = create();
  while (log->segments() < 4) ASSERT_EQ(commit_stamped(*log, *disk_, memory_, c.stamp_ns), 0);
  c.pass(hour_ns);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(log->close());
    c.boot(second_ns);
    c.now.boot_ns = year_ns;
    if (i == 1) c.now.wall_ns = 0;
    log = reopen();
    EXPECT_EQ(log->retain({2 * hour_ns, 0, 0}), 0u) << i;
  }
}

TEST_P(LaneLog, ALostStateMakesNothingOlderOrYounger) {
  clocks c;
  options_.time = [&] { return c.now; };
  auto log = create();
  c.pass(10 * hour_ns);
  while (log->segments() < 3) ASSERT_EQ(commit_stamped(*log, *disk_, memory_, c.stamp_ns), 0);
  c.pass(hour_ns);
  ASSERT_EQ(commit_stamped(*log, *disk_, memory_, c.stamp_ns), 0);
  log.reset();
  std::filesystem::remove(lane() + "/state");
  log = reopen();
  EXPECT_EQ(log->retain({2 * hour_ns, 0, 0}), 0u);
  EXPECT_EQ(log->retain({hour_ns / 2, 0, 0}), log->segments() < 3 ? 1u : 2u);
}

// The first record in sequence order with a stamp at or after a time, whatever follows it.
TEST_P(LaneLog, FindsTheFirstRecordOfATimeWhenClocksWereSet) {
  clocks c;
  auto log = create();
  std::vector<std::uint64_t> stamps;
  small_random random(GetParam()[0]);
  for (int i = 0; i < 400; ++i) {
    c.pass(second_ns * (1 + random.below(3)));
    if (i == 90) c.set(static_cast<std::int64_t>(year_ns));
    if (i == 110) c.set(-static_cast<std::int64_t>(year_ns));
    if (i == 200) c.set(-static_cast<std::int64_t>(hour_ns));
    if (i == 300) c.set(-static_cast<std::int64_t>(hour_ns / 20));
    ASSERT_EQ(commit_stamped(*log, *disk_, memory_, c.stamp_ns), 0);
    for (int k = 0; k < 10; ++k) stamps.push_back(c.stamp_ns);
    if (i % 130 == 129) {
      ASSERT_TRUE(log->close());
      log = reopen();
    }
  }
  ASSERT_GT(log->segments(), 8u);
  const auto check = [&] {
    const std::uint64_t first = log->first_seq();
    for (int i = 0; i < 120; ++i) {
      const std::uint64_t wanted =
          i == 0 ? ~0ull >> 1 : stamps[random.below(stamps.size())] + random.below(2);
      std::uint64_t right = first;
      while (right <= stamps.size() && stamps[right - 1] < wanted) ++right;
      log::history history(*disk_, lane());
      ASSERT_EQ(history.open(), 0);
      ASSERT_EQ(history.seek_time(wanted), 0);
      ASSERT_LE(history.next_seq(), right);
      std::uint64_t passed_over = 0;
      log::logged_record record;
      auto outcome = history.next(record, ~0ull);
      for (; outcome == log::walk_outcome::record && record.time_ns < wanted; ++passed_over)
        outcome = history.next(record, ~0ull);
      if (right > stamps.size()) {
        ASSERT_EQ(outcome, log::walk_outcome::end);
      } else {
        ASSERT_EQ(outcome, log::walk_outcome::record);
        ASSERT_EQ(record.seq, right);
      }
      ASSERT_LT(passed_over, 700u);  // far from the whole log
    }
  };
  check();
  // Also when the segments with the stamps of the next year are removed.
  ASSERT_GT(log->retain({0, 0, 2500}), 0u);
  ASSERT_GT(log->first_seq(), 1100u);
  check();
  // And when the indexes are lost.
  for (const auto& file : std::filesystem::directory_iterator(lane()))
    if (file.path().extension() == ".idx") std::filesystem::remove(file.path());
  check();
}

TEST_P(LaneLog, FollowsAWriter) {
  auto log = create();
  log::history history(*disk_, lane());
  ASSERT_EQ(history.open(), 0);
  history.seek(1);
  std::uint64_t seen = 0;
  for (int i = 0; i < 500; ++i) {
    ASSERT_EQ(commit(*log, *disk_, memory_, static_cast<std::uint32_t>(1 + i % 3), 700), 0);
    for (log::logged_record record;;) {
      const auto outcome = history.next(record, log->written_seq());
      if (outcome != log::walk_outcome::record) {
        ASSERT_EQ(outcome, log::walk_outcome::end) << seen;
        break;
      }
      ASSERT_EQ(record.seq, ++seen);
      ASSERT_TRUE(is_intact(record));
    }
    ASSERT_EQ(seen, log->written_seq());
  }
}

// A device that takes every write but knows no sync: a disk that reports success did not sync.
TEST_P(LaneLog, ItsDiskAnswersWithTheSyncAndNotBeforeIt) {
  const int file = disk_->open("/dev/null", log::disk_mode::write, false);
  ASSERT_GE(file, 0);
  const auto outcome = [&](bool sync) {
    disk_->begin_write(file, memory_.bytes().first(4096), 0, sync, 5, -1);
    log::disk_completion done;
    while (disk_->reap({&done, 1}, 1'000'000'000) == 0) {
    }
    EXPECT_EQ(done.token, 5u);
    return done.failure;
  };
  EXPECT_EQ(outcome(false), 0);
  EXPECT_EQ(outcome(true), -EINVAL);
  disk_->begin_sync(file, 6);
  log::disk_completion done;
  while (disk_->reap({&done, 1}, 1'000'000'000) == 0) {
  }
  EXPECT_EQ(done.failure, -EINVAL);
  disk_->close(file);
}

// Shared memory is lost several times, and hardly anything is published in between.
TEST_P(LaneLog, AQuietLaneStaysSmall) {
  options_.segment_bytes = 64u << 20;
  std::uint64_t spares = 0;
  options_.take_spare = [&](const std::string&, std::uint64_t) -> std::string {
    return ++spares, "";
  };
  auto log = create();
  for (std::uint64_t epoch = 2; epoch < 6; ++epoch) {
    ASSERT_EQ(commit(*log, *disk_, memory_, 5, 300), 0);
    log.reset();
    log = reopen();
    ASSERT_TRUE(log->raise_high_water(log->next_seq() + 100, 100));
    ASSERT_TRUE(log->begin_epoch(epoch));
  }
  EXPECT_EQ(spares, 0u);
  EXPECT_LT(log->bytes_on_disk(), log->segments() * 5 / 4 << 20);
  // A log that fills its segments gets full-sized ones, as always.
  for (int i = 0; i < 200; ++i) ASSERT_EQ(commit(*log, *disk_, memory_, 16, 3000), 0);
  EXPECT_GT(log->bytes_on_disk() >> 20, 16 + log->segments());
}

TEST_P(LaneLog, ItsDiskTellsAWriteThatFailed) {
  const int file = disk_->open("/dev/full", log::disk_mode::write, false);
  ASSERT_GE(file, 0);
  for (const bool sync : {false, true}) {
    disk_->begin_write(file, memory_.bytes().first(4096), 0, sync, 5, -1);
    log::disk_completion done;
    while (disk_->reap({&done, 1}, 1'000'000'000) == 0) {
    }
    EXPECT_EQ(done.failure, -ENOSPC);
  }
  disk_->close(file);
}

INSTANTIATE_TEST_SUITE_P(Disks, LaneLog, ::testing::Values("posix", "io_uring"),
                         [](const auto& with) { return std::string(with.param); });

TEST(Crc32c, AgreesWithTheTableAndTheKnownAnswer) {
  EXPECT_EQ(base::crc32c(0, "123456789", 9), 0xe3069283u);
  const auto bytes = payload_of(1, 1000);
  for (std::size_t from = 0; from < 16; ++from)
    for (std::size_t count = 0; count + from <= bytes.size(); count += 7)
      ASSERT_EQ(base::crc32c(5, bytes.data() + from, count),
                base::crc32c_by_table(5, bytes.data() + from, count));
}

}  // namespace
}  // namespace bus
