/// bit_rot: changes every byte of a closed log, one at a time, and cuts every file at every
/// offset. Readers get every untouched record and no wrong contents, and the damage is reported.
/// The writer opens the log, keeps intact records where they are, resumes, and reuses no
/// sequence.

#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "log_life.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;

/// The bytes of a record.
struct place {
  std::size_t file = 0;
  std::uint64_t from = 0, to = 0;
};

struct closed_log {
  struct file {
    std::string path;
    std::uint64_t bytes = 0;
    std::uint64_t records_end = 0;
    bool is_last = false;
  };
  std::unique_ptr<simulated_disk> disk;
  std::vector<file> segments, indexes;
  std::vector<place> places;  // of record 1, 2, ...
  std::vector<std::vector<std::byte>> contents;
  std::vector<std::uint32_t> salts;
  std::uint64_t segment_bytes = 0;
  std::uint64_t high_water = 0;

  std::uint64_t count() const noexcept { return places.size(); }
};

closed_log make_log(std::uint64_t segment_bytes, std::uint64_t records_bytes,
                    std::uint32_t record_bytes_max) {
  closed_log made;
  made.segment_bytes = segment_bytes;
  auto disk = std::make_unique<simulated_disk>();
  const std::string directory = log_life::directory();
  (void)disk->make_directory(directory);
  log_life life(*disk, 11);
  life.options().segment_bytes = segment_bytes;
  EXPECT_TRUE(life.create());
  std::uint64_t written = 0;
  while (written < records_bytes) {
    const std::size_t before = life.book.live.size();
    EXPECT_TRUE(life.append(static_cast<std::uint32_t>(1 + life.random().below(5)),
                            record_bytes_max, life.random().percent(80)));
    for (std::size_t i = before; i < life.book.live.size(); ++i)
      written += layout::record_shape{life.book.live[i].bytes, 0, 0}.total_bytes();
  }
  EXPECT_TRUE(life.close());
  EXPECT_EQ(life.wrong(), "");
  made.high_water = life.log()->high_water();
  for (const begun_record& record : life.book.live) {
    made.contents.push_back(contents_of(record));
    made.salts.push_back(record.salt);
  }
  std::vector<std::uint64_t> bases;
  EXPECT_EQ(log::list_segments(*disk, directory, bases), 0);
  for (std::size_t i = 0; i < bases.size(); ++i) {
    log::segment_reader reader(*disk);
    const std::string path = log::segment_path(directory, bases[i]);
    EXPECT_EQ(reader.open(path, life.log()->log_id(), bases[i]), 0);
    closed_log::file segment{path, reader.file_bytes(), layout::log_header_bytes,
                             i + 1 == bases.size()};
    for (log::logged_record record; reader.next(record) == log::walk_outcome::record;) {
      segment.records_end = reader.position();
      made.places.push_back({i, reader.position() - record.shape.total_bytes(), reader.position()});
      EXPECT_EQ(made.places.size(), record.seq);
    }
    made.segments.push_back(segment);
    const std::string index = directory + "/" + log::index_name(bases[i]);
    if (const auto bytes = disk->contents(index).size(); bytes != 0)
      made.indexes.push_back({index, bytes, 0, false});
  }
  EXPECT_EQ(made.count(), life.book.live.size());
  made.disk = disk->clone();
  return made;
}

struct read_result {
  std::vector<bool> found;  // which old records were found; [0] is record 1
  std::vector<std::uint64_t> others;
  bool is_told = false;
  std::string wrong;
};

// Reads from `from` on and compares each old record with what was written.
read_result read_log(const closed_log& log, simulated_disk& disk, std::uint64_t from = 1) {
  read_result result;
  result.found.resize(log.count());
  log::history history(disk, log_life::directory());
  if (const int failure = history.open(); failure != 0) {
    result.wrong = "history.open(): " + std::to_string(failure);
    return result;
  }
  history.seek(from);
  std::uint64_t next = from;
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, ~0ull);
    if (outcome == log::walk_outcome::gap) {
      if (history.loss().first != next)
        result.wrong = "a gap begins at " + std::to_string(history.loss().first);
      next = history.loss().first + history.loss().count;
      result.is_told = true;
      continue;
    }
    if (outcome == log::walk_outcome::failure)
      result.wrong = "failure " + std::to_string(history.failure());
    if (outcome != log::walk_outcome::record) break;
    if (record.seq != next)
      result.wrong = "record " + std::to_string(record.seq) + " without a gap before it";
    next = record.seq + 1;
    const std::size_t index = record.seq - 1;
    const auto salt = static_cast<std::uint32_t>(record.origin >> 32);
    if (index >= log.count() || salt != log.salts[index]) {
      result.others.push_back(record.seq);
      continue;
    }
    result.found[index] = true;
    const auto& contents = log.contents[index];
    if (record.shape.payload_bytes != contents.size() || record.time_ns != time_of(record.seq) ||
        std::memcmp(record.payload(), contents.data(), contents.size()) != 0)
      result.wrong = "record " + std::to_string(record.seq) + " has other contents";
  }
  result.is_told = result.is_told || !history.take_damages().empty();
  return result;
}

struct injury {
  std::string path;
  std::uint64_t offset = 0;
  std::byte flipped{};  // 0: the file is cut there
  std::size_t segment = ~std::size_t{0};
};

// Empty: all is as it must be.
std::string check(const closed_log& log, const injury& hurt) {
  const std::string where = (hurt.flipped == std::byte{} ? "cut at " : "flipped at ") +
                            std::to_string(hurt.offset) + " of " + hurt.path + ": ";
  const auto disk = log.disk->clone();
  const bool is_cut = hurt.flipped == std::byte{};
  if (is_cut) {
    disk->truncate(hurt.path, hurt.offset);
  } else {
    const std::byte now = disk->contents(hurt.path)[hurt.offset] ^ hurt.flipped;
    disk->overwrite(hurt.path, {&now, 1}, hurt.offset);
  }
  const auto is_hurt = [&](const place& at) {
    return at.file == hurt.segment &&
           (is_cut ? at.to > hurt.offset : at.from <= hurt.offset && hurt.offset < at.to);
  };
  const auto compare = [&](const read_result& got, const char* when) -> std::string {
    if (!got.wrong.empty()) return where + when + got.wrong;
    for (std::size_t i = 0; i < log.count(); ++i)
      if (got.found[i] == is_hurt(log.places[i]))
        return where + when + "record " + std::to_string(i + 1) +
               (got.found[i] ? " came back" : " was dropped");
    return {};
  };

  const auto before = read_log(log, *disk);
  if (auto wrong = compare(before, ""); !wrong.empty()) return wrong;
  if (!before.others.empty()) return where + "records that nobody wrote";
  if (hurt.segment < log.segments.size()) {
    // Readers need not read past the last record of an older segment.
    const auto& segment = log.segments[hurt.segment];
    if (!before.is_told && (segment.is_last || hurt.offset < segment.records_end))
      return where + "nobody was told";
  } else if (before.is_told) {
    return where + "a reader was told of damage that is none of the log's";
  }

  log_life life(*disk, hurt.offset);
  life.options().segment_bytes = log.segment_bytes;
  if (!life.open_only()) return where + "open() failed: " + life.failure();
  const bool is_last = hurt.segment < log.segments.size() && log.segments[hurt.segment].is_last;
  const bool is_state = hurt.path.ends_with("/state");
  if (is_state && !life.report().state_damaged && !life.report().state_rebuilt)
    return where + "open() did not tell that the state is damaged";
  if (is_last && life.report().damages.empty() && life.report().cut_bytes == 0)
    return where + "open() did not tell of damage";
  if (life.log()->high_water() < log.high_water) return where + "the high water fell";
  if (!(is_cut && is_last) && life.log()->next_seq() <= log.count())
    return where + "next_seq() is " + std::to_string(life.log()->next_seq()) +
           ", a sequence that was used";
  life.set_salt(1'000'000);
  const std::uint64_t next = life.log()->next_seq();
  if (!life.append(2, 100, true) || !life.append(1, 100, true))
    return where + "append() failed: " + life.failure();
  const auto after = read_log(log, *disk);
  if (auto wrong = compare(after, "after going on, "); !wrong.empty()) return wrong;
  if (after.others != std::vector<std::uint64_t>{next, next + 1, next + 2})
    return where + "after going on, the new records are not all there";
  return life.wrong().empty() ? std::string() : where + life.wrong();
}

std::byte pattern_of(std::uint64_t offset) {
  return offset % 9 == 8 ? std::byte{0xff} : static_cast<std::byte>(1u << (offset % 9 % 8));
}

TEST(BitRot, EveryByteAndEveryCutOfASmallLog) {
  const closed_log log = make_log(32 * 1024, 60 * 1024, 900);
  ASSERT_GT(log.segments.size(), 2u);
  std::vector<injury> all;
  for (std::size_t i = 0; i < log.segments.size(); ++i)
    for (std::uint64_t offset = 0; offset < log.segments[i].bytes; ++offset) {
      all.push_back({log.segments[i].path, offset, pattern_of(offset), i});
      all.push_back({log.segments[i].path, offset, std::byte{}, i});
    }
  const std::string state = log_life::directory() + "/state";
  for (std::uint64_t offset = 0; offset < 2 * layout::log_state_stride; ++offset) {
    all.push_back({state, offset, pattern_of(offset), ~std::size_t{0}});
    all.push_back({state, offset, std::byte{}, ~std::size_t{0}});
  }
  const auto wrong =
      for_each_number(all.size(), [&](std::uint64_t number) { return check(log, all[number]); });
  std::printf("%zu injuries of a log of %zu segments and %llu records\n", all.size(),
              log.segments.size(), static_cast<unsigned long long>(log.count()));
  EXPECT_EQ(wrong, "");
}

TEST(BitRot, SamplesOfALargerLogWithIndexes) {
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  std::printf("BUS_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  const closed_log log = make_log(8 << 20, 1200 * 1024, 3000);
  ASSERT_GT(log.segments.size(), 1u);
  ASSERT_FALSE(log.indexes.empty());
  small_random random(seed);
  std::vector<injury> all;
  for (int i = 0; i < 1000; ++i) {
    const std::size_t segment = random.below(log.segments.size());
    const bool behind = random.percent(5);
    const std::uint64_t offset =
        random.below(behind ? log.segments[segment].bytes : log.segments[segment].records_end);
    all.push_back({log.segments[segment].path, offset,
                   random.percent(80) ? pattern_of(random()) : std::byte{}, segment});
  }
  const auto wrong =
      for_each_number(all.size(), [&](std::uint64_t number) { return check(log, all[number]); });
  EXPECT_EQ(wrong, "");
}

TEST(BitRot, AnIndexIsOnlyAHint) {
  const closed_log log = make_log(8 << 20, 1200 * 1024, 3000);
  ASSERT_FALSE(log.indexes.empty());
  std::vector<injury> all;
  for (const auto& index : log.indexes)
    for (std::uint64_t offset = 0; offset < index.bytes; ++offset) {
      all.push_back({index.path, offset, pattern_of(offset), ~std::size_t{0}});
      all.push_back({index.path, offset, std::byte{}, ~std::size_t{0}});
    }
  const auto wrong = for_each_number(all.size(), [&](std::uint64_t number) -> std::string {
    if (auto found = check(log, all[number]); !found.empty()) return found;
    const auto disk = log.disk->clone();
    const injury& hurt = all[number];
    if (hurt.flipped == std::byte{}) {
      disk->truncate(hurt.path, hurt.offset);
    } else {
      const std::byte now = disk->contents(hurt.path)[hurt.offset] ^ hurt.flipped;
      disk->overwrite(hurt.path, {&now, 1}, hurt.offset);
    }
    for (std::uint64_t part = 1; part < 6; ++part) {
      const std::uint64_t from = part * log.count() / 6;
      const auto got = read_log(log, *disk, from);
      if (!got.wrong.empty() || got.is_told)
        return "from " + std::to_string(from) + ": " + got.wrong;
      for (std::uint64_t seq = from; seq <= log.count(); ++seq)
        if (!got.found[seq - 1])
          return "from " + std::to_string(from) + ": no record " + std::to_string(seq);
    }
    return {};
  });
  std::printf("%zu injuries of %zu indexes\n", all.size(), log.indexes.size());
  EXPECT_EQ(wrong, "");
}

// A missing state is treated like a damaged one.
TEST(BitRot, AStateThatIsGone) {
  const closed_log log = make_log(32 * 1024, 60 * 1024, 900);
  for (const bool is_closed : {true, false}) {
    const auto disk = log.disk->clone();
    log_life life(*disk, 5);
    life.options().segment_bytes = log.segment_bytes;
    std::vector<std::uint64_t> others;
    if (!is_closed) {
      ASSERT_TRUE(life.open_only());
      life.set_salt(1'000'000);
      others.push_back(life.log()->next_seq());
      ASSERT_TRUE(life.append(1, 100, true));
    }
    ASSERT_EQ(disk->remove(log_life::directory() + "/state"), 0);
    ASSERT_TRUE(life.open_only()) << life.failure();
    EXPECT_TRUE(life.report().state_rebuilt);
    EXPECT_EQ(life.log()->next_seq(), log.count() + 1 + others.size());
    others.push_back(life.log()->next_seq());
    ASSERT_TRUE(life.append(1, 100, true)) << life.failure();
    const auto got = read_log(log, *disk);
    EXPECT_EQ(got.wrong, "");
    EXPECT_EQ(got.found, std::vector<bool>(log.count(), true));
    EXPECT_EQ(got.others, others);
  }
}

// A check that cannot fail is useless.
TEST(BitRot, SeededBugIsCaught) {
  closed_log log = make_log(32 * 1024, 60 * 1024, 900);
  log.contents[5][0] ^= std::byte{1};
  EXPECT_NE(check(log, {log.segments[0].path, 0, std::byte{1}, 0}), "");
  log.contents[5][0] ^= std::byte{1};
  EXPECT_EQ(check(log, {log.segments[0].path, 0, std::byte{1}, 0}), "");
  log.places[5].to = log.places[5].from;  // as if no byte of it had been touched
  EXPECT_NE(check(log, {log.segments[0].path, log.places[5].from + 40, std::byte{1}, 0}), "");
}

}  // namespace
}  // namespace bus
