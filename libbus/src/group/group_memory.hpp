#pragma once
/// group_memory: where a group's file is mapped, and its rules as validated. It holds plain
/// addresses; client/group_files owns the mapping.
///
/// An index that is read from the file is untrusted input: an impossible one leads to a slot that
/// belongs to no message, and sets `broken`. The operation runs to its end and returns `corrupt`.
/// Every number of the file is a base::shared_field or a word: it is loaded once, checked, and
/// used.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "layout/group.hpp"
#include "layout/lane.hpp"
#include "sync/words.hpp"

namespace bus::group {

using layout::no_index;
using layout::slot_state;
using layout::slot_status;

enum class ack_rule : std::uint32_t { each = 1, none = 2, cumulative = 3 };
enum class order_rule : std::uint32_t { none = 1, key = 2, total = 3 };
enum class fail_rule : std::uint32_t { block = 1, skip = 2 };
enum class mode_rule : std::uint32_t { shared = 1, exclusive = 2, failover = 3 };

/// Durations in ticks.
struct rules {
  ack_rule ack = ack_rule::each;
  order_rule order = order_rule::none;
  fail_rule on_fail = fail_rule::block;
  mode_rule mode = mode_rule::shared;
  std::uint32_t max_ack_pending = 1000;
  std::uint32_t max_delayed = 8192;
  std::uint32_t max_parked = 4096;
  std::int32_t max_deliver = 5;
  bool dead_letters = true;
  std::uint64_t ack_wait = 0;  // 0: a lease does not end
  std::uint64_t max_lease = 0;
  std::uint32_t backoff_count = 0;
  std::array<std::uint64_t, layout::group_backoff_max> backoff{};
  double jitter = 0;
};

struct group_memory {
  layout::group_header* header = nullptr;
  layout::group_cursor* cursors = nullptr;
  std::byte* pins = nullptr;
  layout::group_member* members = nullptr;
  layout::group_settled* settled = nullptr;  // one per member
  layout::group_timer* timers = nullptr;
  base::field32* key_index = nullptr;
  layout::group_key* keys = nullptr;
  layout::group_slot* slots = nullptr;
  layout::group_slot_details* details = nullptr;
  base::field32* chain = nullptr;  // of the hold arena: the next block
  std::byte* blocks = nullptr;
  // Copied from the validated header, and never read from shared memory again.
  std::uint32_t slot_count = 0, member_count = 0, key_capacity = 0, key_count = 0, block_count = 0;
  std::uint32_t key_number_mask = 0;  // key_table::number_mask
  std::uint64_t epoch = 0;
  group::rules rules;

  mutable bool broken = false;  // an impossible index was found

  layout::group_slot& slot(std::uint32_t index) const noexcept {
    if (index < slot_count) [[likely]]
      return slots[index];
    broken = true;
    static thread_local layout::group_slot out_of_range;
    return out_of_range;
  }
  layout::group_slot_details& details_of(std::uint32_t index) const noexcept {
    if (index < slot_count) [[likely]]
      return details[index];
    broken = true;
    static thread_local layout::group_slot_details nothing;
    return nothing;
  }
  layout::group_lists& lists() const noexcept { return header->lists; }
};

/// The cursor of one lane: everything at or above it is unclaimed.
struct lane_cursor {
  std::uint64_t position = 0, seq = 0, filtered = 0, dropped = 0;
};
inline lane_cursor read_cursor(const layout::group_cursor& cursor) noexcept {
  const auto& from = cursor.copy[sync::load_acquire(cursor.which) & 1];  // [Q2]
  return {sync::load_relaxed(from.position), sync::load_relaxed(from.seq),
          sync::load_relaxed(from.filtered), sync::load_relaxed(from.dropped)};
}

}  // namespace bus::group
