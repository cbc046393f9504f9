/// damage: changes one file of a log, a backup or a recording in the ways of disks, restores and
/// people, and then reads it in every way. A model knows what was written.
///
/// What must hold for every damage
///   DAMAGE-1  No reader delivers anything that was not written under that sequence, and no
///             subject gets another's name.
///   DAMAGE-2  A reader reports what it does not deliver: as a gap, or by a failure.
///   DAMAGE-3  verify_log calls no log whole of which a message or a subject is missing or wrong.
///   DAMAGE-4  A backup whose files differ from what was copied is not called whole.
///   DAMAGE-5  Opening a log for writing removes nothing that could be read before, and never
///             gives out a sequence again.
///
///   BUS_DAMAGE_CASES=N   number of cases; each is one damage, read in every way
///   BUS_TEST_SEED=N      the seed of the first case, and so of all
///   BUS_TEST_CASE=N      runs only this case

#include <gtest/gtest.h>

#include <bus/log_files.hpp>
#include <bus/recording.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "scratch.hpp"
#include "log/posix_disk.hpp"
#include "log_box.hpp"
#include "simulated_disk.hpp"
#include "storage/subject_log.hpp"
#include "streams/catalog.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;

constexpr std::size_t frame_bytes = 8192;
constexpr std::uint32_t subjects_each = 7;  // add_record names subject seq % 7
constexpr std::size_t chunk_bytes = 4096;
using bytes = std::vector<std::byte>;
using tree = std::map<std::string, bytes>;  // by the path below the stream's directory

storage::log_options options_here() {
  storage::log_options options;
  options.segment_bytes = 64 * 1024;
  options.largest_frame_bytes = frame_bytes;
  options.fast_segment = {};
  return options;
}

struct lane_truth {
  std::uint64_t last = 0;
  std::uint64_t salt = 0;  // differs per lane, so that no lane's record equals another's
};

struct stream_truth {
  std::string name;
  std::uint64_t id = 0;
  std::vector<lane_truth> lanes;
  tree files, older;  // at the end, and halfway
};

std::string subject_of(const stream_truth& of, std::uint32_t id) {
  return of.name + ".s" + std::to_string(id);
}

bytes contents_of(const lane_truth& lane, std::uint64_t seq) {
  std::mt19937_64 random(seq * 1'000'003 + lane.salt);
  bytes made(40 + random() % 700);
  for (std::byte& one : made) one = static_cast<std::byte>(random());
  return made;
}

/// Two streams next to each other, built as busd builds them.
class world {
 public:
  world() {
    for (const char* path : {"disk", "disk/data", "disk/data/t"}) (void)disk_.make_directory(path);
    EXPECT_TRUE(catalog_.prepare());
    add("a", 101, 2);
    add("b", 202, 1);
    for (int half = 0; half < 2; ++half) {
      for (stream_truth& stream : streams) {
        for (std::uint32_t lane = 0; lane < stream.lanes.size(); ++lane)
          write(stream, lane, 130 + 40 * lane);
        (half == 0 ? stream.older : stream.files) = collect(stream);
      }
    }
    for (auto& [name, logs] : logs_)  // a clean stop
      for (auto& log : logs) EXPECT_TRUE(log->close());
    logs_.clear();
    for (stream_truth& stream : streams) stream.files = collect(stream);
  }

  std::vector<stream_truth> streams;

 private:
  void add(const std::string& name, std::uint64_t id, std::uint32_t lanes) {
    streams::definition made;
    made.config.name = name;
    made.config.subjects = {name + ".>"};
    made.config.storage = storage_class::durable;
    made.config.mode = lane_mode::per_publisher;
    made.config.lanes = 4;
    made.stream_id = id;
    made.lanes = lanes;
    auto added = catalog_.add(made, 1 << 20, options_here());
    EXPECT_TRUE(added) << (added ? "" : added.error().message());
    stream_truth truth;
    truth.name = name;
    truth.id = id;
    std::string mended;
    auto subjects =
        storage::subject_log::open(disk_, catalog_.directory_of(name), id, 0, {}, mended);
    std::vector<log::known_subject> more;
    for (std::uint32_t i = 0; i < subjects_each; ++i) more.push_back({subject_of(truth, i), 0});
    EXPECT_TRUE(subjects && subjects->append(more));
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      truth.lanes.push_back({0, id * 10 + lane});
      storage::recovery_report report;
      auto log = storage::lane_log::open(disk_, catalog_.lane_directory_of(name, lane),
                                         {id, 1, lane}, options_here(), report);
      EXPECT_TRUE(log);
      (*log)->note_subjects(subjects_each);
      logs_[name].push_back(std::move(*log));
    }
    streams.push_back(std::move(truth));
  }
  void write(stream_truth& stream, std::uint32_t index, std::uint32_t count) {
    lane_truth& lane = stream.lanes[index];
    storage::lane_log& log = *logs_[stream.name][index];
    while (count != 0) {
      log::frame_builder frame(memory_.bytes(), log.log_id(), log.align());
      frame.begin(log.next_seq());
      for (std::uint32_t i = 0; i < 6 && count != 0; ++i, --count) {
        const std::uint64_t seq = frame.next_seq();
        const bytes payload = contents_of(lane, seq);
        frame.add({static_cast<std::uint32_t>(payload.size()), 0, 0},
                  layout::pack_origin(static_cast<std::uint32_t>(seq % subjects_each), 1),
                  time_of(seq),
                  [&](std::byte* to) { std::memcpy(to, payload.data(), payload.size()); });
        lane.last = seq;
      }
      EXPECT_TRUE(log.raise_high_water(lane.last, 1 << 16));
      EXPECT_TRUE(log.begin(frame, true, 1, -1));
      log::disk_completion done;
      EXPECT_EQ(disk_.reap({&done, 1}, 1), 1);
      EXPECT_EQ(log.finished(done.failure), 0);
    }
  }
  tree collect(const stream_truth& stream) {
    tree found;
    const std::string root = catalog_.directory_of(stream.name);
    std::vector<std::string> names;
    (void)disk_.list(root, names);
    for (const std::string& name : names) {
      if (!name.starts_with("lane-")) {
        found[name] = disk_.contents(root + "/" + name);
        continue;
      }
      std::vector<std::string> inner;
      (void)disk_.list(root + "/" + name, inner);
      for (const std::string& one : inner)
        found[name + "/" + one] = disk_.contents(root + "/" + name + "/" + one);
    }
    return found;
  }

  simulated_disk disk_;
  streams::catalog catalog_{disk_, "disk/data/t"};
  storage::frame_memory memory_{frame_bytes};
  std::map<std::string, std::vector<std::unique_ptr<storage::lane_log>>> logs_;
};

void write_file(const std::string& path, const bytes& what) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(what.data()), static_cast<std::streamsize>(what.size()));
}
bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> text((std::istreambuf_iterator<char>(in)), {});
  bytes made(text.size());
  std::memcpy(made.data(), text.data(), text.size());
  return made;
}
void write_tree(const std::string& root, const tree& files) {
  std::filesystem::remove_all(root);
  for (const auto& [path, what] : files) {
    std::filesystem::create_directories(std::filesystem::path(root + "/" + path).parent_path());
    write_file(root + "/" + path, what);
  }
}
tree read_tree(const std::string& root) {
  tree files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root))
    if (entry.is_regular_file())
      files[std::filesystem::relative(entry.path(), root).string()] =
          read_file(entry.path().string());
  return files;
}

/// A check that a reader omits, to prove that the test notices it.
enum class mistake : std::uint8_t { none, trusts_names, forgets_gaps };

enum class operation : std::uint8_t {
  flip,
  cut,
  empty,
  remove,
  duplicate,
  swap,
  old_chunk,
  old_file,
  zero_chunk
};
constexpr const char* operation_names[] = {
    "flip", "cut", "empty", "remove", "duplicate", "swap", "old chunk", "old file", "zero chunk"};

struct damage_done {
  operation what{};
  std::string file, text;
  bool changed = false;
  bool removed = false;
  std::string also;  // a file that was added
};

/// Damages `file` in `files`.
damage_done do_damage(std::mt19937_64& random, tree& files, const std::string& file,
                      const tree& older, const std::vector<const bytes*>& others) {
  damage_done done;
  done.file = file;
  done.what = static_cast<operation>(random() % 9);
  bytes& what = files[file];
  const bytes before = what;
  switch (done.what) {
    case operation::flip:
      if (!what.empty())
        what[random() % what.size()] ^= static_cast<std::byte>(1u << (random() % 8));
      break;
    case operation::cut: what.resize(what.empty() ? 0 : random() % what.size()); break;
    case operation::empty: what.clear(); break;
    case operation::remove: files.erase(file), done.removed = true; break;
    case operation::duplicate: {
      // Doubles its contents, or stores a segment again under the name of another sequence.
      if (file.ends_with(".log") && random() % 2 == 0) {
        char name[32];
        std::snprintf(name, sizeof name, "%020llu.log",
                      static_cast<unsigned long long>(1 + random() % 400));
        const std::string path = file.substr(0, file.find('/') + 1) + name;
        if (files.contains(path)) break;
        done.also = path;
        files[path] = before;
      } else {
        what.insert(what.end(), before.begin(), before.end());
      }
      break;
    }
    case operation::swap: what = others.empty() ? what : *others[random() % others.size()]; break;
    case operation::old_file:
    case operation::old_chunk: {
      const auto old = older.find(file);
      if (old == older.end()) break;
      if (done.what == operation::old_file) {
        what = old->second;
        break;
      }
      if (old->second.empty()) break;
      const std::size_t at =
          random() % ((old->second.size() + chunk_bytes - 1) / chunk_bytes) * chunk_bytes;
      const std::size_t size = std::min(chunk_bytes, old->second.size() - at);
      if (what.size() < at + size) break;
      std::memcpy(what.data() + at, old->second.data() + at, size);
      break;
    }
    case operation::zero_chunk: {
      if (what.empty()) break;
      const std::size_t at =
          random() % ((what.size() + chunk_bytes - 1) / chunk_bytes) * chunk_bytes;
      std::memset(what.data() + at, 0, std::min(chunk_bytes, what.size() - at));
      break;
    }
  }
  done.changed = done.removed || !done.also.empty() || what != before;
  done.text = std::string(operation_names[static_cast<std::size_t>(done.what)]) + " of " + file;
  return done;
}

struct lane_read {
  std::set<std::uint64_t> seqs;
  bool complete = false;  // all that was written was read
  std::string wrong;
};

/// Reads like a subscriber, in batches: keeps every record until the end and compares them then.
lane_read read_lane(log::disk& disk, const std::string& directory, const stream_truth& stream,
                    std::uint32_t index, mistake forgets) {
  lane_read read;
  const lane_truth& lane = stream.lanes[index];
  const std::string where = "lane " + std::to_string(index) + " of '" + stream.name + "': ";
  log::history history(disk, directory);
  const log::log_owner owner{stream.id, index};
  // a failure to open is a report
  if (history.open(forgets == mistake::trusts_names ? log::log_owner{} : owner) != 0) return read;
  history.seek(1);
  std::vector<log::logged_record> kept;
  std::set<std::uint64_t> told;
  bool failed = false;
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, ~0ull);
    if (outcome == log::walk_outcome::record) kept.push_back(record);
    if (outcome == log::walk_outcome::gap && forgets != mistake::forgets_gaps)
      for (std::uint64_t i = 0; i < std::min<std::uint64_t>(history.loss().count, 4096); ++i)
        told.insert(history.loss().first + i);
    failed = outcome == log::walk_outcome::failure;
    if (outcome >= log::walk_outcome::end) break;
  }
  for (const auto& record : kept) {
    if (record.seq == 0 || record.seq > lane.last) {
      read.wrong = where + "#" + std::to_string(record.seq) + " was never written";
      return read;
    }
    const bytes payload = contents_of(lane, record.seq);
    if (record.shape.payload_bytes != payload.size() ||
        std::memcmp(record.payload(), payload.data(), payload.size()) != 0 ||
        record.subject_id() != record.seq % subjects_each ||
        record.time_ns != time_of(record.seq)) {
      read.wrong =
          where + "#" + std::to_string(record.seq) + " came with what another one held (DAMAGE-1)";
      return read;
    }
    if (!read.seqs.insert(record.seq).second) {
      read.wrong = where + "#" + std::to_string(record.seq) + " came twice (DAMAGE-1)";
      return read;
    }
  }
  read.complete = read.seqs.size() == lane.last;
  for (std::uint64_t seq = 1; !failed && seq <= lane.last; ++seq)
    if (!read.seqs.contains(seq) && !told.contains(seq)) {
      read.wrong = where + "#" + std::to_string(seq) + " is missing, and nobody is told (DAMAGE-2)";
      return read;
    }
  return read;
}

class damage_run {
 public:
  damage_run(const world& from, const std::string& root, mistake forgets)
      : world_(from), root_(root), forgets_(forgets) {}

  std::string of_log(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const stream_truth& stream = world_.streams[random() % world_.streams.size()];
    tree files = stream.files;
    const damage_done done =
        random() % 20 == 0 ? swap_lane(random, stream, files) : damage(random, stream, files);
    if (!done.changed) return {};
    ++cases;
    const std::string directory = root_ + "/log";
    write_tree(directory, files);
    const std::string wrong = judge_log(directory, stream, done);
    return wrong.empty() ? wrong : done.text + ": " + wrong;
  }

  std::string of_backup(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const stream_truth& stream = world_.streams[0];
    if (backup_.empty()) {
      write_tree(root_ + "/source", stream.files);
      write_tree(root_ + "/source-b", world_.streams[1].files);
      auto copied = copy_log(root_ + "/source", root_ + "/backup");
      auto other = copy_log(root_ + "/source-b", root_ + "/backup-b");
      if (!copied || !other)
        return "no copy can be made: " + (copied ? other : copied).error().message();
      if (!copied->is_whole()) return "a copy of a whole log is not whole";
      backup_ = read_tree(root_ + "/backup");
      backup_of_b_ = read_tree(root_ + "/backup-b");
      auto checked = check_backup(root_ + "/backup");
      if (!checked || !checked->wrong.empty()) return "a whole backup is called damaged";
    }
    tree files = backup_;
    const std::string file = pick(random, files);
    std::vector<const bytes*> others;
    for (const auto& [path, what] : backup_of_b_)
      if (kind_of(path) == kind_of(file)) others.push_back(&what);
    for (const auto& [path, what] : backup_)
      if (path != file && kind_of(path) == kind_of(file)) others.push_back(&what);
    const damage_done done = do_damage(random, files, file, stream.older, others);
    if (!done.changed || file.ends_with(".idx")) return {};  // an index only saves time
    ++cases;
    const std::string directory = root_ + "/backup-bad";
    write_tree(directory, files);
    const auto checked = check_backup(directory);
    if (checked && checked->wrong.empty() && done.also.empty())
      return done.text + ": the backup passes (DAMAGE-4)";
    const auto report = verify_log(directory);
    const bool is_log = file == "manifest" && done.removed;  // nothing shows that it is a backup
    if (report && report->is_whole() && !is_log)
      return done.text + ": verify_log calls the backup whole (DAMAGE-3)";
    return {};
  }

  std::string of_recording(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    if (recording_.empty()) {
      for (const char* name : {"one", "two"}) {
        auto writer = recording_writer::create(root_ + "/" + name);
        if (!writer) return "no recording can be made";
        for (std::uint64_t i = 1; i <= recorded; ++i) {
          const bytes payload = contents_of({0, name[0] == 'o' ? 1u : 2u}, i);
          if (!writer->add("r." + std::to_string(i % 5), payload, {}, {}))
            return "a message cannot be recorded";
          if (i == recorded / 2 && name[0] == 'o' && writer->flush())
            older_recording_["r"] = read_file(root_ + "/one.part");
        }
        if (!writer->close()) return "a recording cannot be ended";
      }
      recording_ = read_file(root_ + "/one");
      other_recording_ = read_file(root_ + "/two");
    }
    tree files = {{"r", recording_}};
    const damage_done done = do_damage(random, files, "r", older_recording_, {});
    if (!done.changed) return {};
    ++cases;
    const std::string path = root_ + "/damaged";
    std::filesystem::remove(path);
    if (!done.removed) write_file(path, files["r"]);
    auto reader = recording_reader::open(path);
    if (!reader) return {};
    std::uint64_t count = 0;
    while (const auto found = reader->next()) {
      ++count;
      const bytes payload = contents_of({0, 1}, found->number);
      if (found->number > recorded || found->subject != "r." + std::to_string(found->number % 5) ||
          found->payload.size() != payload.size() ||
          std::memcmp(found->payload.data(), payload.data(), payload.size()) != 0)
        return done.text + ": message " + std::to_string(found->number) + " is wrong (DAMAGE-1)";
    }
    if (count != recorded && !reader->failure())
      return done.text + ": messages are missing, and nobody is told (DAMAGE-2)";
    return {};
  }

  std::uint64_t cases = 0;

 private:
  static constexpr std::uint64_t recorded = 90;

  static std::string kind_of(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const auto dot = name.rfind('.');
    return name.ends_with(".log") || name.ends_with(".idx") ? name.substr(dot) : name;
  }
  static std::string pick(std::mt19937_64& random, const tree& files) {
    auto at = files.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random() % files.size()));
    return at->first;
  }
  damage_done damage(std::mt19937_64& random, const stream_truth& stream, tree& files) {
    const std::string file = pick(random, files);
    std::vector<const bytes*> others;
    for (const stream_truth& one : world_.streams)
      for (const auto& [path, what] : one.files)
        if (kind_of(path) == kind_of(file) && (&one != &stream || path != file))
          others.push_back(&what);
    return do_damage(random, files, file, stream.older, others);
  }

  /// Replaces a lane's files by all files of another lane, of this stream or another.
  damage_done swap_lane(std::mt19937_64& random, const stream_truth& stream, tree& files) {
    const stream_truth& other = world_.streams[random() % world_.streams.size()];
    const std::string to = "lane-" + std::to_string(random() % stream.lanes.size()) + "/";
    const std::string from = "lane-" + std::to_string(random() % other.lanes.size()) + "/";
    damage_done done;
    done.what = operation::swap;
    done.file = to;
    done.text = "'" + other.name + "' " + from + " instead of '" + stream.name + "' " + to;
    done.changed = &other != &stream || from != to;
    std::erase_if(files, [&](const auto& one) { return one.first.starts_with(to); });
    for (const auto& [path, what] : other.files)
      if (path.starts_with(from)) files[to + path.substr(from.size())] = what;
    return done;
  }

  std::string judge_log(const std::string& directory, const stream_truth& stream,
                        const damage_done& done) {
    log::posix_disk disk;
    bool complete = true;
    std::vector<lane_read> before;
    for (std::uint32_t lane = 0; lane < stream.lanes.size(); ++lane) {
      before.push_back(read_lane(disk, lane_of(directory, lane), stream, lane, forgets_));
      if (!before.back().wrong.empty()) return before.back().wrong;
      complete = complete && before.back().complete;
    }
    log::subjects_found subjects;
    bool subjects_there =
        log::read_subjects(disk, log::subjects_path(directory), stream.id, subjects) == 0 &&
        subjects.prefix_count >= subjects_each;
    for (std::uint32_t id = 0; id < subjects_each && subjects_there; ++id)
      if (subjects.by_id[id]->text != subject_of(stream, id))
        return "subject " + std::to_string(id) + " is another (DAMAGE-1)";
    const auto report = verify_log(directory);
    if (report && report->is_whole() && (!complete || !subjects_there))
      return "verify_log calls it whole (DAMAGE-3)";
    if (report && report->is_whole() && done.removed && !done.file.ends_with(".idx") &&
        !done.file.ends_with(".copy"))
      return "a file is missing, and verify_log calls it whole (DAMAGE-3)";
    // Opens it as busd does.
    std::string mended;
    auto table = storage::subject_log::open(disk, directory, stream.id, subjects_each, {}, mended);
    if (table)
      for (std::uint32_t id = 0; id < subjects_each; ++id)
        if (id >= table->known().size() || table->known()[id].text != subject_of(stream, id))
          return "busd takes another name for subject " + std::to_string(id) + " (DAMAGE-1)";
    if (table && !subjects_there && mended.empty())
      return "subjects were mended, and nobody is told (DAMAGE-2)";
    for (std::uint32_t lane = 0; lane < stream.lanes.size(); ++lane) {
      storage::recovery_report recovered;
      auto log = storage::lane_log::open(disk, lane_of(directory, lane), {stream.id, 1, lane},
                                         options_here(), recovered);
      if (log && !before[lane].seqs.empty() && (*log)->next_seq() <= *before[lane].seqs.rbegin())
        return "next_seq() is " + std::to_string((*log)->next_seq()) + " (DAMAGE-5)";
      if (log) log->reset();
      const lane_read after = read_lane(disk, lane_of(directory, lane), stream, lane, forgets_);
      if (!after.wrong.empty()) return "once busd opened it: " + after.wrong;
      for (const std::uint64_t seq : before[lane].seqs)
        if (!after.seqs.contains(seq))
          return "#" + std::to_string(seq) + " could be read, and is removed (DAMAGE-5)";
    }
    return {};
  }
  static std::string lane_of(const std::string& directory, std::uint32_t lane) {
    return directory + "/lane-" + std::to_string(lane);
  }

  const world& world_;
  const std::string root_;
  const mistake forgets_;
  tree backup_, backup_of_b_, older_recording_;
  bytes recording_, other_recording_;
};

std::string run(std::string (damage_run::*judge)(std::uint64_t), std::uint64_t count,
                mistake forgets = mistake::none) {
  const world made;
  if (::testing::Test::HasFailure()) return "the logs cannot be made";
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  const std::uint64_t only = number_from("BUS_TEST_CASE", ~0ull);
  const ::test::scratch place;
  damage_run one(made, place.root(), forgets);
  std::string wrong;
  for (std::uint64_t i = 0; i < count && wrong.empty(); ++i) {
    if (only != ~0ull && i != only) continue;
    wrong = (one.*judge)(seed + i);
    if (!wrong.empty())
      wrong += "\n  again: BUS_TEST_SEED=" + std::to_string(seed) +
               " BUS_TEST_CASE=" + std::to_string(i);
  }
  std::printf("BUS_TEST_SEED=%llu: %llu damages\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(one.cases));
  if (wrong.empty() && only == ~0ull && one.cases < count / 2)
    wrong = "most damages changed nothing";
  return wrong;
}

std::uint64_t cases_wanted() { return number_from("BUS_DAMAGE_CASES", 14'000); }

TEST(Damage, OfAFileOfALog) { EXPECT_EQ(run(&damage_run::of_log, cases_wanted()), ""); }
TEST(Damage, OfAFileOfABackup) { EXPECT_EQ(run(&damage_run::of_backup, cases_wanted() / 5), ""); }
TEST(Damage, OfARecording) { EXPECT_EQ(run(&damage_run::of_recording, cases_wanted()), ""); }

// A check that cannot fail is useless.
TEST(Damage, AMistakeOfAReaderIsNoticed) {
  EXPECT_NE(run(&damage_run::of_log, cases_wanted(), mistake::trusts_names), "");
  EXPECT_NE(run(&damage_run::of_log, cases_wanted(), mistake::forgets_gaps), "");
}

}  // namespace
}  // namespace bus
