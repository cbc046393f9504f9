/// compression: full segments are replaced by compressed ones. Readers get the same records from
/// them, wherever they start. A changed byte costs one block; a power loss or a failing disk
/// during compression costs nothing.

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <set>

#include "full_log.hpp"
#include "log_life.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;
using storage::compress_outcome;

// Returns how many segments were compressed.
int compress_all(full_log& made) {
  int done = 0;
  const std::atomic<bool> stop{false};
  while (const auto base_seq = made.log->next_full_segment()) {
    const std::string path = made.directory + "/copy.tmp";
    const auto copy = storage::compress_segment(made.disk, made.directory, *base_seq,
                                                made.log->log_id(), path, stop);
    if (copy.outcome != compress_outcome::done) {
      made.log->mark_compress_skipped(*base_seq);
      continue;
    }
    EXPECT_EQ(made.log->replace_segment(*base_seq, path, copy.bytes), 0);
    ++done;
  }
  return done;
}

std::string all_there(log::disk& disk, const std::string& directory, std::uint64_t from,
                      std::uint64_t last) {
  const auto back = read_all_records(disk, directory, from);
  if (back.failure != 0) return "failure " + std::to_string(back.failure);
  if (!back.losses.empty()) return "a gap from " + std::to_string(back.losses.front().first);
  if (!back.all_intact) return "other contents";
  if (back.seqs.size() != last + 1 - from) return std::to_string(back.seqs.size()) + " records";
  return {};
}

TEST(Compression, ReadersFindTheSameWhereverTheyStart) {
  full_log made(4 << 20, 3000, 9 << 20);
  const std::uint64_t raw_bytes = made.bytes_of_files();
  ASSERT_GT(compress_all(made), 1);
  EXPECT_LT(made.bytes_of_files(), raw_bytes * 7 / 10);
  ASSERT_EQ(all_there(made.disk, made.directory, 1, made.last()), "");
  small_random random(5);
  for (int i = 0; i < 60; ++i) {
    const std::uint64_t from = 1 + random.below(made.last());
    ASSERT_EQ(all_there(made.disk, made.directory, from, made.last()), "") << from;
    log::history history(made.disk, made.directory);
    ASSERT_EQ(history.open(), 0);
    ASSERT_EQ(history.seek_time(time_of(from)), 0);
    EXPECT_LE(history.next_seq(), from);
    log::logged_record record;
    do ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
    while (record.time_ns < time_of(from));
    EXPECT_EQ(record.seq, from);
    EXPECT_TRUE(is_intact(record));
  }
  // With the index: reading one record near the segment's end does not read all of it.
  log::history history(made.disk, made.directory);
  ASSERT_EQ(history.open(), 0);
  history.seek(history.bases()[1] - 1);
  log::logged_record record;
  ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
  EXPECT_LT(history.bytes_read(), 800u * 1024);
  EXPECT_TRUE(history.take_damages().empty());
}

// The zeros that end the record look like the unused space after it.
TEST(Compression, ALastRecordOfZeroesIsThere) {
  full_log made(1 << 20, 3000, 0);
  const auto zeroes = [&](std::uint32_t bytes) {
    log::frame_builder frame(made.memory.bytes(), made.log->log_id(), made.log->align());
    frame.begin(made.log->next_seq());
    frame.add({bytes, 0, 0}, layout::pack_origin(0, 1), 1,
              [&](std::byte* to) { std::memset(to, 0, bytes); });
    EXPECT_TRUE(made.log->begin(frame, true, 1, -1));
    log::disk_completion done;
    EXPECT_EQ(made.disk.reap({&done, 1}, 1), 1u);
    EXPECT_EQ(made.log->finished(done.failure), 0);
  };
  while (made.log->segments() < 4) zeroes(60'000);
  ASSERT_GT(compress_all(made), 2);
  std::vector<std::uint64_t> seqs = read_all_records(made.disk, made.directory).seqs;
  EXPECT_EQ(seqs.size(), made.last());
  EXPECT_TRUE(read_all_records(made.disk, made.directory).losses.empty());
}

TEST(Compression, AReaderThatIsInTheMiddleGoesOn) {
  full_log made(1 << 20, 3000, 2 << 20);
  log::history history(made.disk, made.directory);
  ASSERT_EQ(history.open(), 0);
  history.seek(1);
  log::logged_record record;
  for (int i = 0; i < 10; ++i) ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
  ASSERT_GT(compress_all(made), 0);
  for (std::uint64_t seq = 11; seq <= made.last(); ++seq) {
    ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
    ASSERT_EQ(record.seq, seq);
    ASSERT_TRUE(is_intact(record));
  }
}

TEST(Compression, GoesOnAfterBusdWasStarted) {
  full_log made(1 << 20, 3000, 2 << 20);
  ASSERT_GT(compress_all(made), 0);
  const std::uint64_t last = made.last(), bytes = made.log->bytes_on_disk();
  ASSERT_TRUE(made.log->close());
  made.log.reset();
  storage::recovery_report report;
  auto opened = storage::lane_log::open(made.disk, made.directory, {7, 1, 0}, made.options, report);
  ASSERT_TRUE(opened);
  EXPECT_EQ((*opened)->next_seq(), last + 1);
  EXPECT_EQ((*opened)->bytes_on_disk(), bytes);
  EXPECT_TRUE(report.damages.empty());
  made.log = std::move(*opened);
  EXPECT_EQ(compress_all(made), 0);  // they are compressed already
}

// Like a copy that was made while busd compressed.
TEST(Compression, ALogThatEndsWithACompressedSegmentIsGoneOnWith) {
  full_log made(1 << 20, 3000, 2 << 20);
  ASSERT_GT(compress_all(made), 0);
  made.log.reset();
  std::vector<std::uint64_t> bases;
  ASSERT_EQ(log::list_segments(made.disk, made.directory, bases), 0);
  ASSERT_EQ(made.disk.remove(log::segment_path(made.directory, bases.back())), 0);
  storage::recovery_report report;
  auto opened = storage::lane_log::open(made.disk, made.directory, {7, 1, 0}, made.options, report);
  ASSERT_TRUE(opened) << opened.error().message();
  EXPECT_EQ((*opened)->next_seq(), bases.back());
  EXPECT_TRUE(report.damages.empty());
  ASSERT_EQ(commit(**opened, made.disk, made.memory, 3, 100), 0);
  EXPECT_EQ(all_there(made.disk, made.directory, 1, bases.back() + 2), "");
}

TEST(Compression, ASegmentThatIsGoneDoesNotComeBack) {
  full_log made(1 << 20, 3000, 2 << 20);
  const std::atomic<bool> stop{false};
  const std::string path = made.directory + "/copy.tmp";
  const auto copy =
      storage::compress_segment(made.disk, made.directory, 1, made.log->log_id(), path, stop);
  ASSERT_EQ(copy.outcome, compress_outcome::done);
  ASSERT_GT(made.log->retain({0, 0, 1}), 0u);
  EXPECT_NE(made.log->replace_segment(1, path, copy.bytes), 0);
  EXPECT_TRUE(made.disk.contents(path).empty());
  EXPECT_TRUE(made.disk.contents(made.first_segment()).empty());
}

TEST(Compression, RetentionCountsWhatIsOnTheDisk) {
  full_log made(4 << 20, 3000, 9 << 20), raw(4 << 20, 3000, 9 << 20);
  ASSERT_GT(compress_all(made), 3);
  EXPECT_EQ(made.log->bytes_on_disk(), made.bytes_of_files());
  const std::uint64_t limit = made.log->bytes_on_disk();
  EXPECT_EQ(made.log->retain({0, limit, 0}), 0u);
  EXPECT_GT(raw.log->retain({0, limit, 0}), 0u);
  EXPECT_GT(made.log->retain({0, limit - 1, 0}), 0u);
}

TEST(Compression, WhatDoesNotGetSmallerStays) {
  full_log made(1 << 20, 3000, 2 << 20);
  ASSERT_EQ(compress_all(made), static_cast<int>(made.log->segments()) - 1);
  const std::atomic<bool> stop{false}, stopped{true};
  const auto again = storage::compress_segment(made.disk, made.directory, 1, made.log->log_id(),
                                               made.directory + "/copy.tmp", stop);
  EXPECT_EQ(again.outcome, compress_outcome::left);
  const auto none = storage::compress_segment(made.disk, made.directory, 1, made.log->log_id(),
                                              made.directory + "/copy.tmp", stopped);
  EXPECT_NE(none.outcome, compress_outcome::done);
  EXPECT_TRUE(made.disk.contents(made.directory + "/copy.tmp").empty());
}

// ---- damage

/// The bytes of each block of a compressed file, read from the file by the format's offsets.
struct block_places {
  std::uint64_t table_end = 0;
  std::vector<std::uint64_t> begin, end;
};

block_places places_of(const std::vector<std::byte>& file) {
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, file.data() + at, bytes);
    return value;
  };
  block_places made;
  const std::uint64_t count = number(4096 + 12, 4);
  made.table_end = 4096 + (32 + 8 * count + 63) / 64 * 64;
  for (std::uint64_t i = 0; i < count; ++i) {
    made.begin.push_back(number(4096 + 32 + 8 * i, 8));
    made.end.push_back(made.begin.back() + (32 + number(made.begin.back() + 20, 4) + 63) / 64 * 64);
  }
  return made;
}

struct record_place {
  std::uint64_t seq, first_block, last_block;
};

std::vector<record_place> records_of(full_log& made) {
  std::vector<record_place> places;
  log::segment_reader reader(made.disk);
  EXPECT_EQ(reader.open(made.first_segment(), made.log->log_id(), 1), 0);
  for (log::logged_record record; reader.next(record) == log::walk_outcome::record;) {
    const std::uint64_t to = reader.position(), from = to - record.shape.total_bytes();
    places.push_back({record.seq, (from - 4096) / 65536, (to - 1 - 4096) / 65536});
  }
  return places;
}

// Exactly the records with a byte in `lost` are missing, and the damage is reported. Empty: all
// is as it must be.
std::string check_damage(simulated_disk& disk, const full_log& made,
                         const std::vector<record_place>& records,
                         const std::set<std::uint64_t>& lost) {
  log::history history(disk, made.directory);
  if (history.open() != 0) return "history.open()";
  history.seek(1);
  std::vector<bool> found(made.last() + 1);
  std::uint64_t next = 1;
  bool told = false;
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, ~0ull);
    if (outcome == log::walk_outcome::failure)
      return "failure " + std::to_string(history.failure());
    if (outcome == log::walk_outcome::end) break;
    if (outcome == log::walk_outcome::gap) {
      if (history.loss().first != next || history.loss().reason != layout::log_gap::corrupt)
        return "a wrong gap";
      next += history.loss().count;
      told = true;
      continue;
    }
    if (record.seq != next++ || !is_intact(record))
      return "a wrong record " + std::to_string(record.seq);
    found[record.seq] = true;
  }
  if (next != made.last() + 1) return "the end is missing";
  told = told || !history.take_damages().empty();
  if (!told) return "nobody was told";
  for (std::uint64_t seq = 1; seq <= made.last(); ++seq) {
    bool is_hurt = false;
    if (seq <= records.size())
      for (std::uint64_t block = records[seq - 1].first_block; block <= records[seq - 1].last_block;
           ++block)
        is_hurt = is_hurt || lost.contains(block);
    if (found[seq] == is_hurt)
      return "record " + std::to_string(seq) + (is_hurt ? " came back" : " was dropped");
  }
  return {};
}

TEST(Compression, EveryByteAndEveryCutCostAtMostOneBlock) {
  full_log made(160 * 1024, 700, 0);
  const auto records = records_of(made);
  ASSERT_EQ(compress_all(made), 1);
  const auto file = made.disk.contents(made.first_segment());
  const block_places blocks = places_of(file);
  ASSERT_GE(blocks.begin.size(), 3u);
  ASSERT_EQ(blocks.end.back(), file.size());
  const auto wrong = for_each_number(2 * file.size(), [&](std::uint64_t number) -> std::string {
    const std::uint64_t offset = number / 2;
    const bool is_cut = number % 2 == 1;
    const auto disk = made.disk.clone();
    std::set<std::uint64_t> lost;
    for (std::size_t i = 0; i < blocks.begin.size(); ++i)
      if (is_cut ? blocks.end[i] > offset : blocks.begin[i] <= offset && offset < blocks.end[i])
        lost.insert(i);
    if (is_cut) {
      disk->truncate(made.first_segment(), offset);
    } else {
      const std::byte now =
          file[offset] ^ static_cast<std::byte>(offset % 9 == 8 ? 0xff : 1u << (offset % 9 % 8));
      disk->overwrite(made.first_segment(), {&now, 1}, offset);
    }
    const std::string found = check_damage(*disk, made, records, lost);
    return found.empty()
               ? found
               : (is_cut ? "cut at " : "flipped at ") + std::to_string(offset) + ": " + found;
  });
  std::printf("%zu injuries of %zu bytes, %zu blocks\n", 2 * file.size(), file.size(),
              blocks.begin.size());
  EXPECT_EQ(wrong, "");
}

// Damage in two parts: without the table each intact block is still found.
TEST(Compression, WithoutItsTableEachBlockIsFound) {
  full_log made(1 << 20, 700, 0);
  const auto records = records_of(made);
  ASSERT_EQ(compress_all(made), 1);
  const block_places blocks = places_of(made.disk.contents(made.first_segment()));
  const std::vector<std::byte> nothing(blocks.table_end - 4096);
  for (std::size_t i = 0; i + 1 < blocks.begin.size(); ++i) {
    const auto disk = made.disk.clone();
    disk->overwrite(made.first_segment(), nothing, 4096);
    disk->overwrite(made.first_segment(), {nothing.data(), 64}, blocks.begin[i]);
    ASSERT_EQ(check_damage(*disk, made, records, {i}), "") << "block " << i;
  }
}

// Nothing else shows the loss: there is no newer segment, and as each frame has 4096 bytes, none
// lies in two blocks.
TEST(Compression, ALostBlockAtTheEndIsTold) {
  full_log made(1 << 20, 4000, 0, 1);
  ASSERT_EQ(compress_all(made), 1);
  std::vector<std::uint64_t> bases;
  ASSERT_EQ(log::list_segments(made.disk, made.directory, bases), 0);
  ASSERT_EQ(made.disk.remove(log::segment_path(made.directory, bases.back())), 0);
  const std::byte now{0x5a};
  const block_places blocks = places_of(made.disk.contents(made.first_segment()));
  made.disk.overwrite(made.first_segment(), {&now, 1}, blocks.begin.back());
  log::history history(made.disk, made.directory);
  ASSERT_EQ(history.open(), 0);
  history.seek(1);
  std::uint64_t records = 0;
  for (log::logged_record record; history.next(record, ~0ull) == log::walk_outcome::record;)
    ++records;
  EXPECT_GT(records, 200u);
  EXPECT_FALSE(history.take_damages().empty());
}

TEST(Compression, APageThatCannotBeReadCostsItsBlocks) {
  full_log made(1 << 20, 700, 0);
  const auto records = records_of(made);
  ASSERT_EQ(compress_all(made), 1);
  const auto file = made.disk.contents(made.first_segment());
  const block_places blocks = places_of(file);
  constexpr std::uint64_t page_bytes = simulated_disk::page_bytes;
  for (std::uint64_t page = 0; page < (file.size() + page_bytes - 1) / page_bytes; ++page) {
    const auto disk = made.disk.clone();
    disk->unreadable_pages.insert({log::segment_name(1), page});
    std::set<std::uint64_t> lost;
    for (std::size_t i = 0; i < blocks.begin.size(); ++i)
      if (blocks.begin[i] < (page + 1) * page_bytes && blocks.end[i] > page * page_bytes)
        lost.insert(i);
    ASSERT_EQ(check_damage(*disk, made, records, lost), "") << "page " << page;
  }
}

// ---- power losses and failing disks

TEST(Compression, APowerLossOnTheWayCostsNothing) {
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  std::printf("BUS_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  small_random random(seed);
  simulated_disk disk;
  (void)disk.make_directory(log_life::directory());
  log_life life(disk, 11);
  ASSERT_TRUE(life.create());
  while (life.log()->segments() < 4) ASSERT_TRUE(life.append(5, 3000, true));
  std::uint64_t states = 0;
  std::string wrong;
  disk.before_change = [&](disk_call) {
    for (int i = 0; i < 40 && wrong.empty(); ++i) {
      nothing_kept nothing;
      random_fate some(random);
      auto after = disk.after_power_loss(i == 0 ? static_cast<fate&>(nothing) : some);
      log_life next(*after, random());
      next.book = life.book_now();
      ++states;
      if (!next.open()) next.blame("open(): " + next.failure());
      if (next.wrong().empty() && !next.append(2, 300, true))
        next.blame("append(): " + next.failure());
      next.look();
      wrong = next.wrong();
    }
  };
  int done = 0;
  while (life.compress()) {
    ++done;
    ASSERT_TRUE(life.look()) << life.wrong();
  }
  disk.before_change = nullptr;
  EXPECT_EQ(done, 3);
  EXPECT_EQ(wrong, "");
  EXPECT_GT(states, 200u);
}

TEST(Compression, NoCallThatFailsCostsAnything) {
  for (const bool for_ever : {false, true})
    for (const bool is_short : {false, true})
      for (std::uint64_t at = 0;; ++at) {
        simulated_disk disk;
        (void)disk.make_directory(log_life::directory());
        log_life life(disk, 11);
        ASSERT_TRUE(life.create());
        while (life.log()->segments() < 2) ASSERT_TRUE(life.append(5, 3000, true));
        disk.set_fault(
            {at, is_short ? -ENOSPC : -EIO, for_ever, is_short, [](disk_call) { return true; }});
        const bool was_done = life.compress();
        const bool fired = disk.faults_fired() != 0;
        disk.end_faults();
        ASSERT_TRUE(life.look()) << at << ": " << life.wrong();
        ASSERT_TRUE(life.append(2, 300, true)) << life.failure();
        ASSERT_TRUE(life.close() && life.open()) << at << ": " << life.failure() << life.wrong();
        if (!was_done) {
          EXPECT_TRUE(life.compress()) << at;
        }
        ASSERT_TRUE(life.look()) << at << ": " << life.wrong();
        if (!fired) break;
      }
}

// A check that cannot fail is useless.
TEST(Compression, SeededBugIsCaught) {
  full_log made(192 * 1024, 700, 0);
  auto records = records_of(made);
  ASSERT_EQ(compress_all(made), 1);
  const block_places blocks = places_of(made.disk.contents(made.first_segment()));
  EXPECT_NE(check_damage(made.disk, made, records, {}), "");  // no damage is reported
  const std::byte now{0x5a};
  made.disk.overwrite(made.first_segment(), {&now, 1}, blocks.begin[1] + 100);
  EXPECT_EQ(check_damage(made.disk, made, records, {1}), "");
  EXPECT_NE(check_damage(made.disk, made, records, {}), "");
  EXPECT_NE(check_damage(made.disk, made, records, {0, 1}), "");
}

}  // namespace
}  // namespace bus
