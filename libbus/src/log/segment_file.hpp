#pragma once
/// segment_file: a segment's bytes as they were written, whether the file is compressed or not.
/// Unreadable parts read as lost_byte.
///
/// Threads    one

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "log/compressed_segment.hpp"
#include "log/disk.hpp"

namespace bus::log {

class segment_file {
 public:
  explicit segment_file(disk& from) noexcept : disk_(&from) {}
  segment_file(const segment_file&) = delete;
  segment_file& operator=(const segment_file&) = delete;
  ~segment_file() { close(); }

  /// `log_id`: 0 uses the header's. 0 or a negative errno.
  int open(const std::string& path, std::uint64_t log_id);
  void close() noexcept;
  bool is_open() const noexcept { return file_ >= 0; }

  std::uint64_t bytes() const noexcept { return bytes_; }
  /// From here on there are only zeroes that belong to no record.
  std::uint64_t data_end() const noexcept { return compressed_ ? compressed_->data_end() : bytes_; }
  bool is_compressed() const noexcept { return compressed_.has_value(); }
  /// False: the table of blocks or the length of a compressed file is damaged.
  bool is_whole() const noexcept { return !compressed_ || compressed_->is_whole(); }

  /// As disk::read().
  std::int64_t read(std::span<std::byte> into, std::uint64_t offset);
  /// From the disk.
  std::uint64_t bytes_read() const noexcept;
  std::uint64_t unreadable_bytes() const noexcept;

 private:
  disk* disk_;
  disk_file file_ = -1;
  std::uint64_t bytes_ = 0;
  std::optional<compressed_segment> compressed_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t unreadable_bytes_ = 0;
};

}  // namespace bus::log
