#pragma once
/// lane_memory: where a lane is mapped. It holds plain addresses; client/stream_files owns the
/// mappings.

#include <cstddef>
#include <cstdint>

#include "layout/lane.hpp"

namespace bus::ring {

struct lane_memory {
  layout::lane_header* header = nullptr;  // read-only for readers: they only load
  std::byte* data = nullptr;              // mapped twice back to back: a record never wraps
  // Copied from the validated header, and never read from shared memory again.
  std::uint64_t capacity_bytes = 0;
  std::uint64_t max_message_bytes = 0;
  bool overwriting = false;  // drop_oldest: readers never hold publishers back
  layout::storage kept = layout::storage::memory;

  bool has_log() const noexcept { return kept != layout::storage::memory; }

  std::uint64_t block_bytes() const noexcept { return capacity_bytes / layout::blocks_per_lap; }
  std::uint64_t largest_bytes() const noexcept {
    return capacity_bytes / layout::largest_record_share;
  }
  std::byte* at(std::uint64_t position) const noexcept {
    return data + (position & (capacity_bytes - 1));
  }
  layout::word& word_at(std::uint64_t position) const noexcept {
    return *reinterpret_cast<layout::word*>(at(position));
  }
  layout::waypoint& waypoint_of(std::uint64_t position) const noexcept {
    return header->waypoints[(position / block_bytes()) % layout::waypoint_count];
  }
};

}  // namespace bus::ring
