#pragma once
/// reader_table: the readers of a lane: entries of a process's slot, or of a group.
///
/// Threads    any

#include <cstdint>
#include <optional>

#include "layout/group.hpp"
#include "registry/stream_files.hpp"
#include "sync/failpoint.hpp"
#include "sync/words.hpp"

namespace bus::registry {

/// Returns the index of the new entry; empty: the table is full. `is_gone(process)`: may its entry
/// be taken?
template <class IsGone>
std::optional<std::uint32_t> announce_reader(const lane_map& lane, std::uint64_t mine,
                                             IsGone&& is_gone) noexcept {
  auto& header = lane.readers();
  for (int pass = 0; pass < 2; ++pass) {
    for (std::uint32_t i = 0; i < lane.reader_entries(); ++i) {
      base::word& entry = lane.reader_entry(i);
      const std::uint64_t seen = sync::load_relaxed(entry);  // the compare-and-swap decides
      if (seen != 0) {
        // Second pass: entries of dead processes are free, too.
        if (pass == 0 || layout::is_group_reader(seen) ||
            !is_gone(static_cast<std::uint32_t>(seen >> 32)))
          continue;
      }
      if (!sync::replace(entry, seen, mine)) continue;
      for (std::uint64_t high = sync::load_acquire(header.high_water); high < i + 1;) {
        if (sync::replace(header.high_water, high, i + 1)) break;
        high = sync::load_acquire(header.high_water);
      }
      sync::reach(sync::failpoint::attach_announced);
      return i;
    }
  }
  return std::nullopt;
}

inline bool is_announced(const lane_map& lane, std::uint64_t mine) noexcept {
  for (std::uint32_t i = 0; i < lane.reader_entries(); ++i)
    if (sync::load_acquire(lane.reader_entry(i)) == mine) return true;
  return false;
}

inline void withdraw_reader(const lane_map& lane, std::uint64_t mine) noexcept {
  for (std::uint32_t i = 0; i < lane.reader_entries(); ++i)
    sync::replace(lane.reader_entry(i), mine, 0);
}

}  // namespace bus::registry
