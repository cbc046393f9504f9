#include <vector>

#include "checksums.hpp"
#include "memory_disk.hpp"
#include "target.hpp"
#include "log/subjects.hpp"

namespace bus::fuzz {

constexpr std::uint64_t stream_id = 0x1122334455667788u;  // of the golden file

// Input: a byte (bit 0: correct the checksums), then the file.
void log_subjects(input bytes) {
  reader in(bytes);
  const bool mend = (in.byte() & 1) != 0;
  memory_disk disk;
  disk.put("subjects", in.rest());
  auto& file = disk.files["subjects"];
  if (mend) mend_subjects(file, stream_id);
  log::subjects_found found;
  const int failure = log::read_subjects(disk, "subjects", stream_id, found);
  require(failure == 0 || (failure == -ESTALE && found.stream_id != stream_id),
          "the disk does not fail");
  if (failure != 0) return;
  require(found.prefix_end % 8 == 0, "entries are padded to 8");
  require(found.prefix_count <= found.by_id.size(), "the first entries are among all");
  std::uint64_t at = sizeof(layout::log_subjects_header);
  for (std::size_t id = 0; id < found.prefix_count; ++id) {
    require(found.by_id[id].has_value(), "entries follow each other");
    const log::known_subject& subject = *found.by_id[id];
    require(!subject.text.empty() && subject.text.size() <= 255, "a subject has 1 to 255 bytes");
    layout::log_subject head{};
    head.id = static_cast<std::uint32_t>(id);
    head.length = static_cast<std::uint32_t>(subject.text.size());
    head.type = subject.type;
    std::memcpy(&head.reserved, file.data() + at + offsetof(layout::log_subject, reserved),
                sizeof head.reserved);
    head.crc = log::subject_crc(stream_id, head, subject.text.data());
    require(at + sizeof head + subject.text.size() <= file.size(), "an entry lies in the file");
    // Zeros between entries are not damage: the reader skips them.
    while (at < found.prefix_end && std::memcmp(file.data() + at, &head, sizeof head) != 0) at += 8;
    require(at < found.prefix_end && std::memcmp(file.data() + at + sizeof head,
                                                 subject.text.data(), subject.text.size()) == 0,
            "a subject is what was written");
    at += sizeof head + base::round_up(subject.text.size(), 8);
    if (id + 1 < found.prefix_count)
      std::memcpy(&head.reserved, file.data() + at + offsetof(layout::log_subject, reserved),
                  sizeof head.reserved);
  }
  if (found.prefix_count != 0)
    require(at == found.prefix_end, "the next entry goes behind the last");
}

}  // namespace bus::fuzz
