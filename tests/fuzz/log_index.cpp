#include <vector>

#include "checksums.hpp"
#include "memory_disk.hpp"
#include "target.hpp"
#include "log/history.hpp"

namespace bus::fuzz {

namespace {

// Input: a byte (bit 0: correct the checksums), a byte that chooses a sequence, then the index.
constexpr std::uint64_t log_id = 0x0123456789abcdefu;
constexpr std::uint64_t base_seq = 100;
constexpr std::uint64_t frames = 24;
constexpr std::uint32_t records_per_frame = 3;
constexpr std::uint64_t last_seq = base_seq + frames * records_per_frame - 1;
constexpr std::uint64_t frame_bytes = 512;

std::vector<std::byte> make_segment() {
  std::vector<std::byte> file(layout::log_header_bytes + (frames + 2) * frame_bytes);
  layout::log_segment_header header{};
  header.magic = layout::log_magic;
  header.major = layout::log_major;
  header.log_id = log_id;
  header.epoch = 1;
  header.base_seq = base_seq;
  header.segment_bytes = file.size();
  header.align_bytes = frame_bytes;
  header.header_crc = log::segment_header_crc(header);
  std::memcpy(file.data(), &header, sizeof header);
  std::uint64_t at = layout::log_header_bytes, seq = base_seq;
  std::uint32_t crc = 0;
  for (std::uint64_t i = 0; i < frames; ++i) {
    log::frame_builder frame({file.data() + at, frame_bytes}, log_id, frame_bytes);
    frame.begin(seq);
    for (std::uint32_t r = 0; r < records_per_frame; ++r, ++seq)
      frame.add({40, 0, 0}, 1, 1000 * seq,
                [&](std::byte* to) { std::memset(to, static_cast<int>(seq), 40); });
    at += frame.finish(seq - 4, crc, crc).size();
  }
  return file;
}

}  // namespace

void log_index(input bytes) {
  static const std::vector<std::byte> segment = make_segment();
  reader in(bytes);
  const bool mend = (in.byte() & 1) != 0;
  const std::uint64_t wanted = base_seq + in.byte() % (last_seq - base_seq + 1);
  memory_disk disk;
  disk.files[log::segment_path("log", base_seq)] = segment;
  auto& index = disk.files["log/" + log::index_name(base_seq)];
  disk.put("log/" + log::index_name(base_seq), in.rest());
  if (mend) mend_index(index, log_id);

  std::uint64_t bytes_read = 0;
  const auto entries = log::read_index(disk, "log", base_seq, log_id, bytes_read);
  require(entries.size() <= index.size() / sizeof(layout::log_index_entry),
          "no more entries than there are");
  for (std::size_t i = 0; i < entries.size(); ++i) {
    require(entries[i].crc == log::index_crc(log::seed_of(log_id), entries[i]),
            "an entry's checksum holds");
    require(i == 0 ||
                (entries[i].seq >= entries[i - 1].seq && entries[i].offset > entries[i - 1].offset),
            "entries rise");
  }

  log::history history(disk, "log");
  require(history.open() == 0, "the log opens");
  history.seek(wanted);
  log::logged_record record;
  require(history.next(record, ~0ull) == log::walk_outcome::record && record.seq == wanted,
          "an index never hides a record");
  require(history.seek_time(1000 * wanted) == 0, "a time is looked for");
  for (std::uint64_t i = 0; i < frames * records_per_frame + 2; ++i)
    if (history.next(record, ~0ull) == log::walk_outcome::end) return;
  require(false, "the walk ends");
}

}  // namespace bus::fuzz
