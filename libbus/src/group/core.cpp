#include "group/core.hpp"

#include <algorithm>

#include "sync/seeded_fault.hpp"

namespace bus::group {

namespace {

constexpr std::uint32_t relieved_per_claim = 8;
constexpr std::uint32_t relieved_while_waited_for = 128;

}  // namespace

// ---------------------------------------------------------------- without the lock

settled core::held(const lease_token& token, slot_status& found) const noexcept {
  std::uint64_t word = 0;
  const settled outcome = held(token, word);
  found = slot_status::unpack(word);
  return outcome;
}

bool core::is_held(const lease_token& token) const noexcept {
  std::uint64_t found = 0;
  return held(token, found) == settled::ok;
}

settled core::start(const lease_token& token) noexcept {
  slot_status from;
  do {
    if (held(token, from) != settled::ok) return settled::stale;
    if (from.started) return settled::ok;
    slot_status to = from;
    to.started = true;
    if (sync::replace(m_.slots[token.slot].status, from.pack(), to.pack())) return settled::ok;
  } while (true);
}

// ---------------------------------------------------------------- cursors and pins

bool core::empty_ring(std::uint32_t lane) noexcept {
  std::uint32_t index = m_.cursors[lane].ring_first;
  for (std::uint32_t steps = 0; index != no_index && steps < m_.slot_count; ++steps) {
    const std::uint32_t next = m_.slot(index).ring_next;
    if (status(index).state == slot_state::skipped || !copy_out_of_ring(index)) return false;
    index = next;
  }
  return !m_.broken;
}

void core::relieve_ring(std::uint32_t lane, std::uint64_t end, std::uint32_t claims) noexcept {
  const auto& memory = lanes_[lane];
  std::uint32_t index = m_.cursors[lane].ring_first;
  // A publisher waits for the space: copy out more.
  const std::uint32_t most = sync::load_relaxed(memory.header->counters.waiting) == 0
                                 ? relieved_per_claim * claims
                                 : relieved_while_waited_for;
  for (std::uint32_t i = 0; i < most && index != no_index; ++i) {
    const auto& slot = m_.slot(index);
    if (m_.broken || sync::load_relaxed(slot.location) + memory.capacity_bytes / 2 > end) return;
    const std::uint32_t next = slot.ring_next;
    const slot_state state = status(index).state;
    // its member may have been stopped before it announced this
    if (state == slot_state::settled)
      collect_slot(m_.slot(index), index);
    else if (state != slot_state::skipped && !copy_out_of_ring(index))
      return;
    index = next;
  }
}

void core::add_blocks(std::uint32_t from, std::uint32_t count) noexcept {
  if (sync::load_relaxed(m_.header->blocks_reserved) != from || count > m_.block_count - from)
    return;
  auto& l = m_.lists();
  for (std::uint32_t at = from + count; at-- != from;) {
    m_.chain[at] = l.block_free == 0 ? no_index : std::uint32_t(l.block_first);
    l.block_first = at;
    ++l.block_free;
  }
  sync::store_relaxed(m_.header->blocks_reserved, std::uint64_t{from} + count);
}

// ---------------------------------------------------------------- slots and records

void core::insert_in_ring(std::uint32_t behind, std::uint32_t index) noexcept {
  const auto& slot = m_.slot(index);
  const std::uint64_t location = sync::load_relaxed(slot.location);
  for (std::uint32_t next = m_.slot(behind).ring_next, steps = 0;
       next != no_index && sync::load_relaxed(m_.slot(next).location) < location &&
       steps < m_.slot_count;
       next = m_.slot(next).ring_next, ++steps)
    behind = next;
  in_ring(m_, layout::lane_of_origin(sync::load_relaxed(slot.origin))).insert_after(behind, index);
}

// Undoes the slot that was made last. It is only in the lists in which new_slot, admit_key and a
// claim put it.
void core::undo_slot(std::uint32_t index) noexcept {
  auto& slot = m_.slots[index];
  slot_status t = status(index);
  if (t.state == slot_state::leased) unlink_lease(m_.slot(index), index);
  if (const std::uint64_t key = sync::load_relaxed(slot.key); key != 0) {
    key_table keys(m_);
    layout::group_key* entry = keys.find(key);
    if (entry != nullptr && entry->holder == index + 1) {
      keys.remove(entry);
    } else if (entry != nullptr && t.state == slot_state::parked) {
      base::field32* link = &entry->first;
      std::uint32_t previous = 0;
      for (std::uint32_t steps = 0; *link != index + 1 && steps < entry->parked; ++steps) {
        previous = *link;
        link = &m_.slot(*link - 1).next;
      }
      *link = 0;
      entry->last = previous;
      --entry->parked;
      --m_.lists().parked_count;
    } else if (entry != nullptr && entry->skip == index + 1) {
      entry->skip = 0;
    }
  }
  drop_record(m_.slot(index), index);
  t.state = slot_state::free;
  store_status(index, t);
  put_free(m_, m_.slot(index), index);
  sync::reach(sync::failpoint::claim_undone);
}

layout::record_shape core::shape_of(const layout::group_slot& slot) const noexcept {
  std::uint64_t word = 0;
  read_record(slot, 8, reinterpret_cast<std::byte*>(&word), sizeof word);
  auto shape = layout::record_shape::unpack(word);
  const auto& memory =
      lanes_[layout::lane_of_origin(sync::load_relaxed(slot.origin)) % layout::group_lanes_max];
  if (memory.header == nullptr || shape.payload_bytes > memory.max_message_bytes ||
      shape.header_bytes % layout::header_align != 0 ||
      shape.total_bytes() > memory.largest_bytes()) {
    m_.broken = true;
    return {};
  }
  return shape;
}

void core::read_record(const layout::group_slot& slot, std::uint64_t offset, std::byte* to,
                       std::uint64_t bytes) const noexcept {
  const std::uint64_t location = sync::load_relaxed(slot.location);
  if ((location & layout::location_in_arena) != 0) {
    hold_arena(m_).copy_out(to, static_cast<std::uint32_t>(location), offset, bytes);
    return;
  }
  const std::uint32_t lane = layout::lane_of_origin(sync::load_relaxed(slot.origin));
  if (!knows_lane(lane) || bytes > lanes_[lane].largest_bytes()) {
    m_.broken = true;
    return;
  }
  sync::hardware::copy_out(to, lanes_[lane].at(location) + offset, bytes);
}

void core::drop_copy(std::uint32_t index) noexcept {
  const auto& slot = m_.slot(index);
  const auto shape = shape_of(slot);
  hold_arena(m_).drop(
      static_cast<std::uint32_t>(sync::load_relaxed(slot.location)),
      layout::record_header_bytes + std::uint64_t{shape.header_bytes} + shape.payload_bytes);
}

void core::drop_reason(std::uint32_t index) noexcept {
  auto& details = m_.details_of(index);
  hold_arena(m_).drop(details.reason_block, std::min<std::uint32_t>(details.reason_bytes, 4096));
  details.reason_bytes = 0;
}

bool core::copy_out_of_ring(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  const std::uint64_t location = sync::load_relaxed(slot.location);
  const std::uint32_t lane = layout::lane_of_origin(sync::load_relaxed(slot.origin));
  if ((location & layout::location_in_arena) != 0) return true;
  if (!knows_lane(lane)) return false;
  const auto shape = shape_of(slot);
  if (m_.broken) return false;
  const std::uint32_t first = hold_arena(m_).put(
      lanes_[lane].at(location),
      layout::record_header_bytes + std::uint64_t{shape.header_bytes} + shape.payload_bytes);
  if (first == no_index) return false;
  sync::reach(sync::failpoint::hold_copied);
  leave_ring(m_.slot(index), index);
  sync::reach(sync::failpoint::hold_left_ring);
  // [Q5] release: the copy before the location that names it; pairs with the acquire of a holder
  // that checks whether its record moved.
  sync::store_release(slot.location, layout::location_in_arena | first);
  sync::bump(m_.header->counters.held_copies, 1);
  return true;
}

}  // namespace bus::group
