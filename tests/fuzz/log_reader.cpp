#include <vector>

#include "checksums.hpp"
#include "memory_disk.hpp"
#include "target.hpp"
#include "log/history.hpp"

namespace bus::fuzz {

namespace {

// Input: a byte of modes, a byte for with_limit and jump, then a segment without the zeros
// between its header and offset 4096.
enum mode : std::uint8_t {
  mend_checksums = 1,
  know_id = 2,       // as a reader that has read `state`; otherwise the id comes from the header
  two_segments = 4,  // the second half is a second segment
  with_limit = 8,    // as beside a writer: nothing above a sequence is read
  jump = 16,         // begins in the middle
};

constexpr std::uint64_t log_id = 0x0123456789abcdefu;

std::vector<std::byte> segment_of(input bytes, bool mend, std::uint64_t& base_seq) {
  layout::log_segment_header header{};
  const std::size_t head = std::min(bytes.size(), sizeof header);
  std::vector<std::byte> file(layout::log_header_bytes + bytes.size() - head);
  if (head != 0) std::memcpy(file.data(), bytes.data(), head);
  const input rest = bytes.subspan(head);
  if (!rest.empty()) std::memcpy(file.data() + layout::log_header_bytes, rest.data(), rest.size());
  if (mend) mend_segment(file, log_id);
  std::memcpy(&header, file.data(), sizeof header);
  base_seq = std::min(header.base_seq, largest_seq);  // as in the file's name
  return file;
}

// D1, and that the walk ends: each step consumes a unit of the file or reports missing sequences.
// Returns the segment's uncompressed length.
std::uint64_t walk_segment(memory_disk& disk, const std::string& path, std::uint64_t id,
                           std::uint64_t base_seq) {
  log::segment_reader reader(disk);
  if (reader.open(path, id, base_seq) != 0) return disk.files[path].size();
  const std::uint64_t file_bytes = reader.file_bytes();
  const std::uint32_t seed = log::seed_of(reader.log_id());
  const std::uint64_t most = 3 * (file_bytes / layout::log_unit) + 3;
  std::uint64_t next = base_seq;
  for (std::uint64_t steps = 0;; ++steps) {
    require(steps <= most, "the walk through a segment ends");
    log::logged_record record;
    const auto outcome = reader.next(record);
    require(outcome != log::walk_outcome::failure, "the disk does not fail");
    if (outcome == log::walk_outcome::end) break;
    if (outcome == log::walk_outcome::gap) {
      require(reader.gap_first() == next, "a gap begins where the records ended");
      require(reader.expected() > next, "a gap has a length");
      next = reader.expected();
      continue;
    }
    require(record.seq == next, "records come in order");
    const std::uint64_t bytes = record.shape.total_bytes();
    std::uint64_t first;
    std::memcpy(&first, record.data, sizeof first);
    require(static_cast<std::uint32_t>(first >> 32) ==
                log::record_crc(seed, record.seq, record.data, bytes),
            "a record's checksum holds");
    ++next;
  }
  for (const log::damage& d : reader.damages()) {
    const std::uint64_t most_bytes =
        reader.header() ? std::max(file_bytes, reader.header()->segment_bytes) : file_bytes;
    require(d.offset <= most_bytes || d.offset <= layout::log_header_bytes,
            "damage lies in the file");
  }
  require(disk.bytes_read < 64 * (file_bytes + 4096) + (64u << 20),
          "the file is not read again and again");
  return file_bytes;
}

// H1, H2, H3.
void walk_history(memory_disk& disk, std::uint64_t from, std::uint64_t limit,
                  std::uint64_t file_bytes) {
  log::history history(disk, "log");
  if (history.open() != 0) return;
  history.seek(from);
  std::uint64_t next = from;
  const std::uint64_t most = 8 * (file_bytes / layout::log_unit) + 64;
  for (std::uint64_t steps = 0;; ++steps) {
    require(steps <= most, "the walk through a log ends");
    log::logged_record record;
    const auto outcome = history.next(record, limit);
    if (outcome == log::walk_outcome::end || outcome == log::walk_outcome::failure) break;
    if (outcome == log::walk_outcome::gap) {
      require(history.loss().first == next && history.loss().count != 0,
              "a gap follows what was before");
      next += history.loss().count;
    } else {
      require(record.seq == next, "records follow each other");
      require(record.seq <= limit, "nothing above the limit");
      ++next;
    }
    require(history.next_seq() == next, "it knows what comes next");
  }
}

}  // namespace

void log_reader(input bytes) {
  reader in(bytes);
  const std::uint8_t modes = in.byte();
  const std::uint8_t where = (modes & (with_limit | jump)) != 0 ? in.byte() : std::uint8_t{0};
  const bool mend = (modes & mend_checksums) != 0;
  const input all = in.rest();
  memory_disk disk;
  std::uint64_t file_bytes = 0, first_base = 0;
  const std::size_t parts = (modes & two_segments) != 0 ? 2 : 1;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t half = all.size() / parts;
    std::uint64_t base_seq = 0;
    auto file = segment_of(part == 0 ? all.first(half) : all.subspan(half), mend, base_seq);
    const std::string path = log::segment_path("log", base_seq);
    disk.files[path] = std::move(file);
    file_bytes += walk_segment(disk, path, (modes & know_id) != 0 ? log_id : 0, base_seq);
    if (part == 0) first_base = base_seq;
  }
  const std::uint64_t from = (modes & jump) != 0 ? first_base + where % 16 : 1;
  const std::uint64_t limit = (modes & with_limit) != 0 ? first_base + where / 4 : ~0ull;
  walk_history(disk, from, limit, file_bytes);
}

}  // namespace bus::fuzz
