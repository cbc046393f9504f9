/// streams_power_loss: whole streams are added, changed and removed, with lanes and records, as
/// busd does. The power fails before every change of the disk, and busd is killed now and then.
/// Then it starts on what is left, and the result is checked.
///
/// What must hold in every state
///   START-1  It starts: every definition and every log can be opened.
///   START-2  A stream whose add had returned is there, with a definition that is not older than
///            the last one stored, all its lanes, and all records that were durable. A stream
///            whose remove had returned is not.
///   START-3  A stream whose add or remove was interrupted is there as a whole or not at all.
///            After the start no half-made or half-removed directory is left.
///   START-4  What is served after a start stays, whatever fails then.
///
///   BUS_STORAGE_SECONDS=N   how long
///   BUS_TEST_SEED=N         the seed of the first life, and so of all

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <random>

#include "log_box.hpp"
#include "simulated_disk.hpp"
#include "storage/subject_log.hpp"
#include "streams/catalog.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;

constexpr std::uint32_t lanes_max = 3;
constexpr std::size_t frame_bytes = 4096;
const std::string directory = "disk/data/t";

storage::log_options log_options_here() {
  storage::log_options options;
  options.segment_bytes = 64 * 1024;
  options.largest_frame_bytes = frame_bytes;
  options.fast_segment = {};
  return options;
}

streams::definition definition_of(const std::string& name, std::uint64_t id, std::uint64_t version,
                                  std::uint32_t lanes) {
  streams::definition made;
  made.config.name = name;
  made.config.subjects = {name + ".>"};
  made.config.storage = storage_class::durable;
  made.config.mode = lane_mode::per_publisher;
  made.config.lanes = lanes_max;
  made.config.max_messages = version;
  made.stream_id = id;
  made.lanes = lanes;
  return made;
}

struct range {
  std::uint64_t least = 0, most = 0;
  bool has(std::uint64_t value) const { return value >= least && value <= most; }
};

/// What was reported durable (least), and what was attempted (most).
struct stream_said {
  bool must_be_there = false;
  std::uint64_t id = 0;
  range version, lanes, subjects;
  std::vector<range> records;  // of each lane
};
using book = std::map<std::string, stream_said>;

struct stream_found {
  streams::definition made;
  std::uint64_t subjects = 0;
  std::vector<std::uint64_t> records;
  std::vector<std::unique_ptr<storage::lane_log>> logs;
  std::optional<storage::subject_log> subject_log;
};
using all_found = std::map<std::string, stream_found>;

// Starts as busd does. Returns what is wrong, or an empty string.
std::string start(log::disk& disk, streams::catalog& catalog, all_found& found) {
  if (auto prepared = catalog.prepare(); !prepared)
    return "it does not start: " + prepared.error().message();
  std::vector<std::string> names;
  if (disk.list(directory + "/streams", names) != 0) return "the streams cannot be listed";
  for (const std::string& name : names)
    if (name.starts_with(".")) return name + " is left";
  std::vector<error> problems;
  auto all = catalog.load(problems);
  if (!all) return "it does not load: " + all.error().message();
  if (!problems.empty()) return problems.front().message();
  for (const streams::definition& made : *all) {
    const std::string& name = made.config.name;
    stream_found& one = found[name];
    one.made = made;
    if (auto synced = catalog.sync_stream(name); !synced) return synced.error().message();
    std::string mended;
    auto subjects =
        storage::subject_log::open(disk, catalog.directory_of(name), made.stream_id, 0, {}, mended);
    if (!subjects) return "no subjects: " + subjects.error().message();
    one.subjects = subjects->count();
    one.subject_log.emplace(std::move(*subjects));
    for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
      const std::string path = catalog.lane_directory_of(name, lane);
      storage::recovery_report report;
      auto log = storage::lane_log::open(disk, path, {made.stream_id, made.epoch, lane},
                                         log_options_here(), report);
      if (!log) return "a lane does not open: " + log.error().message();
      if (report.state_rebuilt || !report.damages.empty()) return "a lane is damaged: " + path;
      const auto back = read_all_records(disk, path);
      if (back.failure != 0 || !back.all_intact || !back.losses.empty())
        return "a lane cannot be read: " + path;
      for (std::size_t i = 0; i < back.seqs.size(); ++i)
        if (back.seqs[i] != i + 1)
          return "record " + std::to_string(i + 1) + " of " + path + " is missing";
      if ((*log)->next_seq() != back.seqs.size() + 1) return path + " goes on elsewhere";
      one.records.push_back(back.seqs.size());
      one.logs.push_back(std::move(*log));
    }
  }
  return {};
}

std::string judge(const book& said, const all_found& found) {
  for (const auto& [name, stream] : said)
    if (stream.must_be_there && !found.contains(name)) return "the stream '" + name + "' is gone";
  for (const auto& [name, stream] : found) {
    const auto entry = said.find(name);
    if (entry == said.end()) return "the stream '" + name + "' was removed, and is there";
    const stream_said& was = entry->second;
    const std::string of = " of the stream '" + name + "'";
    if (stream.made.stream_id != was.id) return "another one" + of;
    if (!was.version.has(stream.made.config.max_messages))
      return "version " + std::to_string(stream.made.config.max_messages) + of + ", " +
             std::to_string(was.version.least) + " was stored";
    if (!was.lanes.has(stream.made.lanes)) return std::to_string(stream.made.lanes) + " lanes" + of;
    if (!was.subjects.has(stream.subjects))
      return std::to_string(stream.subjects) + " subjects" + of;
    for (std::size_t lane = 0; lane < stream.records.size(); ++lane)
      if (!was.records[lane].has(stream.records[lane]))
        return std::to_string(stream.records[lane]) + " records" + of + ", " +
               std::to_string(was.records[lane].least) + " were durable";
  }
  return {};
}

// What is served: exactly this must be there from now on.
book settled(const all_found& found) {
  book said;
  for (const auto& [name, stream] : found) {
    stream_said& is = said[name];
    is = {true, stream.made.stream_id, {}, {}, {}, {}};
    is.version = {stream.made.config.max_messages, stream.made.config.max_messages};
    is.lanes = {stream.made.lanes, stream.made.lanes};
    is.subjects = {stream.subjects, stream.subjects};
    for (const std::uint64_t count : stream.records) is.records.push_back({count, count});
  }
  return said;
}

struct seeded_bug {
  const char* name;
  disk_lie lie = disk_lie::none;
  bool (*forgets)(const std::string& path, bool starts) = nullptr;
};

struct killed {};

class stream_life {
 public:
  stream_life(std::uint64_t seed, const seeded_bug& bug, std::atomic<std::uint64_t>& states)
      : seed_(seed), random_(seed), states_(states) {
    disk_.lie = bug.lie;
    if (bug.forgets != nullptr)
      disk_.forgets_sync_of = [this, bug](const std::string& path) {
        return bug.forgets(path, starts_);
      };
  }

  std::string run() {
    for (const char* path : {"disk", "disk/data", "disk/data/t"}) (void)disk_.make_directory(path);
    disk_.before_change = [this](disk_call call) {
      lose_power(call);
      if (wrong_.empty() && until_kill_ != never && until_kill_-- == 0) throw killed{};
    };
    begin();
    for (int step = 0; step < 24 && wrong_.empty(); ++step) {
      if (random_() % 8 == 0) until_kill_ = random_() % 40;
      try {
        live_on();
      } catch (const killed&) {
        until_kill_ = never;
        begin();
      }
    }
    if (wrong_.empty()) wrong_ = disk_.misuse();
    return wrong_.empty() ? wrong_ : "seed " + std::to_string(seed_) + ": " + wrong_;
  }

 private:
  static constexpr std::uint64_t never = ~0ull;

  void begin() {
    until_kill_ = never;
    serving_.clear();
    const std::string wrong = start_on(disk_, catalog_, serving_);
    if (wrong_.empty()) wrong_ = wrong.empty() ? judge(said_, serving_) : wrong;
    said_ = settled(serving_);
  }
  std::string start_on(log::disk& disk, streams::catalog& catalog, all_found& found) {
    const bool before = std::exchange(starts_, true);
    std::string wrong = start(disk, catalog, found);
    starts_ = before;
    return wrong;
  }

  void lose_power(disk_call call) {
    if (!wrong_.empty()) return;
    constexpr std::uint64_t all_up_to = 24, samples = 6;
    if (disk_.state_count(all_up_to + 1) <= all_up_to) {
      every_fate every;
      do {
        examine(every);
      } while (wrong_.empty() && every.next());
    } else {
      nothing_kept worst;
      examine(worst);
      for (std::uint64_t i = 0; i < samples && wrong_.empty(); ++i) {
        random_fate<std::mt19937_64> other(random_);
        examine(other);
      }
    }
    if (!wrong_.empty()) wrong_ += "; power was lost before " + std::string(name_of(call));
  }

  void examine(fate& decides) {
    ++states_;
    const auto left = disk_.after_power_loss(decides);
    streams::catalog catalog(*left, directory);
    all_found found;
    wrong_ = start_on(*left, catalog, found);
    if (wrong_.empty()) wrong_ = judge(said_, found);
    if (!wrong_.empty() || random_() % 4 != 0) return;
    // START-4.
    const book now = settled(found);
    nothing_kept once_more;
    const auto later = left->after_power_loss(once_more);
    streams::catalog again(*later, directory);
    all_found found_again;
    wrong_ = start_on(*later, again, found_again);
    if (wrong_.empty()) wrong_ = judge(now, found_again);
    if (!wrong_.empty()) wrong_ += "; and once more";
  }

  // ---- requests to busd

  void live_on() {
    const std::string name(1, static_cast<char>('a' + random_() % 3));
    if (!serving_.contains(name)) return add(name);
    const std::uint64_t dice = random_() % 10;
    if (dice < 4) return write(name);
    if (dice < 5) return add_subjects(name);
    if (dice < 7) return edit(name);
    if (dice < 8) return add_lane(name);
    remove(name);
  }

  void add(const std::string& name) {
    const auto made = definition_of(name, ++ids_, 1, 1 + random_() % 2);
    said_[name] = {false,  made.stream_id,
                   {1, 1}, {made.lanes, made.lanes},
                   {},     std::vector<range>(made.lanes)};
    if (auto added = catalog_.add(made, 1 << 20, log_options_here()); !added)
      return blame(added.error());
    said_[name].must_be_there = true;
    serve(made);
  }
  // Like keeper::restore after an add.
  void serve(const streams::definition& made) {
    stream_found one;
    one.made = made;
    std::string mended;
    auto subjects = storage::subject_log::open(disk_, catalog_.directory_of(made.config.name),
                                               made.stream_id, 0, {}, mended);
    if (!subjects) return blame(subjects.error());
    one.subject_log.emplace(std::move(*subjects));
    for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
      storage::recovery_report report;
      auto log = storage::lane_log::open(disk_, catalog_.lane_directory_of(made.config.name, lane),
                                         {made.stream_id, 1, lane}, log_options_here(), report);
      if (!log) return blame(log.error());
      one.logs.push_back(std::move(*log));
    }
    serving_[made.config.name] = std::move(one);
  }

  void write(const std::string& name) {
    auto& logs = serving_.at(name).logs;
    const std::size_t lane = random_() % logs.size();
    const auto count = static_cast<std::uint32_t>(1 + random_() % 4);
    range& records = said_.at(name).records[lane];
    records.most += count;
    if (commit(*logs[lane], disk_, memory_, count, random_() % 900) != 0)
      return blame("a record cannot be written");
    records.least = records.most;
  }

  void add_subjects(const std::string& name) {
    auto& log = *serving_.at(name).subject_log;
    range& subjects = said_.at(name).subjects;
    std::vector<log::known_subject> more;
    for (std::uint64_t n = 1 + random_() % 3; n != 0; --n)
      more.push_back({name + "." + std::to_string(++subjects.most), 0});
    if (auto added = log.append(more); !added) return blame(added.error());
    subjects.least = subjects.most;
  }

  void edit(const std::string& name) {
    auto& made = serving_.at(name).made;
    range& version = said_.at(name).version;
    made.config.max_messages = ++version.most;
    if (auto stored = catalog_.store(made); !stored) return blame(stored.error());
    version.least = version.most;
  }

  void add_lane(const std::string& name) {
    stream_found& stream = serving_.at(name);
    if (stream.made.lanes == lanes_max) return;
    auto changed = stream.made;
    ++changed.lanes;
    stream_said& says = said_.at(name);
    says.lanes.most = changed.lanes;
    says.records.resize(changed.lanes);
    auto log = catalog_.add_lane(changed, 1 << 20, log_options_here());
    if (!log) return blame(log.error());
    says.lanes.least = changed.lanes;
    stream.made = changed;
    stream.logs.push_back(std::move(*log));
  }

  void remove(const std::string& name) {
    said_.at(name).must_be_there = false;
    serving_.erase(name);
    if (auto removed = catalog_.remove(name); !removed) return blame(removed.error());
    said_.erase(name);
  }

  void blame(const error& why) { blame(why.message()); }
  void blame(const std::string& why) {
    if (wrong_.empty()) wrong_ = why;
  }

  const std::uint64_t seed_;
  std::mt19937_64 random_;
  std::atomic<std::uint64_t>& states_;
  simulated_disk disk_;
  streams::catalog catalog_{disk_, directory};
  storage::frame_memory memory_{frame_bytes};
  all_found serving_;
  book said_;
  bool starts_ = false;
  std::uint64_t ids_ = 100;
  std::uint64_t until_kill_ = never;
  std::string wrong_;
};

std::string run_lives(std::uint64_t seed, const seeded_bug& bug, std::chrono::seconds duration,
                      std::atomic<std::uint64_t>& lives, std::atomic<std::uint64_t>& states) {
  return for_each_number(
      ~0ull,
      [&](std::uint64_t number) {
        ++lives;
        return stream_life(seed + number, bug, states).run();
      },
      std::chrono::steady_clock::now() + duration);
}

TEST(Streams, AreThereAsAWholeOrNotAtAllAfterAPowerLoss) {
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  const auto seconds = std::chrono::seconds(number_from("BUS_STORAGE_SECONDS", 16));
  std::atomic<std::uint64_t> lives{0}, states{0};
  const std::string wrong = run_lives(seed, {"none"}, seconds, lives, states);
  std::printf("BUS_TEST_SEED=%llu: %llu lives, %llu states after a power loss\n",
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(lives.load()),
              static_cast<unsigned long long>(states.load()));
  EXPECT_EQ(wrong, "");
  EXPECT_GT(states, 1000u);
}

bool is_lane(const std::string& path) { return path.find("/lane-") != std::string::npos; }
bool is_new(const std::string& path) { return path.find("/.new-") != std::string::npos; }
bool is_stream(const std::string& path) {
  return path.starts_with(directory + "/streams/") && !is_lane(path);
}

class SeededBug : public ::testing::TestWithParam<seeded_bug> {};

// A check that cannot fail is useless.
TEST_P(SeededBug, IsCaught) {
  std::atomic<std::uint64_t> lives{0}, states{0};
  const std::string wrong = run_lives(1, GetParam(), std::chrono::seconds(120), lives, states);
  std::printf("%s\n", wrong.c_str());
  EXPECT_NE(wrong, "");
}

INSTANTIATE_TEST_SUITE_P(
    Streams, SeededBug,
    ::testing::Values(
        seeded_bug{"sync_does_nothing", disk_lie::sync_does_nothing},
        seeded_bug{"rename_before_sync", disk_lie::rename_before_data},
        seeded_bug{"no_sync_above", disk_lie::none,
                   [](const std::string& path, bool) { return path == "disk"; }},
        seeded_bug{"no_sync_of_data", disk_lie::none,
                   [](const std::string& path, bool) { return path == directory; }},
        seeded_bug{"no_sync_of_streams", disk_lie::none,
                   [](const std::string& path, bool starts) {
                     return path == directory + "/streams" && !starts;
                   }},
        seeded_bug{"no_sync_of_the_new_stream", disk_lie::none,
                   [](const std::string& path, bool) { return is_new(path) && !is_lane(path); }},
        seeded_bug{"no_sync_of_the_definition", disk_lie::none,
                   [](const std::string& path, bool starts) {
                     return is_stream(path) && !is_new(path) && !starts;
                   }},
        seeded_bug{"no_sync_of_the_lane", disk_lie::none,
                   [](const std::string& path, bool starts) { return is_lane(path) && !starts; }},
        seeded_bug{"no_sync_of_streams_at_the_start", disk_lie::none,
                   [](const std::string& path, bool starts) {
                     return path == directory + "/streams" && starts;
                   }},
        seeded_bug{"no_sync_of_a_stream_at_the_start", disk_lie::none,
                   [](const std::string& path, bool starts) { return is_stream(path) && starts; }}),
    [](const auto& with) { return std::string(with.param.name); });

}  // namespace
}  // namespace bus
