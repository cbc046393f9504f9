#include "log/subjects.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "log/format.hpp"
#include "log/read_around.hpp"

namespace bus::log {

namespace {

constexpr std::uint32_t longest_text = 255;
constexpr std::uint64_t ids_max = 16'000'000;

bool is_zero(const std::byte* at, std::size_t bytes) noexcept {
  return std::all_of(at, at + bytes, [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

std::string subjects_path(const std::string& stream_directory) {
  return stream_directory + "/subjects";
}
std::string subjects_copy_path(const std::string& stream_directory) {
  return stream_directory + "/subjects.copy";
}

int read_subjects(disk& from, const std::string& path, std::uint64_t stream_id,
                  subjects_found& found) {
  found = {};
  const int file = from.open(path, disk_mode::read, false);
  if (file < 0) return file;
  const std::int64_t size = from.size(file);
  constexpr std::int64_t largest = 8ll << 30;  // twice what 16 million subjects of 255 bytes take
  if (size < 0 || size > largest) {
    from.close(file);
    return size < 0 ? static_cast<int>(size) : -EFBIG;
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  std::uint64_t unreadable = 0;
  const std::int64_t got = read_around(from, file, bytes, 0, unreadable);
  from.close(file);
  if (got < 0) return static_cast<int>(got);
  bytes.resize(static_cast<std::size_t>(got));
  layout::log_subjects_header header{};
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic == layout::log_subjects_magic && header.crc == subjects_header_crc(header))
    found.stream_id = header.stream_id;
  else
    found.bad_bytes += std::min(bytes.size(), sizeof header);
  if (stream_id == 0) stream_id = found.stream_id;
  if (stream_id == 0) return -EBADMSG;
  if (found.stream_id != 0 && found.stream_id != stream_id) return -ESTALE;
  found.prefix_end = sizeof header;
  for (std::uint64_t at = sizeof header; at + 8 <= bytes.size();) {
    layout::log_subject head{};
    const std::uint64_t left = bytes.size() - at;
    if (left >= sizeof head) std::memcpy(&head, bytes.data() + at, sizeof head);
    const char* text = reinterpret_cast<const char*>(bytes.data() + at + sizeof head);
    const std::uint64_t total = sizeof head + base::round_up(head.length, 8);
    if (head.length == 0 || head.length > longest_text || head.id >= ids_max || total > left ||
        head.crc != subject_crc(stream_id, head, text) ||
        !is_zero(bytes.data() + at + sizeof head + head.length,
                 total - sizeof head - head.length)) {
      if (!is_zero(bytes.data() + at, 8)) found.bad_bytes += 8;
      at += 8;
      continue;
    }
    if (found.by_id.size() <= head.id) found.by_id.resize(head.id + 1);
    found.by_id[head.id] = known_subject{std::string(text, head.length), head.type};
    at += total;
    if (head.id == found.prefix_count && found.bad_bytes == 0) {
      ++found.prefix_count;
      found.prefix_end = at;
    }
  }
  return 0;
}

}  // namespace bus::log
