#include "log/segment_reader.hpp"

#include <cerrno>
#include <utility>

namespace bus::log {

namespace {

constexpr std::uint64_t unit = layout::log_unit;
constexpr std::uint64_t resync_budget = 64;  // bytes checksummed per byte of the file

bool is_zero(const std::byte* at, std::uint64_t bytes) noexcept {
  // memcmp with itself, shifted by one: the first byte decides for all.
  return bytes == 0 ||
         (at[0] == std::byte{0} && (bytes == 1 || std::memcmp(at, at + 1, bytes - 1) == 0));
}

}  // namespace

int segment_reader::open(const std::string& path, std::uint64_t log_id, std::uint64_t base_seq,
                         const log_owner& owner) {
  const int opened = file_.open(path, log_id);
  if (opened != 0) return opened;
  file_bytes_ = base::round_down(file_.bytes(), unit);
  data_end_ = base::round_down(file_.data_end(), unit);
  header_.reset();
  damages_.clear();
  buffer_bytes_ = 0;
  buffer_limit_ = 0;
  durable_upto_ = time_max_ns_ = clean_end_ = frame_offset_ = frame_end_ = 0;
  last_frame_crc_ = 0;
  failure_ = 0;
  std::uint64_t available = 0;
  const std::byte* head = need(0, layout::log_header_bytes, available);
  if (head == nullptr) return failure_;
  if (available >= sizeof(layout::log_segment_header)) header_ = parse_segment_header(head);
  if (header_ && header_->major != layout::log_major && !file_.is_compressed())
    return -EPROTONOSUPPORT;
  if (header_ && is_foreign(*header_, log_id, base_seq, owner)) return -ESTALE;
  if (header_ && (!base::is_power_of_two(header_->align_bytes) || header_->align_bytes < unit ||
                  header_->align_bytes > layout::log_header_bytes))
    header_.reset();
  if (!header_ && log_id == 0) return -EBADMSG;
  if (!header_) {
    damages_.push_back({0, layout::log_header_bytes, base_seq, 0});
    align_ = unit;  // not known: every unit may start a frame
  } else {
    align_ = header_->align_bytes;
    durable_upto_ = header_->durable_upto;
    // The file had its length before it had its name.
    if (file_bytes_ < header_->segment_bytes)
      damages_.push_back({file_bytes_, header_->segment_bytes - file_bytes_, base_seq, 0});
    if (available >= layout::log_header_bytes &&
        !is_zero(head + sizeof(layout::log_segment_header),
                 layout::log_header_bytes - sizeof(layout::log_segment_header)))
      damages_.push_back({sizeof(layout::log_segment_header),
                          layout::log_header_bytes - sizeof(layout::log_segment_header), base_seq,
                          0});
  }
  if (!file_.is_whole()) damages_.push_back({layout::log_header_bytes, unit, base_seq, 0});
  log_id_ = log_id != 0 ? log_id : header_->log_id;
  seed_ = seed_of(log_id_);
  at_ = frame_end_ = layout::log_header_bytes;
  expected_ = base_seq;
  return 0;
}

void segment_reader::start_at(std::uint64_t seq, std::uint64_t offset) noexcept {
  at_ = frame_end_ = offset;
  expected_ = seq;
}

bool segment_reader::has_frame_at(std::uint64_t seq, std::uint64_t offset) {
  if (offset % unit != 0 || offset < layout::log_header_bytes || offset >= file_bytes_ ||
      file_bytes_ - offset < unit)
    return false;
  std::uint64_t available = 0;
  const std::byte* at = need(offset, unit, available);
  if (at == nullptr || available < unit) return false;
  const auto frame = parse_frame(seed_, at);
  return frame && frame->base_seq == seq;
}

const std::byte* segment_reader::need(std::uint64_t offset, std::uint64_t bytes,
                                      std::uint64_t& available) {
  if (offset >= buffer_offset_ && offset + bytes <= buffer_offset_ + buffer_bytes_) {
    available = buffer_offset_ + buffer_bytes_ - offset;
    return buffer_.data() + (offset - buffer_offset_);
  }
  const std::uint64_t left = file_bytes_ > offset ? file_bytes_ - offset : 0;
  const std::uint64_t wanted = std::max(bytes, std::min<std::uint64_t>(chunk_bytes, left));
  buffer_bytes_ = 0;
  buffer_limit_ = limit_;
  const std::int64_t got = file_.read({writable_buffer(wanted), wanted}, offset);
  if (got < 0) {
    failure_ = static_cast<int>(got);
    return nullptr;
  }
  buffer_offset_ = offset;
  buffer_bytes_ = base::round_down(static_cast<std::uint64_t>(got), unit);
  available = buffer_bytes_;
  return buffer_.data();
}

// READER-4: takes another buffer while a record refers to this one.
std::byte* segment_reader::writable_buffer(std::uint64_t bytes) {
  if (!buffer_.is_unique()) std::swap(buffer_, spare_);
  if (!buffer_.is_unique() || buffer_.size() < bytes)
    buffer_ = chunk_ref::make(std::max<std::uint64_t>(bytes, chunk_bytes));
  return buffer_.writable();
}

bool segment_reader::all_zero(std::uint64_t from, std::uint64_t to) {
  to = std::min(to, data_end_);
  while (from < to) {
    std::uint64_t available = 0;
    const std::byte* at = need(from, unit, available);
    if (at == nullptr || available == 0) return at != nullptr;
    const std::uint64_t bytes = std::min(available, to - from);
    if (!is_zero(at, bytes)) return false;
    from += bytes;
  }
  return true;
}

// Enters a frame of this log at `at`, if there is one whose sequence is not below the next.
bool segment_reader::try_frame(std::uint64_t at) {
  std::uint64_t available = 0;
  const std::byte* bytes = need(at, unit, available);
  if (bytes == nullptr || available < unit) return false;
  const auto frame = parse_frame(seed_, bytes);
  if (!frame || frame->base_seq < expected_) return false;
  durable_upto_ = std::max(durable_upto_, frame->durable_upto);
  time_max_ns_ = std::max(time_max_ns_, frame->time_max_ns);
  frame_ = *frame;
  last_frame_crc_ = frame->header_crc;
  frame_offset_ = at;
  at_ = at + unit;
  frame_end_ = at_ + frame->bytes;
  return true;
}

walk_outcome segment_reader::next(logged_record& found) {
  if (expected_ > buffer_limit_) buffer_bytes_ = 0;  // READER-4
  for (;;) {
    std::uint64_t available = 0;
    if (at_ + unit > file_bytes_) {
      clean_end_ = 0;
      return walk_outcome::end;
    }
    const std::byte* at = need(at_, unit, available);
    if (at == nullptr) return walk_outcome::failure;
    if (available < unit) return walk_outcome::end;  // cut off in the meantime
    const std::uint64_t claimed = claimed_bytes(at);
    std::uint32_t low;
    std::memcpy(&low, at, sizeof low);
    if (low == static_cast<std::uint32_t>(expected_) && claimed > available &&
        at_ + claimed <= data_end_) {
      at = need(at_, claimed, available);
      if (at == nullptr) return walk_outcome::failure;
    }
    if (auto record = parse_record(seed_, expected_, at, available)) {
      at_ += record->shape.total_bytes();
      ++expected_;
      found = std::move(*record);
      found.bytes = buffer_;
      return walk_outcome::record;
    }
    // Usually the end of a frame: the next one starts at the next multiple of align.
    const std::uint64_t from = at_;
    const std::uint64_t frame_at = base::round_up(at_, align_);
    const bool is_complete = from == frame_end_;
    if (all_zero(from, frame_at) && try_frame(frame_at)) {
      // Zeroes in place of records that a frame announced, or a hole in a segment without holes.
      if (!is_complete ||
          (frame_.base_seq > expected_ && hole_reason() == layout::log_gap::corrupt))
        damages_.push_back({from, frame_at - from, expected_, frame_.base_seq - expected_});
      if (frame_.base_seq > expected_) {
        gap_first_ = std::exchange(expected_, frame_.base_seq);
        return walk_outcome::gap;
      }
      continue;
    }
    if (failure_ != 0) return walk_outcome::failure;
    const walk_outcome outcome = resync();
    if (outcome != walk_outcome::record) return outcome;
  }
}

// The expected record is not here. Tries every following unit; `record` means: continue.
walk_outcome segment_reader::resync() {
  const std::uint64_t from = at_;
  // A payload may consist of what looks like heads of large records, so the work must be bounded.
  std::uint64_t budget = resync_budget * data_end_;
  for (std::uint64_t at = from; at + unit <= data_end_; at += unit) {
    std::uint64_t available = 0;
    const std::byte* bytes = need(at, unit, available);
    if (bytes == nullptr) return walk_outcome::failure;
    if (available < unit) break;
    std::uint64_t first;
    std::memcpy(&first, bytes, sizeof first);
    if (first == 0) {
      // There are long runs of zeroes after the end.
      std::uint64_t skip = unit;
      while (skip + unit <= available && is_zero(bytes + skip, unit)) skip += unit;
      if (skip > unit) at += skip - unit;
      continue;
    }
    const std::uint64_t before = expected_;
    if (try_frame(at)) {
      damages_.push_back({from, at - from, before, frame_.base_seq - before});
      if (frame_.base_seq == before) return walk_outcome::record;
      gap_first_ = std::exchange(expected_, frame_.base_seq);
      return walk_outcome::gap;
    }
    const std::uint64_t ahead = static_cast<std::uint32_t>(static_cast<std::uint32_t>(first) -
                                                           static_cast<std::uint32_t>(expected_));
    if (ahead > (data_end_ - from) / unit) continue;  // more than fit in between
    const std::uint64_t claimed = claimed_bytes(bytes);
    if (claimed == 0 || at + claimed > data_end_ || claimed > budget) continue;
    budget -= claimed;
    if (claimed > available) {
      bytes = need(at, claimed, available);
      if (bytes == nullptr) return walk_outcome::failure;
    }
    if (!parse_record(seed_, expected_ + ahead, bytes, available)) continue;
    damages_.push_back({from, at - from, expected_, ahead});
    at_ = at;
    if (ahead == 0) return walk_outcome::record;
    gap_first_ = std::exchange(expected_, expected_ + ahead);
    return walk_outcome::gap;
  }
  if (all_zero(from, file_bytes_)) {
    clean_end_ =
        from == frame_end_ || from == layout::log_header_bytes ? base::round_up(from, align_) : 0;
  } else {
    clean_end_ = 0;
    damages_.push_back({from, file_bytes_ - from, expected_, 0});
  }
  if (failure_ != 0) return walk_outcome::failure;
  at_ = from;
  return walk_outcome::end;
}

std::optional<lane_time> first_time_in(disk& from, const std::string& path, std::uint64_t log_id,
                                       std::uint64_t base_seq) {
  segment_reader reader(from);
  if (reader.open(path, log_id, base_seq) != 0) return std::nullopt;
  logged_record first;
  walk_outcome outcome = reader.next(first);
  while (outcome == walk_outcome::gap) outcome = reader.next(first);
  if (reader.frame_offset() == 0) return std::nullopt;
  return time_of(reader.frame());
}

}  // namespace bus::log
