/// core, keys: which message of a key is out, which wait, and what was passed over. core.hpp
/// defines GROUP-6.

#include "group/claim.hpp"
#include "group/core.hpp"
#include "sync/seeded_fault.hpp"

namespace bus::group {

namespace {

constexpr std::uint32_t parked_per_key = 1024;

}  // namespace

void core::release_key(std::uint32_t index) noexcept {
  if (m_.rules.order != order_rule::key) return;
  const std::uint64_t key = sync::load_relaxed(m_.slot(index).key);
  if (key == 0) return;
  layout::group_key* entry = key_table(m_).find(key);
  if (entry == nullptr || entry->holder != index + 1) return;  // delayed, with on_fail=skip
  entry->holder = 0;
  promote(entry);
}

// Gives the key, which no message holds, to the next one.
void core::promote(layout::group_key* entry) noexcept {
  if (entry->first != 0) {
    const std::uint32_t index = entry->first - 1;
    auto& slot = m_.slot(index);
    entry->first = slot.next;
    --entry->parked;
    if (entry->parked == 0) entry->first = entry->last = 0;
    --m_.lists().parked_count;
    entry->holder = index + 1;
    slot_status t = status(index);
    t.state = slot_state::ready;
    store_status(index, t);
    sync::reach(sync::failpoint::key_promoted);
    to_ready(index, t, false);
    return;
  }
  if (entry->skip != 0) {
    if (entry->is_looked_at_again() || sync::makes(sync::fault::passed_over_is_forgotten)) return;
    // With on_fail=skip a retry may take and release the key in between.
    entry->look_again(true);
    m_.slot(entry->skip - 1).next = m_.lists().rescan_first;
    m_.lists().rescan_first = entry->skip;
    sync::reach(sync::failpoint::key_to_rescan);
    wake_consumers_ = true;
    return;
  }
  key_table(m_).remove(entry);
}

bool core::is_passed_over(const layout::group_key& key, std::uint32_t lane) noexcept {
  const auto& skip = m_.slot(key.skip - 1);
  if (layout::lane_of_origin(sync::load_relaxed(skip.origin)) != lane) return false;
  // Counts once the cursor is stored: a crash before that takes it back.
  auto& details = m_.details_of(key.skip - 1);
  const std::uint64_t cursor = cursor_of(lane).seq, skipped = details.skipped;
  const std::uint64_t count = layout::count_of_skipped(skipped);
  if (!layout::was_counted_at(skipped, cursor)) sync::store_release(details.skipped_before, count);
  sync::store_release(details.skipped, layout::pack_skipped(count + 1, cursor));
  return true;
}

core::admission core::admit_key(std::uint32_t index, layout::group_key* entry) noexcept {
  auto& slot = m_.slot(index);
  if (entry == nullptr) {
    entry = key_table(m_).add(sync::load_relaxed(slot.key));
    if (entry == nullptr) return admission::no_room;
    entry->holder = index + 1;
    return admission::out;
  }
  if (entry->skip != 0) return admission::no_room;  // passed over in another lane
  slot_status t = status(index);
  ++t.generation;
  t.started = false;
  t.owner = t.acquired = t.failed = 0;
  if (entry->parked < parked_per_key && m_.lists().parked_count < m_.rules.max_parked) {
    park(*entry, index, t);
    return admission::parked;
  }
  // A ring that overwrites keeps nothing to read again.
  if ((sync::load_relaxed(slot.location) & layout::location_in_arena) != 0)
    return admission::no_room;
  t.state = slot_state::skipped;
  m_.details_of(index).skipped = layout::pack_skipped(
      1, cursor_of(layout::lane_of_origin(sync::load_relaxed(slot.origin))).seq);
  entry->skip = index + 1;
  store_status(index, t);
  sync::reach(sync::failpoint::claim_passed_over);
  return admission::passed_over;
}

void core::take_up(std::uint32_t index) noexcept {
  key_table keys(m_);
  auto& slot = m_.slot(index);
  layout::group_key* entry = keys.find(sync::load_relaxed(slot.key));
  if (entry == nullptr) entry = keys.add(sync::load_relaxed(slot.key));
  if (entry == nullptr) return;
  slot_status t = status(index);
  if (t.state == slot_state::free) t = {slot_state::free, false, 0, 0, 0, t.generation + 1};
  if (entry->holder == 0) {
    entry->holder = index + 1;
    t.state = slot_state::ready;
    store_status(index, t);
    to_ready(index, t, false);
    return;
  }
  park(*entry, index, t);
}

// Appends to the messages that wait for this key.
void core::park(layout::group_key& entry, std::uint32_t index, slot_status t) noexcept {
  t.state = slot_state::parked;
  m_.slot(index).next = 0;
  if (entry.parked++ == 0)
    entry.first = index + 1;
  else
    m_.slot(entry.last - 1).next = index + 1;
  entry.last = index + 1;
  ++m_.lists().parked_count;
  store_status(index, t);
}

// The new skipped slot is filled before the old one is freed: of two the later counts, and other
// slots of the key at or above the only one are void. So a crash repeats the search, and hands out
// nothing twice.
void core::continue_from(std::uint32_t skip, bool nothing_left, std::uint64_t position,
                         std::uint64_t seq, std::uint32_t found) noexcept {
  auto& old = m_.slot(skip);
  const std::uint32_t lane = layout::lane_of_origin(sync::load_relaxed(old.origin));
  layout::group_key* entry = key_table(m_).find(sync::load_relaxed(old.key));
  if (entry == nullptr || entry->skip != skip + 1) {
    m_.broken = true;
    return;
  }
  const std::uint32_t rest = old.next;  // the remaining keys to be looked at again
  std::uint32_t now = skip;
  if (!nothing_left) {
    const std::uint32_t index = take_free(m_);
    if (index >= m_.slot_count) return;  // next time
    auto& slot = m_.slots[index];
    sync::store_relaxed(slot.origin, layout::pack_origin_of(lane, seq));
    sync::store_relaxed(slot.location, position);
    sync::store_relaxed(slot.key, sync::load_relaxed(old.key));
    slot.heap_index = no_index;
    m_.details[index] = {};
    m_.details[index].reason_block = no_index;
    const std::uint64_t left = layout::count_of_skipped(m_.details_of(skip).skipped) - found;
    m_.details[index].skipped_before = left;
    m_.details[index].skipped = layout::pack_skipped(left, cursor_of(lane).seq);
    slot_status t = status(index);
    t = {slot_state::skipped, false, 0, 0, 0, t.generation + 1};
    store_status(index, t);
    insert_in_ring(skip, index);
    now = index;
    sync::reach(sync::failpoint::rescan_placed);
  }
  entry->skip = nothing_left ? 0 : now + 1;
  drop_record(m_.slot(skip), skip);
  slot_status t = status(skip);
  t.state = slot_state::free;
  store_status(skip, t);
  sync::reach(sync::failpoint::rescan_freed);
  put_free(m_, m_.slot(skip), skip);
  entry->look_again(!nothing_left && found == 0);
  if (nothing_left) {
    m_.lists().rescan_first = rest;
    if (entry->holder == 0) promote(entry);
    return;
  }
  if (found != 0) {  // what was found goes first
    m_.lists().rescan_first = rest;
  } else {
    m_.slot(now).next = rest;
    m_.lists().rescan_first = now + 1;
  }
}

}  // namespace bus::group
