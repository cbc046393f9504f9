/// unreadable: pages for which the disk returns EIO. Readers get everything else and a report of
/// what is missing. The writer opens the log, changes no byte that it cannot read, and reuses no
/// sequence. When the page becomes readable again, nothing is missing.

#include <gtest/gtest.h>

#include <cstdio>

#include "log_life.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;

struct record_place {
  std::size_t segment = 0;
  std::uint64_t from = 0, to = 0;
};

/// Several segments; the last one is used only in part.
struct written_log {
  std::unique_ptr<simulated_disk> disk;
  log_book book;
  std::vector<std::uint64_t> bases;
  std::vector<record_place> places;  // of record 1, 2, ...
  std::uint64_t high_water = 0;

  std::string path(std::size_t segment) const {
    return log::segment_path(log_life::directory(), bases[segment]);
  }
  std::uint64_t pages(std::size_t segment) const {
    return disk->contents(path(segment)).size() / simulated_disk::page_bytes;
  }
  bool is_hit(std::uint64_t seq, std::size_t segment, std::uint64_t page) const {
    const record_place& at = places[seq - 1];
    return at.segment == segment && at.from < (page + 1) * simulated_disk::page_bytes &&
           at.to > page * simulated_disk::page_bytes;
  }
};

// `is_closed`: the end of the log records that all of it is durable.
written_log write_log(bool is_closed) {
  written_log made;
  auto disk = std::make_unique<simulated_disk>();
  (void)disk->make_directory(log_life::directory());
  log_life life(*disk, 21);
  EXPECT_TRUE(life.create());
  while (life.log()->segments() < 3) EXPECT_TRUE(life.append(4, 900, true));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(life.append(4, 900, true));
  if (is_closed) {
    EXPECT_TRUE(life.close());
  }
  made.book = life.book_now();
  made.high_water = life.log()->high_water();
  EXPECT_EQ(log::list_segments(*disk, log_life::directory(), made.bases), 0);
  for (std::size_t i = 0; i < made.bases.size(); ++i) {
    log::segment_reader reader(*disk);
    EXPECT_EQ(reader.open(made.path(i), life.log()->log_id(), made.bases[i]), 0);
    for (log::logged_record record; reader.next(record) == log::walk_outcome::record;)
      made.places.push_back({i, reader.position() - record.shape.total_bytes(), reader.position()});
  }
  EXPECT_EQ(made.places.size(), made.book.live.size());
  made.disk = disk->clone();
  return made;
}

std::string name_of_file(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Every record outside the page is found, and each missing one is in a `corrupt` gap. Empty: all
// is as it must be.
std::string check_readers(const written_log& log, simulated_disk& disk, std::size_t segment,
                          std::uint64_t page) {
  const auto found = find_records(disk, log_life::directory());
  if (found.failure != 0) return "failure " + std::to_string(found.failure);
  if (!found.wrong.empty()) return found.wrong;
  std::vector<bool> there(log.places.size() + 1);
  for (const begun_record& record : found.records)
    if (record.seq < there.size()) there[record.seq] = true;
  for (std::uint64_t seq = 1; seq < there.size(); ++seq)
    if (there[seq] == log.is_hit(seq, segment, page))
      return "record " + std::to_string(seq) + (there[seq] ? " came from nowhere" : " was dropped");
  for (const log::log_loss& loss : found.losses)
    if (loss.reason != layout::log_gap::corrupt) return "a gap with another reason";
  return found.losses.empty() && found.damages.empty() ? "nobody was told" : std::string();
}

TEST(Unreadable, ReadersGoAroundEachPage) {
  const written_log log = write_log(true);
  for (std::size_t segment = 0; segment < log.bases.size(); ++segment)
    for (std::uint64_t page = 0; page < log.pages(segment); ++page) {
      const auto disk = log.disk->clone();
      disk->unreadable_pages.insert({name_of_file(log.path(segment)), page});
      ASSERT_EQ(check_readers(log, *disk, segment, page), "")
          << "page " << page << " of segment " << segment;
    }
}

// Each frame is one page: no other frame shows that something is missing.
TEST(Unreadable, AtTheEndItIsTold) {
  simulated_disk disk;
  const std::string directory = log_life::directory();
  (void)disk.make_directory(directory);
  storage::log_options options;
  options.segment_bytes = 64 * 1024;
  auto log = storage::lane_log::create(disk, directory, {7, 1, 0}, 1000, options);
  ASSERT_TRUE(log);
  const storage::frame_memory memory(64 * 1024);
  for (int i = 0; i < 5; ++i) ASSERT_EQ(commit(**log, disk, memory, 1, 4000), 0);
  disk.unreadable_pages.insert({log::segment_name(1), 5});
  log::history history(disk, directory);
  ASSERT_EQ(history.open(), 0);
  log::logged_record record;
  for (int i = 0; i < 4; ++i) ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
  EXPECT_EQ(history.next(record, ~0ull), log::walk_outcome::end);
  EXPECT_FALSE(history.take_damages().empty());
}

// The device has failed: that is no damage of the log.
TEST(Unreadable, AFileOfWhichNothingCanBeReadIsAFailure) {
  const written_log log = write_log(true);
  const auto disk = log.disk->clone();
  for (std::uint64_t page = 0; page < log.pages(0); ++page)
    disk->unreadable_pages.insert({name_of_file(log.path(0)), page});
  EXPECT_EQ(find_records(*disk, log_life::directory()).failure, -EIO);
}

void open_and_go_on(const written_log& log, std::uint64_t page, bool lost_memory) {
  SCOPED_TRACE("page " + std::to_string(page) +
               (lost_memory ? ", shared memory was lost" : ", busd was killed"));
  const std::size_t last = log.bases.size() - 1;
  const auto disk = log.disk->clone();
  const auto before = disk->contents(log.path(last));
  disk->unreadable_pages.insert({name_of_file(log.path(last)), page});
  log_life life(*disk, page + 1);
  ASSERT_TRUE(life.open_only()) << life.failure();
  EXPECT_TRUE(life.log()->has_unread_end());
  EXPECT_GT(life.report().unreadable_bytes, 0u);
  EXPECT_GT(life.log()->next_seq(), log.high_water);
  EXPECT_GE(life.log()->high_water(), log.high_water);
  if (lost_memory) {
    auto begun = life.log()->begin_epoch(2);
    ASSERT_TRUE(begun) << begun.error().message();
    EXPECT_GT(life.log()->next_seq(), log.high_water);
    EXPECT_FALSE(life.log()->has_unread_end());
  } else {
    life.log()->resume_at(log.places.size() + 1);  // the ring has the last sequence
    EXPECT_EQ(life.log()->next_seq(), log.places.size() + 1);
  }
  life.set_salt(1'000'000);
  const std::uint64_t first = life.log()->next_seq();
  ASSERT_TRUE(life.append(3, 300, true)) << life.failure();
  ASSERT_TRUE(life.append(2, 300, true)) << life.failure();
  const auto count_new = [&] {
    const auto found = find_records(*disk, log_life::directory(), first);
    return found.failure == 0 && found.wrong.empty() ? found.records.size() : 0;
  };
  EXPECT_EQ(check_readers(log, *disk, last, page), "");
  EXPECT_EQ(count_new(), 5u);
  ASSERT_TRUE(life.close());
  EXPECT_EQ(disk->contents(log.path(last)), before);

  disk->unreadable_pages.clear();  // readable again: nothing was lost
  EXPECT_EQ(find_records(*disk, log_life::directory()).records.size(), log.places.size() + 5);
  ASSERT_TRUE(life.open_only()) << life.failure();
  EXPECT_EQ(life.log()->next_seq(), first + 5);
  EXPECT_EQ(find_records(*disk, log_life::directory()).records.size(), log.places.size() + 5);
  EXPECT_EQ(life.wrong(), "");
}

TEST(Unreadable, RecoveryChangesNothingAndGoesOn) {
  for (const bool is_closed : {true, false}) {
    const written_log log = write_log(is_closed);
    for (std::uint64_t page = 0; page < log.pages(log.bases.size() - 1); ++page)
      for (const bool lost_memory : {true, false}) {
        open_and_go_on(log, page, lost_memory);
        if (HasFatalFailure()) return;
      }
  }
}

// Opened several times, with nothing written in between.
TEST(Unreadable, OpeningTwiceIsAsOnce) {
  const written_log log = write_log(false);
  const std::size_t last = log.bases.size() - 1;
  const auto disk = log.disk->clone();
  disk->unreadable_pages.insert({name_of_file(log.path(last)), 1});
  for (int i = 0; i < 3; ++i) {
    log_life life(*disk, 1);
    ASSERT_TRUE(life.open_only()) << life.failure();
    EXPECT_EQ(life.log()->next_seq(), log.high_water + 1);
    if (i == 1) {
      ASSERT_TRUE(life.close());
    }
  }
  disk->unreadable_pages.clear();
  log_life life(*disk, 1);
  life.book = log.book;
  EXPECT_TRUE(life.open()) << life.failure() << life.wrong();
}

// Reads fail for a while, longer than one read is retried.
TEST(Unreadable, AReadThatFailsForAWhileTakesNothing) {
  const written_log log = write_log(false);
  std::uint64_t failures = 0, opened = 0;
  for (std::uint64_t length = 1; length < 24; ++length)
    for (std::uint64_t from = 0;; ++from) {
      const auto disk = log.disk->clone();
      std::uint64_t reads = 0;
      bool fired = false;
      disk->set_fault({0, -EIO, true, false, [&](disk_call call) {
                         if (call != disk_call::read) return false;
                         const std::uint64_t number = reads++;
                         const bool hit = number >= from && number < from + length;
                         fired = fired || hit;
                         return hit;
                       }});
      log_life life(*disk, from);
      life.book = log.book;
      const bool is_open = life.open_only();
      disk->end_faults();
      if (!fired) break;
      if (is_open) {
        ++opened;
        life.set_salt(1'000'000);
        ASSERT_TRUE(life.append(2, 300, true)) << life.failure();
        ASSERT_TRUE(life.close());
      } else {
        ++failures;
      }
      const auto found = find_records(*disk, log_life::directory());
      ASSERT_EQ(found.wrong, "");
      ASSERT_GE(found.records.size(), log.places.size())
          << length << " reads from " << from << " on";
      for (std::size_t i = 0; i < log.places.size(); ++i)
        ASSERT_EQ(found.records[i], log.book.live[i]);
      ASSERT_TRUE(life.open_only()) << life.failure();
    }
  std::printf("%llu times open, %llu times not\n", static_cast<unsigned long long>(opened),
              static_cast<unsigned long long>(failures));
  EXPECT_GT(opened, 10u);
}

// A page can be read when recovery checks it, but not when it copies what is not known to be
// durable.
TEST(Unreadable, APageThatGoesBadMeanwhileTakesNothing) {
  const written_log log = write_log(false);
  const std::string path = log.path(log.bases.size() - 1);
  for (std::uint64_t page = 0; page < log.pages(log.bases.size() - 1); ++page)
    for (std::uint64_t from = 0;; ++from) {
      const auto disk = log.disk->clone();
      std::uint64_t reads = 0;
      disk->set_fault({0, -EIO, true, false, [&](disk_call call) {
                         if (call == disk_call::read && reads++ == from)
                           disk->unreadable_pages.insert({name_of_file(path), page});
                         return false;
                       }});
      log_life life(*disk, from);
      ASSERT_TRUE(life.open_only()) << life.failure();
      if (reads <= from) break;
      disk->end_faults();
      life.set_salt(1'000'000);
      ASSERT_TRUE(life.append(2, 300, true)) << life.failure();
      disk->unreadable_pages.clear();
      EXPECT_EQ(find_records(*disk, log_life::directory()).records.size(), log.places.size() + 2)
          << "page " << page << " from read " << from;
    }
}

TEST(Unreadable, OneCopyOfTheStateIsEnough) {
  const written_log log = write_log(true);
  for (const std::uint64_t page : {0, 1}) {
    const auto disk = log.disk->clone();
    disk->unreadable_pages.insert({"state", page});
    log_life life(*disk, 1);
    ASSERT_TRUE(life.open_only()) << life.failure();
    EXPECT_TRUE(life.report().state_damaged);
    EXPECT_GE(life.log()->high_water(), log.high_water);
    EXPECT_EQ(life.log()->next_seq(), log.places.size() + 1);
  }
}

}  // namespace
}  // namespace bus
