#include <vector>

#include "checksums.hpp"
#include "memory_disk.hpp"
#include "target.hpp"
#include "log/subjects.hpp"

namespace bus::fuzz {

// Input: a byte (bit 0: checksums are made right), then the file.
void log_subjects(input bytes) {
  reader in(bytes);
  const bool mend = (in.byte() & 1) != 0;
  memory_disk disk;
  disk.put("subjects", in.rest());
  auto& file = disk.files["subjects"];
  if (mend) mend_subjects(file);
  std::vector<log::known_subject> subjects;
  std::uint64_t end = 0;
  require(log::read_subjects(disk, "subjects", subjects, end) == 0, "the disk does not fail");
  require(end % 8 == 0, "entries are padded to 8");
  std::uint64_t at = 0;
  for (std::size_t id = 0; id < subjects.size(); ++id) {
    const log::known_subject& subject = subjects[id];
    require(!subject.text.empty() && subject.text.size() <= 255, "a subject has 1 to 255 bytes");
    layout::log_subject head{};
    head.length = static_cast<std::uint32_t>(subject.text.size());
    head.type = subject.type;
    head.crc = log::subject_crc(id, head, subject.text.data());
    require(at + sizeof head + subject.text.size() <= file.size(), "an entry lies in the file");
    require(std::memcmp(file.data() + at, &head, sizeof head) == 0 &&
                std::memcmp(file.data() + at + sizeof head, subject.text.data(), subject.text.size()) == 0,
            "a subject is what was written");
    at += sizeof head + base::round_up(subject.text.size(), 8);
  }
  require(at == end, "the next entry goes behind the last");
}

}  // namespace bus::fuzz
