// Writes the seeds of the targets that read a log's files:   fuzz_make_seeds tests/fuzz/seeds
// Seeds that a fuzzer found lie in the same folders, named after what they found.

#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "golden.hpp"

namespace {

using namespace bus;
using namespace bus::test;
using bytes = std::vector<std::byte>;

std::string root;

void put(const std::string& name, const bytes& modes, const bytes& content) {
  std::filesystem::create_directories(std::filesystem::path(root + "/" + name).parent_path());
  std::ofstream file(root + "/" + name, std::ios::binary | std::ios::trunc);
  for (const bytes* part : {&modes, &content})
    file.write(reinterpret_cast<const char*>(part->data()),
               static_cast<std::streamsize>(part->size()));
}

bytes modes(std::initializer_list<int> values) {
  bytes made;
  for (const int value : values) made.push_back(static_cast<std::byte>(value));
  return made;
}

/// A segment as the target takes it: without the zeros after the header.
bytes short_segment(const bytes& file) {
  bytes made(file.begin(), file.begin() + sizeof(layout::log_segment_header));
  made.insert(made.end(), file.begin() + layout::log_header_bytes, file.end());
  return made;
}

/// Frames without padding between them, because small inputs suit a fuzzer.
bytes dense_segment(std::uint64_t base_seq, int frames, std::uint32_t flags = 0) {
  bytes file(4096);
  auto header = golden::segment_header();
  header.base_seq = base_seq;
  header.align_bytes = 64;
  header.segment_bytes = 0;
  header.gap_first = 0;
  header.gap_reason = 0;
  header.flags = flags;
  header.header_crc = log::segment_header_crc(header);
  std::memcpy(file.data(), &header, sizeof header);
  std::uint32_t crc = 0;
  std::uint64_t seq = base_seq;
  for (int i = 0; i < frames; ++i) {
    bytes buffer(1024);
    log::frame_builder frame({buffer.data(), buffer.size()}, golden::log_id, 64);
    frame.begin(seq);
    for (int r = 0; r <= i % 3; ++r, ++seq)
      frame.add({static_cast<std::uint32_t>(20 * r), 0, 0}, 1, seq,
                [&](std::byte* to) { std::memset(to, 'm', 20u * static_cast<unsigned>(r)); });
    const auto whole = frame.finish(seq - 2, crc, crc);
    file.insert(file.end(), whole.begin(), whole.end());
    if (flags != 0) seq += 2;  // a spill log skips sequences
  }
  return file;
}

/// A compressed segment with one block that is stored as it is. Without `with_table` the magic of
/// its table is wrong.
bytes packed_segment(bytes file, bool with_table = true) {
  const std::uint32_t seed = log::seed_of(golden::log_id);
  file.resize(base::round_up(file.size(), layout::log_unit));
  const bytes raw(file.begin() + layout::log_header_bytes, file.end());
  layout::log_block head{layout::log_block_magic,
                         0,
                         layout::log_header_bytes,
                         static_cast<std::uint32_t>(raw.size()),
                         static_cast<std::uint32_t>(raw.size()),
                         0,
                         0};
  bytes block(log::block_file_bytes(raw.size()));
  std::memcpy(block.data() + sizeof head, raw.data(), raw.size());
  head.crc = base::crc32c(seed, block.data() + sizeof head, block.size() - sizeof head);
  head.head_crc = log::block_head_crc(seed, head);
  std::memcpy(block.data(), &head, sizeof head);
  bytes table(log::block_table_bytes(1));
  const std::uint64_t at = layout::log_header_bytes + table.size();
  layout::log_block_table where{with_table ? layout::log_block_table_magic : 1, 0, 1, file.size(),
                                at + block.size()};
  std::memcpy(table.data(), &where, sizeof where);
  std::memcpy(table.data() + sizeof where, &at, sizeof at);
  where.crc = log::block_table_crc(seed, table);
  std::memcpy(table.data(), &where, sizeof where);
  layout::log_segment_header header;
  std::memcpy(&header, file.data(), sizeof header);
  header.major = layout::log_major_compressed;
  header.flags |= layout::log_flag_compressed;
  header.segment_bytes = file.size();
  header.header_crc = log::segment_header_crc(header);
  file.resize(layout::log_header_bytes);
  std::memcpy(file.data(), &header, sizeof header);
  file.insert(file.end(), table.begin(), table.end());
  file.insert(file.end(), block.begin(), block.end());
  return file;
}

/// Compressed by zstd, as it was written once.
bytes golden_compressed() {
  std::ifstream file(BUS_GOLDEN_DIRECTORY "/compressed/" + log::segment_name(golden::base_seq),
                     std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return golden::bytes_of(text.data(), text.size());
}

bytes joined(bytes a, const bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: fuzz_make_seeds DIRECTORY\n";
    return 2;
  }
  root = argv[1];
  const bytes golden_segment = short_segment(golden::segment());
  put("log_reader/golden", modes({2}), golden_segment);
  put("log_reader/golden_unknown_id", modes({0}), golden_segment);
  put("log_reader/dense", modes({1}), short_segment(dense_segment(1, 6)));
  put("log_reader/spill", modes({3}), short_segment(dense_segment(1, 6, layout::log_flag_spill)));
  const bytes thinned = short_segment(dense_segment(1, 4, layout::log_flag_thinned));
  put("log_reader/thinned", modes({3}), thinned);
  put("log_reader/thinned_with_hole", modes({7}),
      joined(thinned, short_segment(dense_segment(20, 4))));
  put("log_reader/limit", modes({9, 20}), short_segment(dense_segment(1, 6)));
  put("log_reader/jump", modes({17, 5}), short_segment(dense_segment(1, 6)));
  const bytes begin = short_segment(dense_segment(1, 4));
  put("log_reader/two_segments", modes({7}), joined(begin, short_segment(dense_segment(7, 4))));
  put("log_reader/two_with_gap", modes({7}), joined(begin, short_segment(dense_segment(20, 4))));
  put("log_reader/overlap", modes({7}), joined(begin, short_segment(dense_segment(4, 4))));
  bytes torn = short_segment(dense_segment(1, 6));
  torn.resize(torn.size() - 70);
  put("log_reader/torn", modes({2}), torn);
  bytes damaged = golden_segment;
  damaged[128 + 64 + 70] ^= std::byte{0x40};
  put("log_reader/damaged_record", modes({2}), damaged);
  damaged = golden_segment;
  damaged[128 + 512 + 9] ^= std::byte{0x40};
  put("log_reader/damaged_frame", modes({2}), damaged);
  damaged = golden_segment;
  damaged[20] ^= std::byte{1};
  put("log_reader/damaged_header", modes({2}), damaged);
  put("log_reader/compressed", modes({2}), short_segment(golden_compressed()));
  put("log_reader/compressed_unknown_id", modes({0}), short_segment(golden_compressed()));
  put("log_reader/compressed_stored", modes({3}),
      short_segment(packed_segment(dense_segment(1, 6))));
  put("log_reader/compressed_jump", modes({19, 5}),
      short_segment(packed_segment(dense_segment(1, 6))));
  put("log_reader/compressed_no_table", modes({3}),
      short_segment(packed_segment(dense_segment(1, 6), false)));
  damaged = short_segment(packed_segment(dense_segment(1, 6)));
  damaged[20] ^= std::byte{1};
  put("log_reader/compressed_damaged_header", modes({2}), damaged);
  put("log_reader/empty", modes({1}), short_segment(dense_segment(1, 0)));

  std::vector<layout::log_index_entry> entries{
      {103, 102'000, 4608, 0, 0}, {112, 111'000, 6144, 0, 0}, {130, 129'000, 9216, 0, 0}};
  put("log_index/right", modes({1, 20}), golden::bytes_of(entries.data(), entries.size()));
  entries[1].offset = 6208;
  put("log_index/no_frame_there", modes({1, 20}), golden::bytes_of(entries.data(), entries.size()));
  entries[1].offset = ~0ull - 63;
  put("log_index/offset_near_the_top", modes({1, 20}), golden::bytes_of(entries.data(), 2));
  entries[1] = {90, 0, 6144, 0, 0};
  put("log_index/falling", modes({1, 20}), golden::bytes_of(entries.data(), entries.size()));
  put("log_index/wrong_checksums", modes({0, 40}),
      golden::bytes_of(entries.data(), entries.size()));
  put("log_index/none", modes({0, 40}), {});

  bytes copies = golden::bytes_of(
      std::array{golden::older_state(), golden::state(), golden::bound()}.data(), 3);
  put("log_state/golden", modes({0}), copies);
  put("log_state/mended", modes({1}), copies);
  copies[60] ^= std::byte{1};
  put("log_state/older_is_damaged", modes({0}), copies);
  copies[4] ^= std::byte{1};
  put("log_state/none_is_whole", modes({0}), copies);
  put("log_state/first", modes({1}), [] {
    layout::log_state first = golden::state_of(0);
    first.high_water = 100;
    first.first_seq = 1;
    return golden::bytes_of(&first, 1);
  }());
  put("log_state/short", modes({2}), bytes(100));

  put("log_subjects/golden", modes({0}), golden::subjects_file());
  put("log_subjects/mended", modes({1}), golden::subjects_file());
  bytes cut = golden::subjects_file();
  cut.resize(cut.size() - 9);
  put("log_subjects/torn", modes({1}), cut);
  cut = golden::subjects_file();
  cut[sizeof(layout::log_subjects_header) + 8] = std::byte{0};
  put("log_subjects/empty_text", modes({1}), cut);
  cut = golden::subjects_file();
  cut[sizeof(layout::log_subjects_header) + 30] ^= std::byte{1};
  put("log_subjects/first_is_damaged", modes({0}), cut);
  cut = golden::subjects_file();
  cut[8] ^= std::byte{1};
  put("log_subjects/of_another_stream", modes({1}), cut);
  return 0;
}
