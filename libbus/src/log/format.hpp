#pragma once
/// format: builds and recognises the frames and records of a log.
///
/// A record in the log is the record of the ring with two words changed: word 0 holds its checksum
/// and the low half of its sequence, word 3 the wall clock. The checksum is seeded with the log's
/// id and the full sequence, and covers all bytes after word 0, including the padding. So a record
/// is recognised wherever it is found.
/// Format     docs/format/log.md

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "base/assert.hpp"
#include "base/bits.hpp"
#include "base/crc32c.hpp"
#include "layout/log.hpp"
#include "layout/record.hpp"
#include "log/chunk.hpp"

namespace bus::log {

/// A record in a buffer that was read from a log. `bytes` keeps that buffer: `data` is valid as
/// long as this record, or a copy of it, exists.
struct logged_record {
  const std::byte* data = nullptr;
  std::uint64_t seq = 0;
  layout::record_shape shape{};
  std::uint64_t origin = 0;
  std::uint64_t time_ns = 0;
  chunk_ref bytes{};

  std::uint32_t subject_id() const noexcept { return static_cast<std::uint32_t>(origin); }
  const std::byte* header() const noexcept { return data + layout::record_header_bytes; }
  const std::byte* payload() const noexcept { return header() + shape.header_bytes; }
};

inline std::uint32_t seed_of(std::uint64_t log_id) noexcept {
  return base::crc32c(0, &log_id, sizeof log_id);
}

inline std::uint32_t record_crc(std::uint32_t seed, std::uint64_t seq, const std::byte* record,
                                std::uint64_t total_bytes) noexcept {
  return base::crc32c(base::crc32c(seed, &seq, sizeof seq), record + 8, total_bytes - 8);
}

/// The record at `at`, if it is one; it refers to no chunk yet.
/// REQUIRES: `available` bytes at `at`, at least one unit.
std::optional<logged_record> parse_record(std::uint32_t seed, std::uint64_t seq,
                                          const std::byte* at, std::uint64_t available) noexcept;

/// How many bytes a record at `at` would take; 0: it cannot be one.
inline std::uint64_t claimed_bytes(const std::byte* at) noexcept {
  std::uint64_t shape;
  std::memcpy(&shape, at + 8, sizeof shape);
  const auto parsed = layout::record_shape::unpack(shape);
  return parsed.header_bytes % layout::header_align == 0 ? parsed.total_bytes() : 0;
}

std::uint32_t frame_crc(std::uint32_t seed, layout::log_frame frame) noexcept;
std::optional<layout::log_frame> parse_frame(std::uint32_t seed, const std::byte* at) noexcept;

std::uint32_t segment_header_crc(layout::log_segment_header header) noexcept;
std::optional<layout::log_segment_header> parse_segment_header(const std::byte* at) noexcept;

/// The stream and lane that a log belongs to. A stream id of 0: not known, and not checked.
struct log_owner {
  std::uint64_t stream_id = 0;
  std::uint32_t lane = 0;
};
/// True for a valid header that names another log, stream, lane or sequence than expected.
/// `log_id`: 0 when it is not known.
inline bool is_foreign(const layout::log_segment_header& header, std::uint64_t log_id,
                       std::uint64_t base_seq, const log_owner& owner) noexcept {
  return (log_id != 0 && header.log_id != log_id) || header.base_seq != base_seq ||
         (owner.stream_id != 0 &&
          (header.stream_id != owner.stream_id || header.lane_index != owner.lane));
}

/// `table`: all of it, with offsets and padding; its own crc is left out.
std::uint32_t block_table_crc(std::uint32_t seed, std::span<const std::byte> table) noexcept;
constexpr std::uint64_t block_table_bytes(std::uint64_t block_count) noexcept {
  return base::round_up(sizeof(layout::log_block_table) + block_count * 8, layout::log_unit);
}
std::uint32_t block_head_crc(std::uint32_t seed, layout::log_block head) noexcept;
/// The head, if its checksum holds and its sizes are possible.
std::optional<layout::log_block> parse_block(std::uint32_t seed, const std::byte* at) noexcept;
/// Including head and padding.
constexpr std::uint64_t block_file_bytes(std::uint64_t stored_bytes) noexcept {
  return base::round_up(sizeof(layout::log_block) + stored_bytes, layout::log_unit);
}

std::uint32_t index_crc(std::uint32_t seed, const layout::log_index_entry& entry) noexcept;
std::uint32_t state_crc(const layout::log_state& state) noexcept;
std::uint32_t subjects_header_crc(const layout::log_subjects_header& header) noexcept;
std::uint32_t subject_crc(std::uint64_t stream_id, const layout::log_subject& head,
                          const char* text) noexcept;

/// "00000000000000000042.log"
std::string segment_name(std::uint64_t base_seq);
std::string index_name(std::uint64_t base_seq);
/// Empty: it is not the name of a segment.
std::optional<std::uint64_t> base_of_name(const std::string& name) noexcept;

/// A reading of a lane's clock. It never goes back, and stops while the time is not known.
struct lane_time {
  std::uint32_t up_s = 0;
  std::uint32_t off_s = 0;
};
/// The time that passed between the two. Time that the machine was off counts at most as much as
/// time that it was up, so nothing is old because of a wall clock alone.
constexpr std::uint64_t seconds_between(const lane_time& then, const lane_time& now) noexcept {
  const std::uint64_t up = now.up_s - std::min(now.up_s, then.up_s);
  const std::uint64_t off = now.off_s - std::min(now.off_s, then.off_s);
  return up + std::min(up, off);
}
/// Each reading may be up to a second low.
constexpr bool is_older(const lane_time& then, const lane_time& now,
                        std::uint64_t age_ns) noexcept {
  return seconds_between(then, now) > age_ns / 1'000'000'000 + 1;
}
inline lane_time time_of(const layout::log_frame& frame) noexcept {
  return {frame.up_s, frame.off_s};
}

/// Builds one frame in a buffer of the caller.
class frame_builder {
 public:
  frame_builder(std::span<std::byte> buffer, std::uint64_t log_id, std::uint32_t align) noexcept
      : buffer_(buffer), seed_(seed_of(log_id)), align_(align) {}

  void begin(std::uint64_t base_seq) noexcept {
    base_seq_ = base_seq;
    used_ = sizeof(layout::log_frame);
    count_ = 0;
  }
  std::uint32_t count() const noexcept { return count_; }
  std::uint64_t base_seq() const noexcept { return base_seq_; }
  std::uint64_t next_seq() const noexcept { return base_seq_ + count_; }
  std::uint64_t used_bytes() const noexcept { return used_; }
  std::uint64_t time_max_ns() const noexcept { return time_max_ns_; }
  /// The lane's clock, from which the age of the records is known.
  void set_time(const lane_time& now) noexcept { time_ = now; }
  const lane_time& time() const noexcept { return time_; }
  bool fits(std::uint64_t total_bytes) const noexcept {
    return base::round_up(used_ + total_bytes, align_) <= buffer_.size();
  }
  /// `copy(to)` writes header area and payload, shape.header_bytes + shape.payload_bytes.
  /// REQUIRES: fits(shape.total_bytes())
  template <class Copy>
  void add(const layout::record_shape& shape, std::uint64_t origin, std::uint64_t time_ns,
           Copy&& copy) noexcept {
    const std::uint64_t total = shape.total_bytes();
    BUS_ASSERT(fits(total), used_, total, buffer_.size());
    std::byte* at = buffer_.data() + used_;
    // The last unit first: what the copy leaves of it is padding.
    std::memset(at + total - layout::log_unit, 0, layout::log_unit);
    const std::uint64_t words[3] = {shape.pack(), origin, time_ns};
    std::memcpy(at + 8, words, sizeof words);
    copy(at + layout::record_header_bytes);
    const std::uint64_t seq = next_seq();
    const std::uint64_t first =
        std::uint64_t{record_crc(seed_, seq, at, total)} << 32 | (seq & 0xffffffffu);
    std::memcpy(at, &first, sizeof first);
    time_max_ns_ = std::max(time_max_ns_, time_ns);
    used_ += total;
    ++count_;
  }
  /// Takes back all but the first `count` records.
  void drop_to(std::uint32_t count, std::uint64_t used_bytes) noexcept {
    BUS_ASSERT(count <= count_ && used_bytes <= used_, count, count_, used_bytes, used_);
    count_ = count;
    used_ = used_bytes;
  }
  /// The whole frame, padded.
  std::span<const std::byte> finish(std::uint64_t durable_upto, std::uint32_t previous_crc,
                                    std::uint32_t& crc,
                                    layout::frame_kind kind = layout::frame_kind::records,
                                    std::uint64_t messages = 0) noexcept;

 private:
  std::span<std::byte> buffer_;
  std::uint32_t seed_;
  std::uint32_t align_;
  std::uint64_t base_seq_ = 0;
  std::uint64_t used_ = sizeof(layout::log_frame);
  std::uint64_t time_max_ns_ = 0;
  std::uint32_t count_ = 0;
  lane_time time_{};
};

}  // namespace bus::log
