#include <bus/log_files.hpp>

#include <algorithm>
#include <cerrno>

#include "log/history.hpp"
#include "log/posix_disk.hpp"
#include "log/read_around.hpp"
#include "log/subjects.hpp"
#include "os/failure.hpp"
#include "os/files.hpp"

namespace bus {

namespace {

constexpr std::size_t step_bytes = 1 << 20;
constexpr std::string_view lane_prefix = "lane-";

std::vector<std::uint32_t> lanes_of(const std::string& directory) {
  std::vector<std::uint32_t> lanes;
  for (std::uint32_t lane = 0; lane < 64; ++lane)
    if (os::exists(directory + "/" + std::string(lane_prefix) + std::to_string(lane)))
      lanes.push_back(lane);
  return lanes;
}

std::string lane_directory(const std::string& directory, std::uint32_t lane) {
  return directory + "/" + std::string(lane_prefix) + std::to_string(lane);
}

std::uint64_t size_of(log::disk& disk, const std::string& path) {
  const int file = disk.open(path, log::disk_mode::read, false);
  if (file < 0) return 0;
  const std::int64_t bytes = disk.size(file);
  disk.close(file);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0));
}

gap_reason public_reason(layout::log_gap reason) {
  switch (reason) {
    case layout::log_gap::unsynced: return gap_reason::unsynced;
    case layout::log_gap::not_logged: return gap_reason::not_logged;
    case layout::log_gap::removed: return gap_reason::removed;
    default: return gap_reason::corrupt;
  }
}

error no_log(const std::string& directory) {
  return {errc::not_found, ENOENT, "no log in " + directory, "there is no lane-0 in it",
          "give the directory of a stream: busd's DIR/BUS/streams/NAME"};
}

}  // namespace

result<log_report> verify_log(const std::string& directory, const log_progress& progress) {
  log::posix_disk disk;
  log_report report;
  report.directory = directory;
  const auto lanes = lanes_of(directory);
  if (lanes.empty()) return no_log(directory);
  std::uint64_t all = 0, done = 0;
  for (const std::uint32_t lane : lanes) {
    std::vector<std::uint64_t> bases;
    (void)log::list_segments(disk, lane_directory(directory, lane), bases);
    for (const std::uint64_t base_seq : bases)
      all += size_of(disk, log::segment_path(lane_directory(directory, lane), base_seq));
  }
  std::vector<log::known_subject> subjects;
  std::uint64_t end = 0;
  (void)log::read_subjects(disk, directory + "/subjects", subjects, end);
  report.subjects = subjects.size();
  for (const std::uint32_t index : lanes) {
    const std::string path = lane_directory(directory, index);
    lane_report lane;
    lane.lane = index;
    log::history history(disk, path);
    int failure = history.open();
    if (failure == -EPROTONOSUPPORT)
      return error{errc::unsupported, 0, "cannot read the log in " + path, "a newer busd wrote it",
                   "use the newer version"};
    if (failure != 0 && failure != -EBADMSG)
      return os::failure(-failure, "cannot read the log in " + path);
    if (size_of(disk, path + "/state") != 0) {
      int state_failure = 0;
      if (!log::read_state(disk, path, state_failure))
        lane.damages.push_back({path + "/state", 0, 2 * layout::log_state_stride, 0, 0});
    }
    lane.segments = history.bases().size();
    lane.first_sequence = history.first_seq();
    history.seek(lane.first_sequence);
    history.look_at_every_byte();
    // What lies beyond the end of a segment's own sequences is looked at, too: every byte counts.
    std::uint64_t last_told = 0;
    for (log::logged_record record;;) {
      const auto outcome = history.next(record, ~0ull);
      if (outcome == log::walk_outcome::record) {
        ++lane.messages;
        lane.bytes += record.shape.total_bytes();
        lane.last_sequence = record.seq;
        if (progress && history.bytes_read() > last_told + step_bytes * 16) {
          last_told = history.bytes_read();
          progress(done + last_told, std::max(all, done + last_told));
        }
        continue;
      }
      if (outcome == log::walk_outcome::gap) {
        if (layout::is_loss(history.loss().reason))
          lane.gaps.push_back({{},
                               index,
                               history.loss().first,
                               history.loss().count,
                               public_reason(history.loss().reason)});
        continue;
      }
      if (outcome == log::walk_outcome::failure)
        return os::failure(-history.failure(), "cannot read the log in " + path);
      break;
    }
    done += history.bytes_read();
    for (const log::damage& one : history.take_damages())
      lane.damages.push_back({path, one.offset, one.bytes, one.first_seq, one.missing});
    report.lanes.push_back(std::move(lane));
  }
  if (progress) progress(all, all);
  return report;
}

namespace {

int copy_file(log::disk& disk, const std::string& from, const std::string& to,
              const std::function<void(std::uint64_t)>& moved) {
  const int source = disk.open(from, log::disk_mode::read, false);
  if (source < 0) return source;
  const int target = disk.open(to, log::disk_mode::create, false);
  int failure = target < 0 ? target : 0;
  std::vector<std::byte> buffer(step_bytes);
  for (std::uint64_t at = 0; failure == 0;) {
    std::uint64_t unreadable = 0;  // verify tells of it
    const std::int64_t got = log::read_around(disk, source, buffer, at, unreadable);
    if (got < 0) failure = static_cast<int>(got);
    if (got <= 0) break;
    failure = disk.write(target, {buffer.data(), static_cast<std::size_t>(got)}, at);
    at += static_cast<std::uint64_t>(got);
    moved(static_cast<std::uint64_t>(got));
  }
  if (failure == 0) failure = disk.sync(target);
  disk.close(source);
  if (target >= 0) disk.close(target);
  return failure;
}

// Those of one lane. `changed`: one was removed that is not older than all others: what it held is
// in the one before it now, which was copied too early.
int copy_segments(log::disk& disk, const std::string& from, const std::string& into,
                  const std::function<void(std::uint64_t)>& moved, std::uint64_t& all,
                  bool& changed) {
  os::remove_tree(into);
  changed = false;
  std::vector<std::uint64_t> bases, gone;
  int failure = disk.make_directory(into);
  if (failure == 0) failure = log::list_segments(disk, from, bases);
  for (const std::uint64_t base_seq : bases)
    all += size_of(disk, log::segment_path(from, base_seq));
  for (const std::uint64_t base_seq : bases) {
    if (failure != 0) break;
    failure = copy_file(disk, log::segment_path(from, base_seq), log::segment_path(into, base_seq),
                        moved);
    if (failure == -ENOENT) {
      gone.push_back(base_seq);
      failure = 0;
    } else if (failure == 0) {
      (void)copy_file(disk, from + "/" + log::index_name(base_seq),
                      into + "/" + log::index_name(base_seq), moved);
    }
  }
  if (failure != 0 || gone.empty()) return failure;
  failure = log::list_segments(disk, from, bases);
  changed = !bases.empty() && gone.back() > bases.front();
  return failure;
}

}  // namespace

result<void> copy_log(const std::string& directory, const std::string& to,
                      const log_progress& progress) {
  log::posix_disk disk;
  const auto lanes = lanes_of(directory);
  if (lanes.empty()) return no_log(directory);
  if (os::exists(to))
    return error{errc::conflict, 0, "cannot copy to " + to, "it exists",
                 "choose another directory"};
  const std::string early = to + ".part";
  os::remove_tree(early);
  std::uint64_t all = 0, done = 0;
  const auto moved = [&](std::uint64_t bytes) {
    done += bytes;
    if (progress) progress(done, std::max(all, done));
  };
  int failure = disk.make_directory(early);
  // Segments first, then what they need: subjects and states that are newer than they must be do no
  // harm.
  for (const std::uint32_t lane : lanes) {
    const std::string from = lane_directory(directory, lane), into = lane_directory(early, lane);
    bool changed = true;
    for (int round = 0; failure == 0 && changed && round < 10; ++round)
      failure = copy_segments(disk, from, into, moved, all, changed);
    if (failure == 0 && changed) failure = -EAGAIN;
    if (failure == 0) failure = copy_file(disk, from + "/state", into + "/state", moved);
    if (failure == 0) failure = disk.sync_directory(into);
  }
  for (const char* name : {"/subjects", "/stream.json"})
    if (failure == 0) failure = copy_file(disk, directory + name, early + name, moved);
  if (failure == 0) failure = disk.sync_directory(early);
  if (failure == 0) failure = disk.rename(early, to);
  if (failure == 0) {
    // By its parent: after a power loss it is where it was said to be.
    const auto slash = to.rfind('/');
    failure = disk.sync_directory(slash == std::string::npos ? "." : to.substr(0, slash + 1));
  }
  if (failure != 0) {
    os::remove_tree(early);
    return os::failure(-failure, "cannot copy the log in " + directory + " to " + to);
  }
  return {};
}

}  // namespace bus
