#include "log/segment_file.hpp"

#include <array>
#include <cerrno>

#include "log/format.hpp"
#include "log/read_around.hpp"

namespace bus::log {

void segment_file::close() noexcept {
  if (file_ >= 0) disk_->close(file_);
  file_ = -1;
  compressed_.reset();
  bytes_ = bytes_read_ = unreadable_bytes_ = 0;
}

int segment_file::open(const std::string& path, std::uint64_t log_id) {
  close();
  const int file = disk_->open(path, disk_mode::read, false);
  if (file < 0) return file;
  file_ = file;
  const std::int64_t bytes = disk_->size(file);
  if (bytes < 0) return static_cast<int>(bytes);
  bytes_ = static_cast<std::uint64_t>(bytes);
  std::array<std::byte, sizeof(layout::log_segment_header)> head;
  std::uint64_t unreadable = 0;
  const std::int64_t got = read_around(*disk_, file, head, 0, unreadable);
  if (got < 0) return static_cast<int>(got);
  bytes_read_ += static_cast<std::uint64_t>(got);
  std::optional<layout::log_segment_header> header;
  if (static_cast<std::size_t>(got) == head.size()) header = parse_segment_header(head.data());
  if (!header && log_id == 0) return 0;
  compressed_.emplace(*disk_);
  const int failure =
      compressed_->open(file, bytes_, log_id != 0 ? log_id : header->log_id, header);
  if (failure == 0) {
    bytes_ = compressed_->bytes();
    return 0;
  }
  compressed_.reset();
  return failure == -ENOENT ? 0 : failure;
}

std::int64_t segment_file::read(std::span<std::byte> into, std::uint64_t offset) {
  if (compressed_) return compressed_->read(into, offset);
  const std::int64_t got = read_around(*disk_, file_, into, offset, unreadable_bytes_);
  if (got > 0) bytes_read_ += static_cast<std::uint64_t>(got);
  return got;
}

std::uint64_t segment_file::bytes_read() const noexcept {
  return bytes_read_ + (compressed_ ? compressed_->bytes_read() : 0);
}

std::uint64_t segment_file::unreadable_bytes() const noexcept {
  return unreadable_bytes_ + (compressed_ ? compressed_->unreadable_bytes() : 0);
}

}  // namespace bus::log
