#include "log/subjects.hpp"

#include <cerrno>
#include <cstring>

#include "log/format.hpp"

namespace bus::log {

int read_subjects(disk& from, const std::string& path, std::vector<known_subject>& subjects,
                  std::uint64_t& end) {
  subjects.clear();
  end = 0;
  const int file = from.open(path, disk_mode::read, false);
  if (file < 0) return file;
  const std::int64_t size = from.size(file);
  constexpr std::int64_t largest = 8ll << 30;  // 16 million subjects of 255 bytes have half of it
  if (size > largest) {
    from.close(file);
    return -EFBIG;
  }
  std::vector<std::byte> bytes(size > 0 ? static_cast<std::size_t>(size) : 0);
  const int failure = size < 0 ? static_cast<int>(size) : read_all(from, file, bytes, 0);
  from.close(file);
  if (failure != 0) return failure;
  constexpr std::uint32_t longest = 255;
  while (end + sizeof(layout::log_subject) <= bytes.size()) {
    layout::log_subject head;
    std::memcpy(&head, bytes.data() + end, sizeof head);
    const std::uint64_t text_at = end + sizeof head;
    if (head.length == 0 || head.length > longest || text_at + head.length > bytes.size()) break;
    const char* text = reinterpret_cast<const char*>(bytes.data() + text_at);
    if (head.crc != subject_crc(subjects.size(), head, text)) break;
    subjects.push_back({std::string(text, head.length), head.type});
    end = text_at + base::round_up(head.length, 8);
  }
  return 0;
}

}  // namespace bus::log
