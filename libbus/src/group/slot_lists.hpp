#pragma once
/// slot_lists: the lists of slots. Singly linked by `next` (free, ready, dying, the parked ones of
/// a key), doubly by `lease_*` and `ring_*`.
///
/// A slot that the caller already has is passed along with its index, because finding it again
/// costs a check and three loads.
///
/// REQUIRES for all: the group's lock. The lists are indexes: repair rebuilds them.

#include <algorithm>

#include "group/group_memory.hpp"

namespace bus::group {

/// A queue linked by `next`.
struct slot_queue {
  const group_memory& memory;
  base::field32& first;
  base::field32& last;
  base::field32& count;

  void push_back(std::uint32_t index) const noexcept {
    memory.slot(index).next = no_index;
    if (count == 0)
      first = index;
    else
      memory.slot(last).next = index;
    last = index;
    ++count;
  }
  void push_front(std::uint32_t index) const noexcept {
    memory.slot(index).next = count == 0 ? no_index : std::uint32_t(first);
    if (count == 0) last = index;
    first = index;
    ++count;
  }
  /// no_index: empty.
  std::uint32_t pop_front() const noexcept {
    if (count == 0) return no_index;
    const std::uint32_t index = first;
    first = memory.slot(index).next;
    --count;
    return index;
  }
};

inline slot_queue ready_queue(const group_memory& m) noexcept {
  auto& l = m.lists();
  return {m, l.ready_first, l.ready_last, l.ready_count};
}
inline slot_queue dying_queue(const group_memory& m) noexcept {
  auto& l = m.lists();
  return {m, l.dying_first, l.dying_last, l.dying_count};
}

// A stack, because the slot that was used last is still in the cache.
inline std::uint32_t take_free(const group_memory& m) noexcept {
  auto& l = m.lists();
  if (l.free_count != 0) {
    const std::uint32_t index = l.free_first;
    l.free_first = m.slot(index).next;
    --l.free_count;
    return index;
  }
  const std::uint32_t used = l.slots_used;
  if (used >= m.slot_count) return no_index;
  l.slots_used = used + 1;
  return used;
}
inline std::uint32_t free_slots(const group_memory& m) noexcept {
  const auto& l = m.lists();
  return l.free_count + (m.slot_count - std::min<std::uint32_t>(l.slots_used, m.slot_count));
}
inline void put_free(const group_memory& m, layout::group_slot& slot,
                     std::uint32_t index) noexcept {
  auto& l = m.lists();
  slot.next = l.free_count == 0 ? no_index : std::uint32_t(l.free_first);
  l.free_first = index;
  ++l.free_count;
}

/// A list with two links; `Previous` and `Next` are members of the slot.
template <auto Previous, auto Next>
struct linked_list {
  const group_memory& memory;
  base::field32& first;
  base::field32& last;

  void push_back(layout::group_slot& slot, std::uint32_t index) const noexcept {
    const std::uint32_t behind = last;
    slot.*Previous = behind;
    slot.*Next = no_index;
    if (behind == no_index)
      first = index;
    else
      memory.slot(behind).*Next = index;
    last = index;
  }
  void insert_after(std::uint32_t behind, std::uint32_t index) const noexcept {
    auto& slot = memory.slot(index);
    const std::uint32_t next = memory.slot(behind).*Next;
    slot.*Previous = behind;
    slot.*Next = next;
    memory.slot(behind).*Next = index;
    if (next == no_index)
      last = index;
    else
      memory.slot(next).*Previous = index;
  }
  void remove(layout::group_slot& slot, std::uint32_t index) const noexcept {
    const std::uint32_t previous = slot.*Previous, next = slot.*Next;
    // A slot that is in no list looks like the only one of a list.
    if ((previous == no_index && first != index) || (next == no_index && last != index))
        [[unlikely]] {
      memory.broken = true;
      return;
    }
    (previous == no_index ? first : memory.slot(previous).*Next) = next;
    (next == no_index ? last : memory.slot(next).*Previous) = previous;
    slot.*Previous = slot.*Next = no_index;
  }
};

using lease_list =
    linked_list<&layout::group_slot::lease_previous, &layout::group_slot::lease_next>;
using ring_list = linked_list<&layout::group_slot::ring_previous, &layout::group_slot::ring_next>;

/// All leases that end `ack_wait` after `since`, in that order.
inline lease_list leases(const group_memory& m) noexcept {
  return {m, m.lists().lease_first, m.lists().lease_last};
}
/// All slots whose record lies in the ring of `lane`, by position.
inline ring_list in_ring(const group_memory& m, std::uint32_t lane) noexcept {
  auto& cursor = m.cursors[lane % layout::group_lanes_max];
  return {m, cursor.ring_first, cursor.ring_last};
}

}  // namespace bus::group
