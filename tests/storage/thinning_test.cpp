/// thinning: full segments keep the newest messages of each subject; older ones are removed. A
/// reader gets the kept ones, wherever it starts, and no loss is reported. No failure on the way
/// costs any of them.

#include <gtest/gtest.h>

#include <bus/log_files.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "full_log.hpp"
#include "log/posix_disk.hpp"
#include "log_life.hpp"
#include "scratch.hpp"
#include "storage/thin_segments.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;
using storage::thin_outcome;

constexpr std::uint64_t subjects = 7;  // of records in a log_box

storage::thinning thinning_of(const storage::lane_log& log, std::uint64_t keep) {
  return {log.directory(), log.log_id(), log.bases(), keep, subjects, 0, {}, log.segment_bytes()};
}

thin_outcome thin(storage::lane_log& log, log::disk& disk, std::uint64_t keep) {
  const std::atomic<bool> stop{false};
  const auto copies = storage::thin_segments(disk, thinning_of(log, keep), stop);
  if (copies.outcome != thin_outcome::done) return copies.outcome;
  return log.replace_segments(copies.made) == 0 ? thin_outcome::done : thin_outcome::failed;
}

/// The newest `keep` of each subject below `base_of_last`, and everything from there on.
std::vector<std::uint64_t> newest(std::uint64_t keep, std::uint64_t base_of_last,
                                  std::uint64_t last) {
  std::vector<std::uint64_t> seqs;
  for (std::uint64_t seq = 1; seq <= last; ++seq)
    if (seq >= base_of_last || seq + keep * subjects >= base_of_last) seqs.push_back(seq);
  return seqs;
}

std::string differs(const read_back& back, const std::vector<std::uint64_t>& wanted) {
  if (back.failure != 0) return "failure " + std::to_string(back.failure);
  if (!back.all_intact) return "other contents";
  for (const auto& loss : back.losses)
    if (loss.reason != layout::log_gap::superseded)
      return "sequences from " + std::to_string(loss.first) + " are told to be lost";
  if (back.seqs == wanted) return {};
  return std::to_string(back.seqs.size()) + " records instead of " + std::to_string(wanted.size());
}

/// After a power loss or a failure: what is there is part of what was written, and includes all
/// of `wanted`.
std::string lacks(const read_back& back, const std::vector<std::uint64_t>& wanted,
                  std::uint64_t last) {
  auto any = back;
  any.seqs.clear();
  if (const std::string other = differs(any, {}); !other.empty()) return other;
  const std::set<std::uint64_t> found(back.seqs.begin(), back.seqs.end());
  if (found.size() != back.seqs.size() || (!found.empty() && *found.rbegin() > last))
    return "a record that was not";
  for (const std::uint64_t seq : wanted)
    if (found.count(seq) == 0) return "record " + std::to_string(seq) + " is lost";
  return {};
}

TEST(Thinning, TheNewestOfEachSubjectStay) {
  full_log made(1 << 20, 700, 9 << 20);
  const std::uint64_t raw_bytes = made.bytes_of_files();
  ASSERT_GT(made.log->segments(), 6u);
  EXPECT_EQ(made.log->thinned().upto, 1u);
  EXPECT_EQ(made.log->thinned().bytes, 0u);
  ASSERT_EQ(thin(*made.log, made.disk, 100), thin_outcome::done);
  EXPECT_LT(made.log->segments(), 4u);
  EXPECT_EQ(made.bytes_of_files(), made.log->bytes_on_disk());
  EXPECT_LT(made.bytes_of_files(), raw_bytes / 3);
  const auto wanted = newest(100, made.log->bases().back(), made.last());
  ASSERT_EQ(differs(read_all_records(made.disk, made.directory), wanted), "");
  small_random random(7);
  for (int i = 0; i < 60; ++i) {
    const std::uint64_t from = 1 + random.below(made.last());
    const std::vector<std::uint64_t> rest(std::lower_bound(wanted.begin(), wanted.end(), from),
                                          wanted.end());
    ASSERT_EQ(differs(read_all_records(made.disk, made.directory, from), rest), "") << from;
    log::history history(made.disk, made.directory);
    ASSERT_EQ(history.open(), 0);
    ASSERT_EQ(history.seek_time(time_of(from)), 0);
    EXPECT_LE(history.next_seq(), rest.front());
    log::logged_record record;
    do {
      auto outcome = history.next(record, ~0ull);
      if (outcome == log::walk_outcome::gap) outcome = history.next(record, ~0ull);
      ASSERT_EQ(outcome, log::walk_outcome::record);
    } while (record.time_ns < time_of(from));
    EXPECT_EQ(record.seq, rest.front());
  }
  log::history history(made.disk, made.directory);
  ASSERT_EQ(history.open(), 0);
  EXPECT_TRUE(history.take_damages().empty());
  // Too little would be removed.
  EXPECT_EQ(thin(*made.log, made.disk, 99), thin_outcome::left);
}

// Holes inside a segment: one subject is published often, the others seldom.
TEST(Thinning, TheRecordsOfAQuietSubjectStayWhereTheyAre) {
  full_log made(1 << 20, 700, 0);
  std::vector<std::uint64_t> wanted;
  const auto publish = [&](std::uint32_t subject, std::uint32_t bytes) {
    log::frame_builder frame(made.memory.bytes(), made.log->log_id(), made.log->align());
    frame.begin(made.log->next_seq());
    const auto payload = payload_of(frame.base_seq(), bytes);
    frame.add({bytes, 0, 0}, layout::pack_origin(subject, 1), time_of(frame.base_seq()),
              [&](std::byte* to) { std::memcpy(to, payload.data(), bytes); });
    EXPECT_TRUE(made.log->begin(frame, true, 1, -1));
    log::disk_completion done;
    EXPECT_EQ(made.disk.reap({&done, 1}, 1), 1u);
    EXPECT_EQ(made.log->finished(done.failure), 0);
    return made.log->written_seq();
  };
  // Ids that the stream does not have, or that mean no subject: never superseded.
  constexpr std::uint32_t without[] = {subjects, 0xfffffffeu, layout::inline_subject_id};
  while (made.log->segments() < 10) {
    const std::uint64_t seq = publish(0, 900);
    if (seq % 300 == 0) wanted.push_back(publish(without[seq / 300 % 3], 100));
    if (seq % 500 == 0 && seq < 3000)
      wanted.push_back(publish(static_cast<std::uint32_t>(1 + seq / 500), 40'000));
  }
  const std::uint64_t base_of_last = made.log->bases().back();
  wanted.push_back(base_of_last - 1);
  for (std::uint64_t seq = base_of_last; seq <= made.last(); ++seq) wanted.push_back(seq);
  ASSERT_EQ(thin(*made.log, made.disk, 1), thin_outcome::done);
  const auto back = read_all_records(made.disk, made.directory);
  EXPECT_TRUE(back.all_intact);
  std::map<std::uint64_t, int> seen;
  for (const std::uint64_t seq : back.seqs) ++seen[seq];
  for (const std::uint64_t seq : wanted) EXPECT_EQ(seen[seq], 1) << seq;
  EXPECT_EQ(made.log->segments(), 2u);
  EXPECT_LT(back.seqs.size(), wanted.size() + subjects);
}

TEST(Thinning, ItGoesOnAndOn) {
  full_log made(1 << 20, 700, 4 << 20);
  for (int round = 0; round < 12; ++round) {
    const std::uint64_t keep = round < 8 ? 90 : 40;
    ASSERT_EQ(thin(*made.log, made.disk, keep), thin_outcome::done) << round;
    EXPECT_LE(made.log->segments(), 3u);
    ASSERT_EQ(differs(read_all_records(made.disk, made.directory),
                      newest(keep, made.log->bases().back(), made.last())),
              "")
        << round;
    const std::uint64_t upto = made.last() + 3000;
    while (made.last() < upto) ASSERT_EQ(commit(*made.log, made.disk, made.memory, 16, 700), 0);
    if (round % 3 != 2) continue;
    ASSERT_TRUE(made.log->close());
    made.log.reset();
    storage::recovery_report report;
    auto opened =
        storage::lane_log::open(made.disk, made.directory, {7, 1, 0}, made.options, report);
    ASSERT_TRUE(opened);
    made.log = std::move(*opened);
    EXPECT_TRUE(report.damages.empty());
  }
}

TEST(Thinning, AReaderThatIsInTheMiddleGoesOn) {
  for (const std::uint64_t before : {1u, 700u, 1500u, 4000u, 9000u}) {
    full_log made(1 << 20, 700, 9 << 20);
    log::history history(made.disk, made.directory);
    ASSERT_EQ(history.open(), 0);
    history.seek(1);
    log::logged_record record;
    for (std::uint64_t i = 0; i < before; ++i)
      ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
    const auto wanted = newest(100, made.log->bases().back(), made.last());
    ASSERT_EQ(thin(*made.log, made.disk, 100), thin_outcome::done);
    std::set<std::uint64_t> found;
    std::uint64_t next = before + 1;
    for (;;) {
      const auto outcome = history.next(record, ~0ull);
      if (outcome == log::walk_outcome::end) break;
      if (outcome == log::walk_outcome::gap) {
        ASSERT_EQ(history.loss().reason, layout::log_gap::superseded) << history.loss().first;
        ASSERT_EQ(history.loss().first, next);
        next += history.loss().count;
        continue;
      }
      ASSERT_EQ(outcome, log::walk_outcome::record);
      ASSERT_EQ(record.seq, next++);
      ASSERT_TRUE(is_intact(record));
      found.insert(record.seq);
    }
    for (const std::uint64_t seq : wanted) {
      ASSERT_TRUE(seq <= before || found.count(seq) == 1) << seq;
    }
    EXPECT_EQ(next, made.last() + 1);
  }
}

TEST(Thinning, WhatIsTooOldGoesToo) {
  // Age follows the lane's clock: it advances by an hour after the record before `oldest`, and
  // the stamps do not show it.
  full_log made(1 << 20, 700, 0);
  const std::atomic<bool> stop{false};
  std::uint64_t up_s = 1;
  (void)made.log->close();
  made.options.time = [&] { return os::machine_time{1, up_s * 1'000'000'000, 0}; };
  storage::recovery_report report;
  auto opened = storage::lane_log::open(made.disk, made.directory, {7, 1, 0}, made.options, report);
  ASSERT_TRUE(opened);
  made.log = std::move(*opened);
  while (made.log->segments() < 4) ASSERT_EQ(commit(*made.log, made.disk, made.memory, 16, 700), 0);
  const std::uint64_t oldest = made.log->next_seq();
  up_s += 3600;
  while (made.log->segments() < 7) ASSERT_EQ(commit(*made.log, made.disk, made.memory, 16, 700), 0);
  auto what = thinning_of(*made.log, 1'000'000);
  what.max_age_ns = 1'800'000'000'000;
  what.now = made.log->now();
  const auto copies = storage::thin_segments(made.disk, what, stop);
  ASSERT_EQ(copies.outcome, thin_outcome::done);
  ASSERT_EQ(made.log->replace_segments(copies.made), 0);
  const auto back = read_all_records(made.disk, made.directory);
  ASSERT_FALSE(back.seqs.empty());
  EXPECT_EQ(back.seqs.front(), oldest);
  EXPECT_EQ(back.seqs.size(), made.last() + 1 - oldest);
}

TEST(Thinning, AnAnnouncedGapIsStillAnnounced) {
  full_log made(1 << 20, 700, 2 << 20);
  const std::uint64_t before = made.last();
  ASSERT_TRUE(made.log->begin_epoch(2));
  const std::uint64_t behind = made.log->next_seq();
  ASSERT_GT(behind, before + 1);
  while (made.log->segments() < 7) ASSERT_EQ(commit(*made.log, made.disk, made.memory, 16, 700), 0);
  ASSERT_EQ(thin(*made.log, made.disk, 50), thin_outcome::done);
  const auto back = read_all_records(made.disk, made.directory);
  std::uint64_t announced = 0;
  for (const auto& loss : back.losses) {
    if (loss.reason == layout::log_gap::superseded) continue;
    EXPECT_EQ(loss.reason, layout::log_gap::unsynced);
    EXPECT_EQ(loss.first + loss.count, behind);
    EXPECT_LE(loss.first, before + 1);
    ++announced;
  }
  EXPECT_EQ(announced, 1u);
}

// Otherwise the copy would be all that is known of what the damage destroyed.
TEST(Thinning, ADamagedSegmentStaysAsItIs) {
  full_log made(1 << 20, 700, 6 << 20);
  const auto bases = made.log->bases();
  ASSERT_GT(bases.size(), 5u);
  const std::string damaged = log::segment_path(made.directory, bases[2]);
  const std::byte now{0x5a};
  made.disk.overwrite(damaged, {&now, 1}, 100'000);
  const auto contents = made.disk.contents(damaged);
  ASSERT_EQ(thin(*made.log, made.disk, 50), thin_outcome::done);
  EXPECT_EQ(made.disk.contents(damaged), contents);
  EXPECT_EQ(made.log->bases().size(), 4u);  // one copy on each side of it, and the last
  const auto back = read_all_records(made.disk, made.directory);
  std::uint64_t corrupt = 0;
  for (const auto& loss : back.losses)
    if (loss.reason != layout::log_gap::superseded) corrupt += loss.count;
  EXPECT_EQ(corrupt, 1u);
}

TEST(Thinning, LimitsCountWhatIsThere) {
  full_log made(1 << 20, 700, 9 << 20);
  ASSERT_EQ(thin(*made.log, made.disk, 100), thin_outcome::done);
  const std::uint64_t last_base = made.log->bases().back(), thinned_bytes = made.log->full_bytes();
  EXPECT_EQ(made.log->thinned().bytes, thinned_bytes);
  const std::uint64_t in_last = made.last() + 1 - last_base;
  const std::size_t segments = made.log->segments();
  EXPECT_EQ(made.log->retain({0, 0, in_last + 100 * subjects}), 0u);
  made.log.reset();
  storage::recovery_report report;
  auto opened = storage::lane_log::open(made.disk, made.directory, {7, 1, 0}, made.options, report);
  ASSERT_TRUE(opened);
  // What was thinned before is known after the restart: it is not read again in vain.
  EXPECT_EQ((*opened)->thinned().upto, last_base);
  EXPECT_EQ((*opened)->thinned().bytes, thinned_bytes);
  EXPECT_EQ((*opened)->retain({0, 0, in_last + 100 * subjects}), 0u);
  EXPECT_EQ((*opened)->retain({0, 0, in_last}), segments - 1);
}

// Retention removes the first segment after the copies are made.
TEST(Thinning, WhatWasRemovedDoesNotComeBack) {
  full_log made(1 << 20, 700, 12 << 20);
  const std::atomic<bool> stop{false};
  const auto copies = storage::thin_segments(made.disk, thinning_of(*made.log, 300), stop);
  ASSERT_EQ(copies.outcome, thin_outcome::done);
  ASSERT_GT(copies.made.size(), 1u);
  const std::uint64_t floor = made.log->bases()[1];
  ASSERT_EQ(made.log->retain({0, made.log->bytes_on_disk() - 1, 0}), 1u);
  ASSERT_EQ(made.log->replace_segments(copies.made), 0);
  const auto back = read_all_records(made.disk, made.directory);
  EXPECT_GE(back.seqs.front(), floor);
  EXPECT_TRUE(back.all_intact);
  std::vector<std::string> names;
  ASSERT_EQ(made.disk.list(made.directory, names), 0);
  for (const std::string& name : names) EXPECT_EQ(name.find(".tmp"), std::string::npos);
}

// Otherwise sequences that are lost in it later would pass for superseded.
TEST(Thinning, AThinnedSegmentIsNeverContinued) {
  full_log made(1 << 20, 700, 5 << 20);
  ASSERT_EQ(thin(*made.log, made.disk, 50), thin_outcome::done);
  const auto bases = made.log->bases();
  made.log.reset();
  ASSERT_EQ(made.disk.remove(log::segment_path(made.directory, bases.back())), 0);
  const std::string thinned = log::segment_path(made.directory, bases[bases.size() - 2]);
  const auto contents = made.disk.contents(thinned);
  storage::recovery_report report;
  auto opened = storage::lane_log::open(made.disk, made.directory, {7, 1, 0}, made.options, report);
  ASSERT_TRUE(opened);
  ASSERT_EQ(commit(**opened, made.disk, made.memory, 3, 300), 0);
  EXPECT_EQ(made.disk.contents(thinned), contents);
  EXPECT_EQ((*opened)->bases().size(), bases.size());
}

// A removed segment's records are in the segment before it, whose old form was already copied.
TEST(Thinning, ACopyThatIsOvertakenBeginsAnew) {
  const ::test::scratch place;
  const std::string stream = place.root() + "/stream", lane = stream + "/lane-0",
                    to = place.root() + "/copy";
  std::filesystem::create_directories(stream);
  for (const char* name : {"/subjects", "/stream.json"}) std::ofstream(stream + name) << "";
  log::posix_disk disk;
  storage::log_options options;
  options.segment_bytes = 1 << 20;
  options.largest_frame_bytes = full_log::largest_frame;
  options.fast_segment = {};
  const storage::frame_memory memory(full_log::largest_frame);
  auto made = storage::lane_log::create(disk, lane, {7, 1, 0}, 1'000'000, options);
  ASSERT_TRUE(made);
  while ((*made)->segments() < 8) ASSERT_EQ(commit(**made, disk, memory, 16, 700, false), 0);
  const auto wanted = newest(100, (*made)->bases().back(), (*made)->written_seq());
  const auto second = log::segment_path(to + ".part/lane-0", (*made)->bases()[1]);
  bool thinned = false;
  const auto copied = copy_log(stream, to, [&](std::uint64_t, std::uint64_t) {
    if (!thinned && std::filesystem::exists(second)) {
      thinned = true;
      EXPECT_EQ(thin(**made, disk, 100), thin_outcome::done);
    }
  });
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_TRUE(thinned);
  EXPECT_EQ(differs(read_all_records(disk, to + "/lane-0"), wanted), "");
}

// ---- damage

TEST(Thinning, AByteThatIsChangedIsToldAndCostsLittle) {
  full_log made(256 * 1024, 300, 150'000, 8);
  ASSERT_EQ(thin(*made.log, made.disk, 12), thin_outcome::done);
  const auto whole = read_all_records(made.disk, made.directory);
  const std::string path = made.first_segment();
  const auto contents = made.disk.contents(path);
  ASSERT_LT(contents.size(), 300'000u);
  std::uint64_t told = 0;
  for (std::uint64_t at = 0; at < contents.size(); ++at) {
    const std::byte now = contents[at] ^ std::byte{0x10};
    made.disk.overwrite(path, {&now, 1}, at);
    log::history history(made.disk, made.directory);
    ASSERT_EQ(history.open(), 0);
    history.seek(1);
    history.look_at_every_byte();
    std::set<std::uint64_t> found, lost;
    for (log::logged_record record;;) {
      const auto outcome = history.next(record, ~0ull);
      if (outcome == log::walk_outcome::record) {
        ASSERT_TRUE(is_intact(record)) << at;
        ASSERT_TRUE(found.insert(record.seq).second) << at;
      } else if (outcome == log::walk_outcome::gap) {
        if (layout::is_loss(history.loss().reason))
          for (std::uint64_t i = 0; i < history.loss().count; ++i)
            lost.insert(history.loss().first + i);
      } else {
        ASSERT_EQ(outcome, log::walk_outcome::end) << at;
        break;
      }
    }
    std::uint64_t missing = 0;
    for (const std::uint64_t seq : whole.seqs) {
      if (found.count(seq) != 0) continue;
      ++missing;
      ASSERT_EQ(lost.count(seq), 1u)
          << "record " << seq << " is missing, and nobody is told: byte " << at;
    }
    ASSERT_LE(missing, 1u) << at;
    ASSERT_FALSE(history.take_damages().empty()) << at;
    told += missing;
    made.disk.overwrite(path, {&contents[at], 1}, at);
  }
  EXPECT_GT(told, 1000u);
}

TEST(Thinning, ACutIsTold) {
  full_log made(256 * 1024, 700, 300'000, 8);
  ASSERT_EQ(thin(*made.log, made.disk, 20), thin_outcome::done);
  const auto whole = read_all_records(made.disk, made.directory);
  const std::string path = made.first_segment();
  const auto contents = made.disk.contents(path);
  for (std::uint64_t at = layout::log_header_bytes; at < contents.size(); at += 97) {
    const auto disk = made.disk.clone();
    disk->truncate(path, at);
    const auto back = read_all_records(*disk, made.directory);
    ASSERT_TRUE(back.all_intact);
    std::set<std::uint64_t> found(back.seqs.begin(), back.seqs.end()), lost;
    for (const auto& loss : back.losses)
      if (layout::is_loss(loss.reason))
        for (std::uint64_t i = 0; i < loss.count; ++i) lost.insert(loss.first + i);
    for (const std::uint64_t seq : whole.seqs)
      ASSERT_TRUE(found.count(seq) == 1 || lost.count(seq) == 1)
          << "record " << seq << ", cut at " << at;
  }
}

// ---- power losses and failing disks

struct small_log : full_log {
  small_log() : full_log(128 * 1024, 2000, 700'000, 8) {
    wanted = newest(5, log->bases().back(), last());
  }
  std::vector<std::uint64_t> wanted;
};

std::string after_a_power_loss(small_log& made, small_random& random, bool is_worst) {
  nothing_kept nothing;
  random_fate some(random);
  auto after = made.disk.after_power_loss(is_worst ? static_cast<fate&>(nothing) : some);
  storage::recovery_report report;
  auto opened = storage::lane_log::open(*after, made.directory, {7, 1, 0}, made.options, report);
  if (!opened) return "it does not open: " + opened.error().message();
  if (!report.damages.empty()) return "damage is told";
  if (const std::string why =
          lacks(read_all_records(*after, made.directory), made.wanted, made.last());
      !why.empty())
    return why;
  if ((*opened)->next_seq() != made.last() + 1) return "it goes on elsewhere";
  if (commit(**opened, *after, made.memory, 2, 300) != 0) return "it does not go on";
  // And thin it again.
  if (thin(**opened, *after, 5) == thin_outcome::failed) return "it is not thinned";
  return lacks(read_all_records(*after, made.directory), made.wanted, made.last() + 2);
}

TEST(Thinning, APowerLossOnTheWayCostsNothing) {
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  std::printf("BUS_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  small_random random(seed);
  small_log made;
  std::uint64_t states = 0;
  std::string wrong;
  made.disk.before_change = [&](disk_call) {
    for (int i = 0; i < 40 && wrong.empty(); ++i, ++states)
      wrong = after_a_power_loss(made, random, i == 0);
  };
  ASSERT_EQ(thin(*made.log, made.disk, 5), thin_outcome::done);
  made.disk.before_change = nullptr;
  EXPECT_EQ(wrong, "");
  EXPECT_GT(states, 400u);
  EXPECT_EQ(differs(read_all_records(made.disk, made.directory), made.wanted), "");
}

TEST(Thinning, NoCallThatFailsCostsAnything) {
  for (const bool for_ever : {false, true})
    for (const bool is_short : {false, true})
      for (std::uint64_t at = 0;; ++at) {
        small_log made;
        made.disk.set_fault(
            {at, is_short ? -ENOSPC : -EIO, for_ever, is_short, [](disk_call) { return true; }});
        const auto outcome = thin(*made.log, made.disk, 5);
        const bool fired = made.disk.faults_fired() != 0;
        made.disk.end_faults();
        ASSERT_EQ(lacks(read_all_records(made.disk, made.directory), made.wanted, made.last()), "")
            << at;
        if (outcome != thin_outcome::done) {
          ASSERT_NE(thin(*made.log, made.disk, 5), thin_outcome::failed) << at;
        }
        ASSERT_EQ(commit(*made.log, made.disk, made.memory, 2, 300), 0);
        ASSERT_EQ(lacks(read_all_records(made.disk, made.directory), made.wanted, made.last()), "")
            << at;
        if (!fired) break;
      }
}

// A check that cannot fail is useless.
TEST(Thinning, SeededBugsAreCaught) {
  small_random random(3);
  {
    small_log made;  // one less is kept
    ASSERT_EQ(thin(*made.log, made.disk, 4), thin_outcome::done);
    EXPECT_NE(lacks(read_all_records(made.disk, made.directory), made.wanted, made.last()), "");
    EXPECT_NE(differs(read_all_records(made.disk, made.directory), made.wanted), "");
  }
  small_log made;  // covered segments are removed before the copy has its name
  const std::atomic<bool> stop{false};
  const auto copies = storage::thin_segments(made.disk, thinning_of(*made.log, 5), stop);
  ASSERT_EQ(copies.outcome, thin_outcome::done);
  const auto& covers = copies.made.back().covers;
  ASSERT_GT(covers.size(), 1u);
  ASSERT_EQ(made.disk.remove(log::segment_path(made.directory, covers.back())), 0);
  ASSERT_EQ(made.disk.sync_directory(made.directory), 0);
  EXPECT_NE(after_a_power_loss(made, random, true), "");
}

}  // namespace
}  // namespace bus
