#pragma once
/// segment_reader: walks one segment file, record by record, and resumes after damage.
///
/// Invariants
///   READER-1  A record is returned only when its checksum holds for the sequence that it is
///             returned with.
///   READER-2  After damage every unit is tried: what is intact there is found, and the sequences
///             in between are reported.
///   READER-3  What is not zero and part of nothing valid is reported, too.
///   READER-4  A buffer that a record refers to is never written again. What is read ahead counts
///             only up to the sequence that was completely written when it was read; beyond that it
///             is read again.
///
/// Threads    one

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "log/format.hpp"
#include "log/segment_file.hpp"

namespace bus::log {

enum class walk_outcome : std::uint8_t {
  record,
  gap,      // sequences are missing before the next record: see gap_first(), expected()
  end,      // nothing more that belongs to this log
  failure,  // the disk failed: failure()
};

/// A range of a segment whose bytes are not what was written.
struct damage {
  std::uint64_t offset = 0;  // of the first bad unit
  std::uint64_t bytes = 0;
  std::uint64_t first_seq = 0;  // of the records that are missing
  std::uint64_t missing = 0;    // 0: only framing or padding was hit
};

class segment_reader {
 public:
  static constexpr std::size_t chunk_bytes = 1 << 20;

  explicit segment_reader(disk& from) noexcept : file_(from) {}
  segment_reader(const segment_reader&) = delete;
  segment_reader& operator=(const segment_reader&) = delete;

  /// Opens a segment. `log_id`: 0 uses the header's. 0 or a negative errno; -EBADMSG: the header is
  /// damaged and no id was given; -ESTALE: the header is valid and names another log, another
  /// sequence, or another stream or lane than `owner`.
  int open(const std::string& path, std::uint64_t log_id, std::uint64_t base_seq,
           const log_owner& owner = {});
  void close() noexcept { file_.close(); }
  bool is_open() const noexcept { return file_.is_open(); }
  bool is_compressed() const noexcept { return file_.is_compressed(); }
  /// In pages that the disk cannot read.
  std::uint64_t unreadable_bytes() const noexcept { return file_.unreadable_bytes(); }

  /// Empty: the header is damaged.
  const std::optional<layout::log_segment_header>& header() const noexcept { return header_; }
  std::uint64_t log_id() const noexcept { return log_id_; }

  /// Continues at a frame that begins with `seq`.
  /// REQUIRES: has_frame_at(seq, offset).
  void start_at(std::uint64_t seq, std::uint64_t offset) noexcept;
  /// The last sequence that is completely written now; ~0, the initial value, when nothing writes.
  void set_limit(std::uint64_t limit) noexcept { limit_ = limit; }
  bool has_frame_at(std::uint64_t seq, std::uint64_t offset);

  /// The reason why frames of this segment skip sequences, where there is no damage.
  layout::log_gap hole_reason() const noexcept {
    if (!header_) return layout::log_gap::corrupt;
    if ((header_->flags & layout::log_flag_thinned) != 0) return layout::log_gap::superseded;
    return (header_->flags & layout::log_flag_spill) != 0 ? layout::log_gap::consumed
                                                          : layout::log_gap::corrupt;
  }

  walk_outcome next(logged_record& found);
  /// The next sequence.
  std::uint64_t expected() const noexcept { return expected_; }
  std::uint64_t gap_first() const noexcept { return gap_first_; }
  /// Where the next frame would go when only zeroes follow; 0: something else follows.
  std::uint64_t clean_end() const noexcept { return clean_end_; }
  std::uint64_t position() const noexcept { return at_; }
  std::uint64_t durable_upto() const noexcept { return durable_upto_; }
  std::uint64_t time_max_ns() const noexcept { return time_max_ns_; }
  std::uint32_t last_frame_crc() const noexcept { return last_frame_crc_; }
  std::uint64_t frame_offset() const noexcept { return frame_offset_; }
  const layout::log_frame& frame() const noexcept { return frame_; }
  const std::vector<damage>& damages() const noexcept { return damages_; }
  std::uint64_t bytes_read() const noexcept { return file_.bytes_read(); }
  std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  int failure() const noexcept { return failure_; }

 private:
  /// `bytes` at `offset`, fewer at the end of the file; null: see failure().
  const std::byte* need(std::uint64_t offset, std::uint64_t bytes, std::uint64_t& available);
  std::byte* writable_buffer(std::uint64_t bytes);
  bool all_zero(std::uint64_t from, std::uint64_t to);
  walk_outcome resync();
  bool try_frame(std::uint64_t at);

  segment_file file_;
  std::optional<layout::log_segment_header> header_;
  std::uint64_t log_id_ = 0;
  std::uint32_t seed_ = 0;
  std::uint32_t align_ = 512;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t data_end_ = 0;  // only zeroes follow, of no record
  std::uint64_t at_ = 0;
  std::uint64_t expected_ = 0;
  std::uint64_t gap_first_ = 0;
  std::uint64_t clean_end_ = 0;
  std::uint64_t durable_upto_ = 0;
  std::uint64_t time_max_ns_ = 0;
  std::uint32_t last_frame_crc_ = 0;
  std::uint64_t frame_offset_ = 0;
  std::uint64_t frame_end_ = 0;  // where the records of the last frame end
  layout::log_frame frame_{};
  std::vector<damage> damages_;
  chunk_ref buffer_;
  chunk_ref spare_;  // the previous buffer: reused when no record refers to it
  std::uint64_t buffer_offset_ = 0;
  std::uint64_t buffer_bytes_ = 0;
  std::uint64_t buffer_limit_ = 0;  // limit_ when the buffer was read
  std::uint64_t limit_ = ~0ull;
  int failure_ = 0;
};

/// The lane's clock when the segment's first frame was written: what precedes the segment is older.
/// Empty: no frame can be read.
std::optional<lane_time> first_time_in(disk& from, const std::string& path, std::uint64_t log_id,
                                       std::uint64_t base_seq);

}  // namespace bus::log
