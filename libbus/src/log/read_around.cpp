#include "log/read_around.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/bits.hpp"

namespace bus::log {

namespace {

constexpr std::uint64_t page = 4096;

bool is_readable(disk& from, disk_file file, std::uint64_t offset) {
  std::array<std::byte, 1> any;
  return from.read(file, any, offset) >= 0;
}

}  // namespace

std::int64_t read_around(disk& from, disk_file file, std::span<std::byte> into,
                         std::uint64_t offset, std::uint64_t& unreadable_bytes) {
  std::int64_t got = from.read(file, into, offset);
  if (got == -EIO) got = from.read(file, into, offset);
  if (got != -EIO) return got;
  const std::int64_t size = from.size(file);
  if (size < 0) return size;
  const auto file_bytes = static_cast<std::uint64_t>(size);
  const std::uint64_t end = std::min<std::uint64_t>(offset + into.size(), file_bytes);
  std::uint64_t lost = 0;
  for (std::uint64_t at = offset, next = 0; at < end; at = next) {
    next = std::min(base::round_down(at, page) + page, end);
    const auto part = into.subspan(at - offset, next - at);
    got = from.read(file, part, at);
    if (got == static_cast<std::int64_t>(part.size())) continue;
    if (got < 0 && got != -EIO) return got;
    std::fill(part.begin(), part.end(), lost_byte);
    lost += part.size();
  }
  if (offset + lost >= end && !is_readable(from, file, 0) &&
      !is_readable(from, file, file_bytes - std::min<std::uint64_t>(file_bytes, 1)))
    return -EIO;
  unreadable_bytes += lost;
  return end > offset ? static_cast<std::int64_t>(end - offset) : 0;
}

}  // namespace bus::log
