#pragma once
/// segment_reader: walks one segment file, record by record, and finds its way again behind damage.
///
/// Invariants
///   READER-1  A record is handed out only when its checksum holds for the sequence it is handed
///       out as. READER-2  Behind damage every unit is tried: what is intact there is found, and
///       the sequences in between are reported.
///   READER-3  What is not zero and belongs to nothing is reported, too.
///   READER-4  A buffer that a record refers to is never written again. What is read ahead counts
///       only up to the sequence that was surely written when it was read: it is read again beyond
///       that.
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
  failure,  // the disk said no: failure()
};

/// Bytes of a segment that are not what they should be.
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

  /// `log_id`: 0 takes the header's word for it. Returns 0 or a negative errno; -EBADMSG when the
  /// header is damaged and no id was given; -ESTALE when the header is whole and names another log,
  /// another sequence, or another stream or lane than `owner`.
  int open(const std::string& path, std::uint64_t log_id, std::uint64_t base_seq,
           const log_owner& owner = {});
  void close() noexcept { file_.close(); }
  bool is_open() const noexcept { return file_.is_open(); }
  bool is_compressed() const noexcept { return file_.is_compressed(); }
  /// Of pages that the disk cannot read.
  std::uint64_t unreadable_bytes() const noexcept { return file_.unreadable_bytes(); }

  /// Empty: it is damaged.
  const std::optional<layout::log_segment_header>& header() const noexcept { return header_; }
  std::uint64_t log_id() const noexcept { return log_id_; }

  /// Goes on at a frame that begins with `seq`.
  /// REQUIRES: such an entry of the index.
  void start_at(std::uint64_t seq, std::uint64_t offset) noexcept;
  /// The last sequence that is surely written now; ~0 when nothing writes, as at first.
  void set_limit(std::uint64_t limit) noexcept { limit_ = limit; }
  bool has_frame_at(std::uint64_t seq, std::uint64_t offset);

  /// What it means that the frames of this segment skip sequences, with no damage around.
  layout::log_gap hole_reason() const noexcept {
    if (!header_) return layout::log_gap::corrupt;
    if ((header_->flags & layout::log_flag_thinned) != 0) return layout::log_gap::superseded;
    return (header_->flags & layout::log_flag_spill) != 0 ? layout::log_gap::consumed
                                                          : layout::log_gap::corrupt;
  }

  /// The next record.
  walk_outcome next(logged_record& found);
  /// The sequence that comes next.
  std::uint64_t expected() const noexcept { return expected_; }
  std::uint64_t gap_first() const noexcept { return gap_first_; }
  /// Where the next frame would go, when nothing but zeroes follow; 0: something else does.
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
  /// `bytes` at `offset`, fewer at the end of the file; null: failure().
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
  std::uint64_t data_end_ = 0;  // behind it there are only zeroes, of no record
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
  chunk_ref spare_;  // the buffer before: used again when no record refers to it any more
  std::uint64_t buffer_offset_ = 0;
  std::uint64_t buffer_bytes_ = 0;
  std::uint64_t buffer_limit_ = 0;  // limit_ when it was read
  std::uint64_t limit_ = ~0ull;
  int failure_ = 0;
};

/// The lane's clock when its first frame was written: what is in front of it is older. Empty: it
/// has none that can be read.
std::optional<lane_time> first_time_in(disk& from, const std::string& path, std::uint64_t log_id,
                                       std::uint64_t base_seq);

}  // namespace bus::log
