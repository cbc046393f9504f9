#include <bus/log_files.hpp>

#include <algorithm>
#include <cerrno>

#include "inspect/backup_manifest.hpp"
#include "log/history.hpp"
#include "log/posix_disk.hpp"
#include "log/subjects.hpp"
#include "os/failure.hpp"
#include "os/files.hpp"
#include "wire/checked_text.hpp"
#include "wire/stream_json.hpp"

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
  return {errc::not_found, ENOENT, "no log in " + directory, "it contains no lane-0",
          "pass the directory of a stream: busd's DIR/BUS/streams/NAME"};
}

}  // namespace

namespace {

// What the files of a stream state about each other, collected on the way.
struct stream_look {
  std::uint64_t stream_id = 0;  // 0: not known yet
  std::uint64_t subjects_needed = 0;
};

void note(std::vector<log_damage>& damages, std::string file, std::string why) {
  log_damage one;
  one.file = std::move(file);
  one.why = std::move(why);
  damages.push_back(std::move(one));
}

std::string reason_of(int failure) {
  return failure == -ENOENT ? "it is missing" : os::failure(-failure, "").why;
}

void look_at_state(log::disk& disk, lane_report& lane, const std::string& path,
                   stream_look& stream) {
  int failure = 0;
  log::state_damage damaged;
  const auto state = log::read_state(disk, path, failure, &damaged);
  const std::string file = path + "/state";
  if (!state)
    return note(lane.damages, file, failure == -EBADMSG ? "no copy is intact" : reason_of(failure));
  if (damaged.copies) note(lane.damages, file, "one of its copies is damaged");
  if (damaged.bound) note(lane.damages, file, "its bound is damaged");
  if (stream.stream_id == 0) stream.stream_id = state->stream_id;
  if (state->stream_id != stream.stream_id)
    note(lane.damages, file, "it belongs to another stream");
  if (state->lane_index != lane.lane)
    note(lane.damages, file, "it belongs to lane " + std::to_string(state->lane_index));
  stream.subjects_needed = std::max<std::uint64_t>(stream.subjects_needed, state->subjects);
}

result<lane_report> look_at_lane(log::disk& disk, const std::string& directory, std::uint32_t index,
                                 stream_look& stream,
                                 const std::function<void(std::uint64_t)>& progress) {
  const std::string path = lane_directory(directory, index);
  lane_report lane;
  lane.lane = index;
  look_at_state(disk, lane, path, stream);
  log::history history(disk, path);
  const int failure = history.open({stream.stream_id, index});
  if (failure == -EPROTONOSUPPORT)
    return error{errc::unsupported, 0, "cannot read the log in " + path,
                 "it was written by a newer busd", "use the newer version"};
  if (failure == -ESTALE) return lane;  // its state reports that
  if (failure == -ENOENT) {
    note(lane.damages, path, "it is missing");
    return lane;
  }
  if (failure != 0 && failure != -EBADMSG)
    return os::failure(-failure, "cannot read the log in " + path);
  lane.segments = history.bases().size();
  lane.first_sequence = history.first_seq();
  history.seek(history.due_seq());
  history.look_at_every_byte();
  // Bytes beyond the end of a segment's own sequences are checked, too: every byte counts.
  std::uint64_t last_reported = 0;
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, ~0ull);
    if (outcome == log::walk_outcome::record) {
      ++lane.messages;
      lane.bytes += record.shape.total_bytes();
      lane.last_sequence = record.seq;
      if (record.subject_id() != layout::inline_subject_id)
        stream.subjects_needed =
            std::max(stream.subjects_needed, std::uint64_t{record.subject_id()} + 1);
      if (progress && history.bytes_read() > last_reported + step_bytes * 16)
        progress(last_reported = history.bytes_read());
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
  if (progress) progress(history.bytes_read());
  for (const log::damage& one : history.take_damages())
    lane.damages.push_back({path, one.offset, one.bytes, one.first_seq, one.missing, {}});
  return lane;
}

void look_at_subjects(log::disk& disk, const std::string& directory, const stream_look& stream,
                      log_report& report) {
  for (const std::string& path :
       {log::subjects_path(directory), log::subjects_copy_path(directory)}) {
    const bool is_copy = path != log::subjects_path(directory);
    log::subjects_found found;
    const int failure = log::read_subjects(disk, path, stream.stream_id, found);
    if (failure == -ENOENT && is_copy) continue;  // not synced, so a power loss may remove it
    if (failure != 0) {
      note(report.damages, path,
           failure == -ESTALE    ? "it belongs to another stream"
           : failure == -EBADMSG ? "its header is damaged"
                                 : reason_of(failure));
      continue;
    }
    if (!is_copy) report.subjects = found.prefix_count;
    if (found.stream_id == 0) note(report.damages, path, "its header is damaged");
    if (!is_copy && found.prefix_count < stream.subjects_needed)
      note(report.damages, path,
           std::to_string(stream.subjects_needed - found.prefix_count) + " of " +
               std::to_string(stream.subjects_needed) +
               " subjects that messages refer to are missing or changed, starting at id " +
               std::to_string(found.prefix_count));
    else if (found.bad_bytes != 0)
      note(report.damages, path, std::to_string(found.bad_bytes) + " of its bytes are damaged");
  }
}

// Missing in a directory that was never busd's or a backup's: then nothing is known of the stream.
void look_at_definition(log::disk& disk, const std::string& directory,
                        const std::vector<std::uint32_t>& lanes, stream_look& stream,
                        log_report& report) {
  std::string text;
  const std::string path = directory + "/stream.json";
  const int failure = inspect::read_text(disk, path, text);
  if (failure != 0) return note(report.damages, path, reason_of(failure));
  const auto json = wire::checked(text);
  if (!json) return note(report.damages, path, "its checksum is wrong");
  // A copy still names the stream that it was copied from; its own files agree with it.
  stream.stream_id = wire::number_of(*json, "stream_id").value_or(0);
  const std::uint64_t lanes_now = wire::number_of(*json, "lanes_now").value_or(1);
  for (std::uint32_t lane = 0; lane < std::min<std::uint64_t>(lanes_now, 64); ++lane)
    if (std::find(lanes.begin(), lanes.end(), lane) == lanes.end())
      note(report.damages, lane_directory(directory, lane), "it is missing");
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
  stream_look stream;
  look_at_definition(disk, directory, lanes, stream, report);
  for (const std::uint32_t index : lanes) {
    std::uint64_t of_lane = 0;
    auto lane = look_at_lane(disk, directory, index, stream, [&](std::uint64_t bytes) {
      of_lane = bytes;
      if (progress) progress(done + bytes, std::max(all, done + bytes));
    });
    if (!lane) return std::move(lane.error());
    done += of_lane;
    report.lanes.push_back(std::move(*lane));
  }
  look_at_subjects(disk, directory, stream, report);
  if (os::exists(directory + "/" + inspect::manifest_name)) {
    auto manifest = inspect::read_manifest(disk, directory);
    if (manifest) {
      report.announced = manifest->messages();
      for (std::string& why : inspect::differences(disk, directory, *manifest))
        note(report.damages, directory, std::move(why));
    } else {
      note(report.damages, directory + "/" + inspect::manifest_name, manifest.error().why);
    }
  }
  if (progress) progress(all, all);
  return report;
}

}  // namespace bus
