/// lane_log, restart: how a log continues after a failure (LOG-3), or after an end that could not
/// be read. The invariants are those of lane_log.hpp.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "os/failure.hpp"
#include "storage/lane_log.hpp"

namespace bus::storage {

// LOG-7. What the disk cannot read may be a torn end, a hole, or neither.
result<void> lane_log::leave_unread(std::uint64_t last, recovery_report& report) {
  poisoned_ = false;
  // What can be read may be only in the page cache.
  const std::string path = log::segment_path(directory_, segments_.back().base_seq);
  const int file = disk_.open(path, log::disk_mode::write, false);
  int failure = file < 0 ? file : disk_.sync(file);
  if (file >= 0) disk_.close(file);
  if (failure != 0) return failed(failure, "cannot sync the log");
  report.rewritten = 0;
  time_max_ns_ = ~0ull;
  unread_from_ = std::max(last + 1, state_.first_seq);
  unsynced_bytes_ = 0;
  resume_at(unread_from_);  // open() moves it above the high water, once that is known
  return {};
}

void lane_log::resume_at(std::uint64_t seq) noexcept {
  BUS_ASSERT(has_unread_end(), seq);
  next_seq_ = std::clamp(seq, unread_from_, std::max(unread_from_, state_.high_water + 1));
  written_seq_ = durable_seq_ = next_seq_ - 1;
  const bool is_gap = next_seq_ > unread_from_;
  gap_first_ = is_gap ? unread_from_ : 0;
  gap_reason_ = is_gap ? layout::log_gap::corrupt : layout::log_gap::none;
}

// LOG-3. The tail is copied from the files: the page cache has what the disk may lack.
result<void> lane_log::restart() {
  in_flight_.reset();
  if (file_ >= 0) disk_.close(file_);
  file_ = -1;
  // Older segments were durable before this one got its name. Those of a spill log need not be.
  const std::uint64_t first =
      std::max(durable_seq_ + 1, segments_.empty() ? 0 : segments_.back().base_seq);
  const std::uint64_t last = written_seq_;
  // the new segment replaces the last one, and announces its gap
  if (gap_reason_ == layout::log_gap::none && !segments_.empty() &&
      segments_.back().base_seq == first) {
    gap_first_ = active_gap_first_;
    gap_reason_ = active_gap_reason_;
  }
  next_seq_ = written_seq_ + 1;
  if (gap_reason_ != layout::log_gap::none && first > last) {
    auto rolled = roll(next_seq_, gap_first_, gap_reason_);
    poisoned_ = !rolled;
    if (rolled) durable_seq_ = written_seq_;
    return rolled;
  }
  std::string path;
  // Space for the tail, however it was framed, and for more.
  auto made = open_new_file(path, 2 * unsynced_bytes_);
  if (!made) return made;
  made = write_header(first, file_bytes_, gap_first_, gap_reason_);
  if (made && first <= last) made = copy_tail(first, last);
  if (made) {
    const int failure = disk_.sync(file_);
    if (failure != 0) made = failed(failure, "cannot sync the log");
  }
  if (made) made = name_segment(path, first, gap_first_, gap_reason_);
  if (!made) {
    poison();
    if (!path.empty()) (void)drop_file(path);
    return made;
  }
  durable_seq_ = written_seq_;
  unsynced_bytes_ = 0;
  poisoned_ = false;
  return {};
}

// Copies records [first, last] from the named segments into the new file. Omits unreadable ones.
result<void> lane_log::copy_tail(std::uint64_t first, std::uint64_t last) {
  log::history from(disk_, directory_);
  if (const int failure = from.open(); failure != 0) return failed(failure, "cannot read the log");
  from.seek(first);
  frame_memory memory(options_.largest_frame_bytes);
  log::frame_builder frame(memory.bytes(), state_.log_id, align_);
  std::uint64_t copied = first - 1;
  frame.set_time(now());
  const auto put = [&]() -> result<void> {
    if (frame.count() == 0) return {};
    std::uint32_t crc = 0;
    const auto bytes = frame.finish(durable_seq_, previous_crc_, crc);
    if (offset_ + bytes.size() > file_bytes_)
      return error{errc::no_space, 0, "cannot write the tail of the log in " + directory_,
                   "it does not fit into one segment", "use a larger --segment-bytes"};
    const int failure = disk_.write(file_, bytes, offset_);
    if (failure != 0) return failed(failure, "cannot write the log");
    offset_ += bytes.size();
    previous_crc_ = crc;
    return {};
  };
  frame.begin(first);
  bool in_batch = false;
  std::uint64_t batch_seq = first, batch_bytes = 0;
  std::uint32_t batch_count = 0;
  for (log::logged_record record; copied < last;) {
    const auto outcome = from.next(record, last);
    if (outcome == log::walk_outcome::failure) return failed(from.failure(), "cannot read the log");
    if (outcome == log::walk_outcome::end) break;
    if (outcome == log::walk_outcome::gap) continue;
    const bool follows = record.seq == frame.next_seq();
    if (!follows && !options_.spill && record.seq > durable_seq_)
      break;  // a suffix is lost (LOG-1)
    if (!frame.fits(record.shape.total_bytes()) && follows && batch_count != 0 && in_batch) {
      // The whole batch goes into the next frame.
      frame.drop_to(batch_count, batch_bytes);
      const std::uint64_t again = batch_seq;
      auto written = put();
      if (!written) return written;
      from.seek(again);
      frame.begin(again);
      copied = again - 1;
      in_batch = false;
      continue;
    }
    if (!frame.fits(record.shape.total_bytes()) || !follows) {
      auto written = put();
      if (!written) return written;
      frame.begin(record.seq);
      in_batch = false;
    }
    if (!in_batch) {
      batch_seq = record.seq;
      batch_count = frame.count();
      batch_bytes = frame.used_bytes();
    }
    in_batch = (record.shape.flags & layout::flag_continues) != 0;
    frame.add(record.shape, record.origin, record.time_ns, [&](std::byte* to) {
      std::memcpy(to, record.header(),
                  std::size_t{record.shape.header_bytes} + record.shape.payload_bytes);
    });
    copied = record.seq;
  }
  if (recovers_ && from.unreadable_bytes() != 0) {
    unread_from_ = first;
    return failed(-EIO, "cannot read the log");
  }
  // LOG-11: the end of the batch cannot be read
  if (in_batch && copied > durable_seq_ && !options_.keeps_torn_batches) {
    frame.drop_to(batch_count, batch_bytes);
    copied = batch_seq - 1;
  }
  written_seq_ = copied;
  next_seq_ = copied + 1;
  return put();
}

}  // namespace bus::storage
