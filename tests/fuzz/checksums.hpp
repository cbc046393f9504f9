#pragma once
/// checksums: corrects the checksums of a log's parts, so that a mutation is not stopped by them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "log/format.hpp"

namespace bus::fuzz {

/// No lane reaches larger sequences (of 62 bits), and nothing intact claims one.
inline constexpr std::uint64_t largest_seq = layout::sequence_mask - (1u << 20);

/// Corrects each frame, wherever it begins, and the records that follow it.
inline void mend_frames(std::span<std::byte> bytes, std::uint32_t seed) {
  constexpr std::size_t unit = layout::log_unit;
  for (std::size_t at = 0; at + unit <= bytes.size(); at += unit) {
    layout::log_frame frame;
    std::memcpy(&frame, bytes.data() + at, sizeof frame);
    if (frame.magic != layout::frame_magic) continue;
    frame.base_seq = std::min(frame.base_seq, largest_seq);
    frame.header_crc = log::frame_crc(seed, frame);
    std::memcpy(bytes.data() + at, &frame, sizeof frame);
    std::uint64_t seq = frame.base_seq;
    for (std::uint32_t i = 0; i < frame.count && at + 2 * unit <= bytes.size(); ++i, ++seq) {
      std::byte* record = bytes.data() + at + unit;
      const std::uint64_t length = log::claimed_bytes(record);
      if (length == 0 || length > bytes.size() - at - unit) break;
      const std::uint64_t first =
          std::uint64_t{log::record_crc(seed, seq, record, length)} << 32 | (seq & 0xffffffffu);
      std::memcpy(record, &first, sizeof first);
      at += length;
    }
  }
}

/// Corrects a compressed segment: its table, its blocks, and the frames in blocks that are stored
/// as they are.
inline void mend_blocks(std::span<std::byte> file, std::uint32_t seed) {
  constexpr std::size_t unit = layout::log_unit;
  for (std::size_t at = layout::log_header_bytes; at + unit <= file.size(); at += unit) {
    layout::log_block head;
    std::memcpy(&head, file.data() + at, sizeof head);
    if (head.magic != layout::log_block_magic) continue;
    const std::uint64_t bytes = log::block_file_bytes(head.stored_bytes);
    if (bytes <= file.size() - at) {
      const auto body = file.subspan(at + sizeof head, bytes - sizeof head);
      if (head.method == 0) mend_frames(body, seed);
      head.crc = base::crc32c(seed, body.data(), body.size());
    }
    head.head_crc = log::block_head_crc(seed, head);
    std::memcpy(file.data() + at, &head, sizeof head);
  }
  layout::log_block_table table;
  const auto bytes = file.subspan(layout::log_header_bytes);
  if (bytes.size() < sizeof table) return;
  std::memcpy(&table, bytes.data(), sizeof table);
  const std::uint64_t table_bytes = log::block_table_bytes(table.block_count);
  if (table.magic != layout::log_block_table_magic || table_bytes > bytes.size()) return;
  table.crc = log::block_table_crc(seed, bytes.first(table_bytes));
  std::memcpy(bytes.data(), &table, sizeof table);
}

/// Corrects a whole segment file, compressed or not.
inline void mend_segment(std::span<std::byte> file, std::uint64_t log_id) {
  if (file.size() >= sizeof(layout::log_segment_header)) {
    layout::log_segment_header header;
    std::memcpy(&header, file.data(), sizeof header);
    header.base_seq = std::min(header.base_seq, largest_seq);
    header.header_crc = log::segment_header_crc(header);
    std::memcpy(file.data(), &header, sizeof header);
  }
  const std::uint32_t seed = log::seed_of(log_id);
  if (file.size() <= layout::log_header_bytes) return;
  mend_blocks(file, seed);
  mend_frames(file.subspan(layout::log_header_bytes), seed);
}

inline void mend_index(std::span<std::byte> file, std::uint64_t log_id) {
  layout::log_index_entry entry;
  for (std::size_t at = 0; at + sizeof entry <= file.size(); at += sizeof entry) {
    std::memcpy(&entry, file.data() + at, sizeof entry);
    entry.crc = log::index_crc(log::seed_of(log_id), entry);
    std::memcpy(file.data() + at, &entry, sizeof entry);
  }
}

inline void mend_state(std::span<std::byte> copy) {
  if (copy.size() < sizeof(layout::log_state)) return;
  layout::log_state state;
  std::memcpy(&state, copy.data(), sizeof state);
  state.crc = log::state_crc(state);
  std::memcpy(copy.data(), &state, sizeof state);
}

inline void mend_subjects(std::span<std::byte> file, std::uint64_t stream_id) {
  layout::log_subjects_header header;
  if (file.size() < sizeof header) return;
  std::memcpy(&header, file.data(), sizeof header);
  header.crc = log::subjects_header_crc(header);
  std::memcpy(file.data(), &header, sizeof header);
  for (std::size_t at = sizeof header; at + sizeof(layout::log_subject) <= file.size();) {
    layout::log_subject head;
    std::memcpy(&head, file.data() + at, sizeof head);
    if (head.length > file.size() - at - sizeof head) return;
    const auto* text = reinterpret_cast<const char*>(file.data() + at + sizeof head);
    head.crc = log::subject_crc(stream_id, head, text);
    std::memcpy(file.data() + at, &head, sizeof head);
    at += sizeof head + base::round_up(head.length, 8);
  }
}

}  // namespace bus::fuzz
