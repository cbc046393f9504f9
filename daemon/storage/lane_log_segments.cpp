/// lane_log, segments: the files of a lane: space for a new segment, its header, its name, and the
/// change from one to the next. The invariants are those of lane_log.hpp.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "os/clock.hpp"
#include "os/failure.hpp"
#include "os/random.hpp"
#include "storage/lane_log.hpp"

namespace bus::storage {

namespace {

constexpr std::uint64_t small_segment_bytes = 1 << 20;
constexpr std::size_t zero_step_bytes = 1 << 20;

std::span<const std::byte> zeroes() {
  static const frame_memory memory(zero_step_bytes);  // zeroed once
  return memory.bytes();
}

}  // namespace

std::uint64_t lane_log::least_file_bytes() const noexcept {
  return base::round_up(layout::log_header_bytes + options_.largest_frame_bytes + page, page);
}

// Keeps requesting the same file until it is there, unless it is too small. The sizes grow from a
// small file over a quarter to a whole segment, because a lane may stay quiet forever.
result<bool> lane_log::ask_for_file(std::uint64_t tail_bytes, bool now) {
  const std::uint64_t needed = base::round_up(least_file_bytes() + tail_bytes, page);
  bool zeroed = true;
  if (next_bytes_ < needed) {
    const std::uint64_t small_bytes = std::min(small_segment_bytes, options_.segment_bytes);
    const bool is_quiet =
        segments_.empty() || written_seq_ < segments_.back().base_seq || offset_ < small_bytes / 2;
    // Not zeroed if the lane would fill a whole segment within fast_segment: zeroes would cost more
    // than they gain.
    const double share =
        static_cast<double>(offset_) / static_cast<double>(std::max(file_bytes_, offset_ + 1));
    zeroed = is_quiet ||
             std::chrono::duration<double>(std::chrono::steady_clock::now() - segment_begun_) >=
                 std::chrono::duration<double>(options_.fast_segment) * share;
    const std::uint64_t quarter = options_.segment_bytes / 4;
    const std::uint64_t bytes = is_quiet                          ? small_bytes
                                : zeroed && file_bytes_ < quarter ? quarter
                                                                  : options_.segment_bytes;
    next_bytes_ = std::max(base::round_up(bytes, page), needed);
  }
  const int failure = options_.prepare_spare(directory_, next_bytes_, zeroed, now);
  if (failure == 0 || failure == -EAGAIN) return failure == 0;
  next_bytes_ = 0;
  return failed(failure, "cannot create a segment");
}

result<bool> lane_log::has_room_for(const log::frame_builder& frame) {
  const bool fits =
      file_ >= 0 && offset_ + base::round_up(frame.used_bytes(), align_) <= file_bytes_;
  if (!serves_ || poisoned_ || fits) return true;
  return ask_for_file(0, true);
}

result<bool> lane_log::has_room_to_restart() {
  if (!serves_) return true;
  return ask_for_file(2 * unsynced_bytes_, true);
}

// Removes a file. Its space is freed when it is closed: for a log that serves, in another thread.
int lane_log::drop_file(const std::string& path) {
  if (!serves_) return disk_.remove(path);
  const int file = disk_.open(path, log::disk_mode::write, false);
  const int failure = disk_.remove(path);
  if (file >= 0) closing_ = options_.close_later(file);
  return failure;
}

result<void> lane_log::open_new_file(std::string& path, std::uint64_t tail_bytes) {
  if (serves_) {  // LOG-12
    path = options_.take_spare(directory_, next_bytes_);
    const int file =
        path.empty() ? -EAGAIN : disk_.open(path, log::disk_mode::write, options_.direct);
    const std::uint64_t bytes = std::exchange(next_bytes_, 0);
    if (file < 0) return failed(file, "cannot create a segment");
    file_ = file;
    file_bytes_ = bytes;
    align_ = std::max<std::uint32_t>(512, disk_.alignment(file));
    offset_ = layout::log_header_bytes;
    previous_crc_ = 0;
    index_due_ = offset_ + layout::log_index_stride_bytes;
    index_pending_.clear();
    index_written_ = 0;
    segment_begun_ = std::chrono::steady_clock::now();
    return {};
  }
  // A hardly used segment is followed by a small one, as at first: a lane may stay quiet forever.
  const std::uint64_t small_bytes = std::min(small_segment_bytes, options_.segment_bytes);
  const bool is_quiet =
      segments_.empty() || written_seq_ < segments_.back().base_seq || offset_ < small_bytes / 2;
  const std::uint64_t wanted_bytes =
      (is_quiet ? small_bytes : options_.segment_bytes / 4) + tail_bytes;
  offset_ = layout::log_header_bytes;
  previous_crc_ = 0;
  index_due_ = offset_ + layout::log_index_stride_bytes;
  index_pending_.clear();
  index_written_ = 0;
  const std::uint64_t least = least_file_bytes();
  // A lane that fills a segment within moments makes large commits. Zeroing first would cost half
  // of the disk's throughput, and large commits gain nothing from it.
  const auto now = std::chrono::steady_clock::now();
  const bool is_fast = !is_quiet && now - segment_begun_ < options_.fast_segment;
  segment_begun_ = now;
  if (options_.take_spare && !is_quiet && !is_fast) {
    const std::uint64_t bytes = std::max(options_.segment_bytes, least);
    if (wanted_bytes <= bytes) path = options_.take_spare(directory_, bytes);
    if (!path.empty()) {
      const int file = disk_.open(path, log::disk_mode::write, options_.direct);
      if (file >= 0) {
        file_ = file;
        file_bytes_ = bytes;
        align_ = std::max<std::uint32_t>(512, disk_.alignment(file));
        return {};
      }
    }
  }
  const std::uint64_t bytes = std::max(
      base::round_up(is_fast ? std::max(options_.segment_bytes, wanted_bytes) : wanted_bytes, page),
      least);
  path = directory_ + "/new" + std::string(half_made);
  (void)disk_.remove(path);
  const int file = disk_.open(path, log::disk_mode::create, options_.direct);
  if (file < 0) return failed(file, "cannot create a segment");
  int failure = disk_.reserve(file, bytes);
  // Zeroed once, so that a commit need not also record that these blocks are now in use.
  for (std::uint64_t done = 0; failure == 0 && !is_fast && done < bytes; done += zero_step_bytes)
    failure = disk_.write(
        file, zeroes().first(std::min<std::uint64_t>(zero_step_bytes, bytes - done)), done);
  if (failure == 0) failure = disk_.sync(file);
  if (failure != 0) {
    disk_.close(file);
    (void)disk_.remove(path);
    return failed(failure, "cannot create a segment");
  }
  file_ = file;
  file_bytes_ = bytes;
  align_ = std::max<std::uint32_t>(512, disk_.alignment(file));
  return {};
}

// No record before `base_seq` has a later stamp: seconds, rounded up; ~0: not known.
std::uint32_t lane_log::latest_before(std::uint64_t base_seq) const noexcept {
  std::uint64_t latest_ns = 1;
  for (const segment& one : segments_)
    if (one.base_seq < base_seq)
      latest_ns = std::max(latest_ns, &one == &segments_.back() ? time_max_ns_ : one.latest_ns);
  constexpr std::uint64_t second = 1'000'000'000;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(latest_ns / second + (latest_ns % second != 0 ? 1 : 0), ~0u));
}

result<void> lane_log::write_header(std::uint64_t base_seq, std::uint64_t bytes,
                                    std::uint64_t gap_first, layout::log_gap reason) {
  const frame_memory memory(layout::log_header_bytes);
  layout::log_segment_header header{};
  header.magic = layout::log_magic;
  header.major = layout::log_major;
  header.minor = layout::log_minor;
  header.log_id = state_.log_id;
  header.stream_id = who_.stream_id;
  header.epoch = state_.epoch;
  header.base_seq = base_seq;
  header.segment_bytes = bytes;
  header.created_ns = os::wall_ns();
  header.gap_first = gap_first;
  header.gap_reason = static_cast<std::uint32_t>(reason);
  header.lane_index = who_.lane;
  header.align_bytes = align_;
  header.flags = options_.spill ? layout::log_flag_spill : 0;
  header.durable_upto = durable_seq_;
  header.subjects = state_.subjects;
  header.before_s = latest_before(base_seq);
  header.header_crc = log::segment_header_crc(header);
  std::memcpy(memory.bytes().data(), &header, sizeof header);
  const int failure = disk_.write(file_, memory.bytes(), 0);
  if (failure != 0) return failed(failure, "cannot start a segment");
  return {};
}

// If it fails after the rename, the segment exists, for readers and for the next open(): it is the
// last one, and only another segment can replace it.
result<void> lane_log::name_segment(const std::string& path, std::uint64_t base_seq,
                                    std::uint64_t gap_first, layout::log_gap reason) {
  // LOG-10
  if (std::find(foreign_.begin(), foreign_.end(), base_seq) != foreign_.end()) {
    const std::string theirs = log::segment_path(directory_, base_seq);
    const int moved = disk_.rename(theirs, theirs + ".foreign-" + std::to_string(os::wall_ns()));
    if (moved != 0 && moved != -ENOENT)
      return failed(moved, "cannot move another log's segment aside");
    std::erase(foreign_, base_seq);
  }
  // A replaced segment of the same base has nothing that the new one lacks.
  (void)disk_.remove(directory_ + "/" + log::index_name(base_seq));
  int failure = disk_.rename(path, log::segment_path(directory_, base_seq));
  if (failure != 0) return failed(failure, "cannot start a segment");
  if (!segments_.empty()) segments_.back().latest_ns = time_max_ns_;
  while (!segments_.empty() && segments_.back().base_seq >= base_seq) segments_.pop_back();
  segments_.push_back({base_seq, file_bytes_, {}});
  gap_first_ = 0;
  gap_reason_ = layout::log_gap::none;
  active_gap_first_ = gap_first;
  active_gap_reason_ = reason;
  failure = disk_.sync_directory(directory_);
  if (failure == 0) {
    named_base_ = base_seq;
    write_bound();
    return {};
  }
  poison();
  return failed(failure, "cannot start a segment");
}

result<void> lane_log::roll(std::uint64_t base_seq, std::uint64_t gap_first,
                            layout::log_gap reason) {
  flush_index();
  if (file_ >= 0 && written_seq_ > durable_seq_ && !options_.spill) {
    auto synced = sync();
    if (!synced) return synced;
  }
  // The old segment stays in use if the new one cannot be made.
  const auto old_file = file_;
  const auto old =
      std::tuple(offset_, file_bytes_, align_, previous_crc_, index_due_, index_written_);
  file_ = -1;
  std::string path;
  auto made = open_new_file(path, 0);
  if (made) made = write_header(base_seq, file_bytes_, gap_first, reason);
  if (made) {
    const int failure = disk_.sync(file_);
    if (failure != 0) made = failed(failure, "cannot sync a segment");
  }
  const bool was_poisoned = std::exchange(poisoned_, false);
  if (made) made = name_segment(path, base_seq, gap_first, reason);
  if (poisoned_) {
    if (old_file >= 0) disk_.close(old_file);
    return made;
  }
  poisoned_ = was_poisoned;
  if (!made) {
    if (file_ >= 0) disk_.close(file_);
    if (!path.empty()) (void)drop_file(path);
    file_ = old_file;
    std::tie(offset_, file_bytes_, align_, previous_crc_, index_due_, index_written_) = old;
    return made;
  }
  if (old_file >= 0) disk_.close(old_file);
  unsynced_bytes_ = 0;
  time_max_ns_ = 0;
  return {};
}

}  // namespace bus::storage
