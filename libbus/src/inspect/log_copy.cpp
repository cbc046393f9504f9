#include <bus/log_files.hpp>

#include <algorithm>
#include <cerrno>

#include "inspect/backup_manifest.hpp"
#include "log/history.hpp"
#include "log/posix_disk.hpp"
#include "log/read_around.hpp"
#include "log/subjects.hpp"
#include "os/failure.hpp"
#include "os/files.hpp"

namespace bus {

namespace {

constexpr std::size_t step_bytes = 1 << 20;

std::string lane_name(std::uint32_t lane) { return "lane-" + std::to_string(lane); }

class log_copier {
 public:
  log_copier(std::string from, std::string into, const log_progress& progress)
      : from_(std::move(from)), into_(std::move(into)), progress_(progress) {}

  // Segments first, then the files that they refer to: newer subjects than necessary are harmless.
  int run(const std::vector<std::uint32_t>& lanes) {
    int failure = disk_.make_directory(into_);
    for (const std::uint32_t lane : lanes)
      if (failure == 0) failure = copy_lane(lane);
    // busd can use either copy of these.
    for (const char* name : {"subjects", "stream.json"}) {
      if (failure != 0) break;
      failure = copy_file(name);
      const int second =
          failure == 0 || failure == -ENOENT ? copy_file(std::string(name) + ".copy") : 0;
      if (second == 0 && failure == -ENOENT)
        failure = 0;
      else if (second != -ENOENT && failure == 0)
        failure = second;
    }
    return failure;
  }
  int finish(const log_report& found) {
    for (const lane_report& lane : found.lanes)
      manifest_.lanes.push_back(
          {lane.lane, lane.first_sequence, lane.last_sequence, lane.messages});
    int failure = inspect::write_manifest(disk_, into_, manifest_);
    if (failure == 0) failure = disk_.sync_directory(into_);
    return failure;
  }
  // The copy ends with the last message found in it; the log itself may have grown since.
  int copy_state(const lane_report& lane) {
    const std::string directory = into_ + "/" + lane_name(lane.lane);
    int failure = 0;
    auto state = log::read_state(disk_, directory, failure);
    if (!state) return 0;  // damaged in the log, too: verify_log reports it
    state->durable_upto = std::max(state->durable_upto, lane.last_sequence);
    return write_state(lane.lane, *state);
  }

 private:
  int copy_file(const std::string& name) {
    const int source = disk_.open(from_ + "/" + name, log::disk_mode::read, false);
    if (source < 0) return source;
    const int target = disk_.open(into_ + "/" + name, log::disk_mode::create, false);
    int failure = target < 0 ? target : 0;
    std::vector<std::byte> buffer(step_bytes);
    inspect::copied_file copied{name, 0, 0};
    inspect::file_checksum sum;
    while (failure == 0) {
      std::uint64_t unreadable = 0;  // verify_log reports it
      const std::int64_t got = log::read_around(disk_, source, buffer, copied.bytes, unreadable);
      if (got < 0) failure = static_cast<int>(got);
      if (got <= 0) break;
      const std::span<const std::byte> part{buffer.data(), static_cast<std::size_t>(got)};
      failure = disk_.write(target, part, copied.bytes);
      sum.add(part);
      copied.bytes += part.size();
      done_ += part.size();
      if (progress_) progress_(done_, std::max(all_, done_));
    }
    if (failure == 0) failure = disk_.sync(target);
    disk_.close(source);
    if (target >= 0) disk_.close(target);
    copied.checksum = sum.value();
    if (failure == 0 && !name.ends_with(".idx")) note(copied);
    return failure;
  }
  void note(const inspect::copied_file& file) {
    std::erase_if(manifest_.files, [&](const auto& one) { return one.path == file.path; });
    manifest_.files.push_back(file);
  }

  int copy_lane(std::uint32_t lane) {
    const std::string folder = lane_name(lane);
    int failure = 0;
    // Read before the segments: what it calls durable must be among them.
    const auto before = log::read_state(disk_, from_ + "/" + folder, failure);
    bool changed = true;
    failure = 0;
    for (int round = 0; failure == 0 && changed && round < 10; ++round)
      failure = copy_segments(folder, changed);
    if (failure == 0 && changed) failure = -EAGAIN;
    if (failure != 0) return failure;
    const auto after = log::read_state(disk_, from_ + "/" + folder, failure);
    if (!before || !after) {  // damaged or missing: copied as it is
      failure = copy_file(folder + "/state");
      return failure == -ENOENT ? 0 : failure;
    }
    // `after`: no sequence above its high_water was used, and it includes what retention or a purge
    // removed meanwhile.
    layout::log_state state = *after;
    state.durable_upto = before->durable_upto;
    state.last_base = last_base_;
    failure = write_state(lane, state);
    return failure == 0 ? disk_.sync_directory(into_ + "/" + folder) : failure;
  }
  int write_state(std::uint32_t lane, layout::log_state state) {
    const std::string folder = lane_name(lane);
    int failure = log::create_state(disk_, into_ + "/" + folder, state);
    inspect::copied_file file{folder + "/state", 0, 0};
    if (failure == 0)
      failure = inspect::checksum_file(disk_, into_ + "/" + file.path, file.bytes, file.checksum);
    if (failure == 0) note(file);
    return failure;
  }

  // `changed`: a segment was removed that was not the oldest. Its records are now in the segment
  // before it, which was copied too early.
  int copy_segments(const std::string& folder, bool& changed) {
    os::remove_tree(into_ + "/" + folder);
    std::erase_if(manifest_.files,
                  [&](const auto& one) { return one.path.starts_with(folder + "/"); });
    changed = false;
    last_base_ = 0;
    std::vector<std::uint64_t> bases, gone;
    int failure = disk_.make_directory(into_ + "/" + folder);
    if (failure == 0) failure = log::list_segments(disk_, from_ + "/" + folder, bases);
    for (const std::uint64_t base_seq : bases) {
      const int file = disk_.open(log::segment_path(from_ + "/" + folder, base_seq),
                                  log::disk_mode::read, false);
      if (file < 0) continue;
      all_ += static_cast<std::uint64_t>(std::max<std::int64_t>(disk_.size(file), 0));
      disk_.close(file);
    }
    for (const std::uint64_t base_seq : bases) {
      if (failure != 0) break;
      failure = copy_file(folder + "/" + log::segment_name(base_seq));
      if (failure == -ENOENT) {
        gone.push_back(base_seq);
        failure = 0;
      } else if (failure == 0) {
        last_base_ = base_seq;
        (void)copy_file(folder + "/" + log::index_name(base_seq));
      }
    }
    if (failure != 0 || gone.empty()) return failure;
    failure = log::list_segments(disk_, from_ + "/" + folder, bases);
    changed = bases.empty() || gone.back() > bases.front();
    return failure;
  }

  log::posix_disk disk_;
  const std::string from_, into_;
  const log_progress& progress_;
  inspect::backup_manifest manifest_;
  std::uint64_t all_ = 0, done_ = 0;
  std::uint64_t last_base_ = 0;
};

}  // namespace

result<log_report> copy_log(const std::string& directory, const std::string& to,
                            const log_progress& progress) {
  log::posix_disk disk;
  std::vector<std::uint32_t> lanes;
  for (std::uint32_t lane = 0; lane < 64; ++lane)
    if (os::exists(directory + "/" + lane_name(lane))) lanes.push_back(lane);
  if (lanes.empty())
    return error{errc::not_found, ENOENT, "no log in " + directory, "it contains no lane-0",
                 "pass the directory of a stream: busd's DIR/BUS/streams/NAME"};
  if (os::exists(to))
    return error{errc::conflict, 0, "cannot copy to " + to, "it already exists",
                 "choose another directory"};
  const std::string early = to + ".part";
  os::remove_tree(early);
  log_copier copier(directory, early, progress);
  int failure = copier.run(lanes);
  std::optional<result<log_report>> found;
  if (failure == 0) {
    found = verify_log(early);
    if (!*found) {
      os::remove_tree(early);
      return std::move(*found);
    }
    for (const lane_report& lane : (*found)->lanes)
      if (failure == 0) failure = copier.copy_state(lane);
    if (failure == 0) failure = copier.finish(**found);
  }
  if (failure == 0) failure = disk.rename(early, to);
  if (failure == 0) {
    // Sync the parent, so that the copy is found under its name after a power loss.
    const auto slash = to.rfind('/');
    failure = disk.sync_directory(slash == std::string::npos ? "." : to.substr(0, slash + 1));
  }
  if (failure != 0) {
    os::remove_tree(early);
    return os::failure(-failure, "cannot copy the log in " + directory + " to " + to);
  }
  (*found)->directory = to;
  (*found)->announced.reset();
  return std::move(*found);
}

result<backup_counts> check_backup(const std::string& directory) {
  log::posix_disk disk;
  auto manifest = inspect::read_manifest(disk, directory);
  if (!manifest) return std::move(manifest.error());
  backup_counts counts;
  counts.announced = manifest->messages();
  counts.wrong = inspect::differences(disk, directory, *manifest);
  if (counts.wrong.empty()) {
    counts.found = counts.announced;
    return counts;
  }
  auto report = verify_log(directory);
  if (!report && report.error().code != errc::not_found) return std::move(report.error());
  if (report)
    for (const lane_report& lane : report->lanes) counts.found += lane.messages;
  return counts;
}

}  // namespace bus
