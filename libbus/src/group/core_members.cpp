/// core, members: the leases of one member, together. The invariants are in core.hpp.

#include <algorithm>

#include "group/core.hpp"
#include "sync/seeded_fault.hpp"

namespace bus::group {

// Calls `act(index)` for the slots in the list of leases, then for those in the heap of timers:
// leases with a time of their own are there. `act` returns true if it changed the slot. A change
// moves other entries of the heap, so the heap is read again until a pass changes nothing.
template <class Act>
void core::each_lease(Act&& act) noexcept {
  std::uint32_t index = m_.lists().lease_first;
  for (std::uint32_t steps = 0; index != no_index && steps < m_.slot_count; ++steps) {
    const std::uint32_t next = m_.slot(index).lease_next;
    (void)act(index);
    index = next;
  }
  bool changed = !sync::makes(sync::fault::timed_leases_forgotten);
  for (std::uint32_t passes = 0; changed && passes < m_.slot_count; ++passes) {
    changed = false;
    for (std::uint32_t at = 0; at < m_.lists().timer_count && at < m_.slot_count; ++at)
      changed = act(m_.timers[at].slot) || changed;
  }
}

std::uint32_t core::ack_all(std::uint32_t member, std::uint32_t lane, std::uint64_t seq) noexcept {
  std::uint32_t count = 0;
  each_lease([&](std::uint32_t index) {
    auto& slot = m_.slot(index);
    const slot_status t = status(index);
    const std::uint64_t origin = sync::load_relaxed(slot.origin);
    if (t.state != slot_state::leased || t.owner != member ||
        layout::lane_of_origin(origin) != lane || layout::seq_of_origin(origin) > seq)
      return false;
    slot_status to = t;
    to.state = slot_state::settled;
    if (!sync::replace(slot.status, t.pack(), to.pack())) return false;
    unlink_lease(slot, index);
    finish(slot, index);
    ++count;
    return true;
  });
  return count;
}

std::uint32_t core::member_died(std::uint32_t member, std::uint64_t now) noexcept {
  collect();
  std::uint32_t count = 0;
  each_lease([&](std::uint32_t index) {
    const slot_status t = status(index);
    if (t.state != slot_state::leased || t.owner != member) return false;
    if (t.started) {
      note_failure(index, t.owner, "its process died");
      if (!fail(index, t, nullptr, death::max_deliver, now)) return false;
      sync::bump(m_.header->counters.died, 1);
    } else if (!return_unstarted(index, t)) {
      return false;
    }
    ++count;
    return true;
  });
  sync::reach(sync::failpoint::member_returned);
  return count;
}

bool core::has_lease_of(std::uint32_t member) const noexcept {
  const auto is_its = [&](std::uint32_t index) {
    const slot_status t = status(index);
    return t.state == slot_state::leased && t.owner == member;
  };
  std::uint32_t index = m_.lists().lease_first;
  for (std::uint32_t steps = 0; index != no_index && steps < m_.slot_count; ++steps) {
    if (is_its(index)) return true;
    index = m_.slot(index).lease_next;
  }
  const std::uint32_t timed = std::min<std::uint32_t>(m_.lists().timer_count, m_.slot_count);
  for (std::uint32_t at = 0; at < timed; ++at)
    if (is_its(m_.timers[at].slot)) return true;
  return false;
}

}  // namespace bus::group
