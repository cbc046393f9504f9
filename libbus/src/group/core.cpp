#include "group/core.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "sync/seeded_fault.hpp"

namespace bus::group {

namespace {

constexpr std::uint32_t parked_per_key = 1024;
constexpr int relieved_at_once = 8;
constexpr int relieved_while_waited_for = 128;
constexpr int timers_at_once = 256;
constexpr std::size_t reason_max_bytes = 256;

}  // namespace

// ---------------------------------------------------------------- without the lock

// Is this still the lease that the token names?
settled core::held(const lease_token& token, slot_truth& found) const noexcept {
  if (token.slot >= m_.slot_count) return settled::stale;
  const auto& slot = m_.slots[token.slot];
  // [Q1] acquire: what is read of the slot belongs to this state of it.
  found = slot_truth::unpack(sync::load_acquire(slot.truth));
  if ((found.generation != token.generation && !sync::makes(sync::fault::ack_without_generation)) ||
      sync::load_relaxed(slot.origin) != token.origin)
    return settled::stale;
  return found.state == slot_state::leased ? settled::ok : settled::stale;
}

bool core::is_held(const lease_token& token) const noexcept {
  slot_truth found;
  return held(token, found) == settled::ok;
}

settled core::ack(const lease_token& token, std::uint32_t member) noexcept {
  slot_truth from;
  // Before it says that it settles: a repair must not take a stale one for the one who does.
  if (held(token, from) != settled::ok) return settled::stale;
  auto& settling = m_.members[member].settling;
  sync::store_relaxed(settling, std::uint64_t{token.slot} + 1);  // [Q3] ordered by the decision
  for (;;) {
    sync::reach(sync::failpoint::settle_begin);
    slot_truth to = from;
    to.state = slot_state::settled;
    // [Q1] the decision: a holder that was fenced meanwhile loses here.
    if (sync::replace(m_.slots[token.slot].truth, from.pack(), to.pack())) break;
    if (held(token, from) != settled::ok) {
      sync::store_relaxed(settling, 0);
      return settled::stale;
    }
  }
  sync::reach(sync::failpoint::settle_marked);
  auto& slot = m_.slots[token.slot];
  std::uint64_t head;
  do {
    head = sync::load_relaxed(m_.header->returned);
    slot.next = head == 0 ? no_index : static_cast<std::uint32_t>(head - 1);
    // [Q3] `next` and the truth before the head names the slot; pairs with the exchange in collect.
  } while (!sync::replace(m_.header->returned, head, std::uint64_t{token.slot} + 1));
  sync::reach(sync::failpoint::settle_pushed);
  // [Q3] release: whoever sees this finds the slot pushed, or collected.
  sync::store_release(settling, 0);
  return settled::ok;
}

settled core::start(const lease_token& token) noexcept {
  slot_truth from;
  do {
    if (held(token, from) != settled::ok) return settled::stale;
    if (from.started) return settled::ok;
    slot_truth to = from;
    to.started = true;
    if (sync::replace(m_.slots[token.slot].truth, from.pack(), to.pack())) return settled::ok;
  } while (true);
}

// ---------------------------------------------------------------- cursors and pins

bool core::update_pin(std::uint32_t lane) noexcept {
  const auto& memory = lanes_[lane];
  if (memory.header == nullptr || memory.overwriting) return false;
  const stand at = stand_of(lane);
  std::uint64_t lowest = at.position;
  const std::uint32_t first = m_.cursors[lane].ring_first;
  if (first != no_index) lowest = std::min(lowest, sync::load_relaxed(m_.slot(first).place));
  auto& words = pin(lane);
  const std::uint64_t before = sync::load_relaxed(words.cursor);
  if (lowest == before) return false;
  // [G2] release: nobody of the group looks at what is below any more; pairs with the acquire in
  // the publisher's scan.
  sync::store_release(words.cursor, lowest);
  sync::reach(sync::failpoint::pin_raised);
  sync::store_relaxed(words.next_seq, at.seq);
  return lowest > before;
}

bool core::empty_ring(std::uint32_t lane) noexcept {
  std::uint32_t index = m_.cursors[lane].ring_first;
  for (std::uint32_t steps = 0; index != no_index && steps < m_.slot_count; ++steps) {
    const std::uint32_t next = m_.slot(index).ring_next;
    if (truth(index).state == slot_state::skipped || !copy_out_of_ring(index)) return false;
    index = next;
  }
  return !m_.broken;
}

void core::relieve(std::uint32_t lane) noexcept {
  const auto& memory = lanes_[lane];
  if (memory.header == nullptr) return;
  // A little ahead of the tail: only a reason to act.
  const std::uint64_t end = sync::load_relaxed(memory.header->limits.reserved_end);
  std::uint32_t index = m_.cursors[lane].ring_first;
  // A publisher that waits for the space is waited for with more patience.
  const int most = sync::load_relaxed(memory.header->counters.waiting) == 0
                       ? relieved_at_once
                       : relieved_while_waited_for;
  for (int i = 0; i < most && index != no_index; ++i) {
    const auto& slot = m_.slot(index);
    if (m_.broken || sync::load_relaxed(slot.place) + memory.capacity_bytes / 2 > end) return;
    const std::uint32_t next = slot.ring_next;
    const slot_state state = truth(index).state;
    if (state != slot_state::skipped && state != slot_state::settled && !copy_out_of_ring(index))
      return;
    index = next;
  }
}

void core::add_blocks(std::uint32_t from, std::uint32_t count) noexcept {
  if (sync::load_relaxed(m_.header->blocks_reserved) != from || count > m_.block_count - from)
    return;
  auto& l = m_.lists();
  for (std::uint32_t at = from + count; at-- != from;) {
    m_.chain[at] = l.block_free == 0 ? no_index : l.block_first;
    l.block_first = at;
    ++l.block_free;
  }
  sync::store_relaxed(m_.header->blocks_reserved, std::uint64_t{from} + count);
}

// ---------------------------------------------------------------- slots and records

void core::insert_in_ring(std::uint32_t behind, std::uint32_t index) noexcept {
  const auto& slot = m_.slot(index);
  const std::uint64_t place = sync::load_relaxed(slot.place);
  for (std::uint32_t next = m_.slot(behind).ring_next, steps = 0;
       next != no_index && sync::load_relaxed(m_.slot(next).place) < place && steps < m_.slot_count;
       next = m_.slot(next).ring_next, ++steps)
    behind = next;
  in_ring(m_, layout::lane_of_origin(sync::load_relaxed(slot.origin))).insert_behind(behind, index);
}

// The last one made: it is nowhere but in the lists that new_slot, admit_key and a claim put it in.
void core::undo_slot(std::uint32_t index) noexcept {
  auto& slot = m_.slots[index];
  slot_truth t = truth(index);
  if (t.state == slot_state::leased) unlink_lease(index);
  if (const std::uint64_t key = sync::load_relaxed(slot.key); key != 0) {
    key_table keys(m_);
    layout::group_key* entry = keys.find(key);
    if (entry != nullptr && entry->holder == index + 1) {
      keys.remove(entry);
    } else if (entry != nullptr && t.state == slot_state::parked) {
      std::uint32_t* link = &entry->first;
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
  drop_record(index);
  t.state = slot_state::free;
  store_truth(index, t);
  put_free(m_, index);
  sync::reach(sync::failpoint::claim_undone);
}

layout::record_shape core::shape_of(const layout::group_slot& slot) const noexcept {
  std::uint64_t word = 0;
  read_record(slot, 8, reinterpret_cast<std::byte*>(&word), sizeof word);
  auto shape = layout::record_shape::unpack(word);
  const auto& memory =
      lanes_[layout::lane_of_origin(sync::load_relaxed(slot.origin)) % layout::group_lanes_max];
  if (memory.header == nullptr || shape.payload_bytes > memory.max_message_bytes ||
      shape.header_bytes % layout::header_align != 0) {
    m_.broken = true;
    return {};
  }
  return shape;
}

void core::read_record(const layout::group_slot& slot, std::uint64_t offset, std::byte* to,
                       std::uint64_t bytes) const noexcept {
  const std::uint64_t place = sync::load_relaxed(slot.place);
  if ((place & layout::place_in_arena) != 0) {
    hold_arena(m_).copy_out(to, static_cast<std::uint32_t>(place), offset, bytes);
    return;
  }
  const std::uint32_t lane = layout::lane_of_origin(sync::load_relaxed(slot.origin));
  if (!knows_lane(lane) || bytes > lanes_[lane].largest_bytes()) {
    m_.broken = true;
    return;
  }
  sync::hardware::copy_out(to, lanes_[lane].at(place) + offset, bytes);
}

void core::leave_ring(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  if ((sync::load_relaxed(slot.place) & layout::place_in_arena) != 0) return;
  in_ring(m_, layout::lane_of_origin(sync::load_relaxed(slot.origin))).remove(index);
}

void core::drop_record(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  const std::uint64_t place = sync::load_relaxed(slot.place);
  if ((place & layout::place_in_arena) != 0) {
    const auto shape = shape_of(slot);
    hold_arena(m_).drop(
        static_cast<std::uint32_t>(place),
        layout::record_header_bytes + std::uint64_t{shape.header_bytes} + shape.payload_bytes);
  } else {
    leave_ring(index);
  }
  auto& story = m_.story(index);
  if (story.reason_bytes != 0) {
    hold_arena(m_).drop(story.reason_block, story.reason_bytes);
    story.reason_bytes = 0;
  }
}

bool core::copy_out_of_ring(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  const std::uint64_t place = sync::load_relaxed(slot.place);
  const std::uint32_t lane = layout::lane_of_origin(sync::load_relaxed(slot.origin));
  if ((place & layout::place_in_arena) != 0) return true;
  if (!knows_lane(lane)) return false;
  const auto shape = shape_of(slot);
  if (m_.broken) return false;
  const std::uint32_t first = hold_arena(m_).put(
      lanes_[lane].at(place),
      layout::record_header_bytes + std::uint64_t{shape.header_bytes} + shape.payload_bytes);
  if (first == no_index) return false;
  sync::reach(sync::failpoint::hold_copied);
  leave_ring(index);
  sync::reach(sync::failpoint::hold_left_ring);
  // [Q5] release: the copy before the place names it; pairs with the acquire of a holder that looks
  // whether its record moved.
  sync::store_release(slot.place, layout::place_in_arena | first);
  sync::bump(m_.header->counters.held_copies, 1);
  return true;
}

// ---------------------------------------------------------------- settling

void core::unlink_lease(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  if (slot.heap_index != no_index)
    timers(m_).remove(index);
  else
    leases(m_).remove(index);
  --m_.lists().lease_count;
}

void core::collect() noexcept {
  if (sync::load_relaxed(m_.header->returned) == 0) return;
  // [Q3] pairs with the compare-and-swap in ack.
  std::uint64_t head = sync::exchange_both(m_.header->returned, 0);
  sync::reach(sync::failpoint::collect_taken);
  if (m_.lists().lease_count >= m_.rules.max_ack_pending) news_ = true;
  auto index = static_cast<std::uint32_t>(head - 1);
  for (std::uint32_t steps = 0; index != no_index; ++steps) {
    if (index >= m_.slot_count || steps > m_.slot_count ||
        truth(index).state != slot_state::settled) {
      m_.broken = true;
      return;
    }
    const std::uint32_t next = m_.slots[index].next;
    unlink_lease(index);
    sync::reach(sync::failpoint::collect_unlinked);
    finish(index);
    index = next;
  }
}

// A settled one that was taken from the stack by who died then is on no list, and a repair cannot
// tell it from one whose holder is about to return it. That one says so when it has.
void core::collect_doubtful() noexcept {
  std::array<std::uint32_t, 8> returned;
  std::size_t count = 0;
  std::uint32_t left = 0;
  for (std::uint32_t index = 0; index < std::min(m_.lists().slots_used, m_.slot_count); ++index) {
    const slot_truth t = truth(index);
    if (t.state != slot_state::settled) continue;
    // [Q3] acquire: pairs with the release in ack.
    const bool says_so =
        t.owner >= m_.member_count ||
        sync::load_acquire(m_.members[t.owner].settling) != std::uint64_t{index} + 1;
    if (says_so && count < returned.size())
      returned[count++] = index;
    else
      ++left;
  }
  m_.lists().doubtful = left;
  collect();  // the stack has all of them but the lost ones
  for (std::size_t i = 0; i < count; ++i) {
    if (truth(returned[i]).state != slot_state::settled) continue;
    unlink_lease(returned[i]);
    finish(returned[i]);
  }
}

// Settled, and not returned yet: its holder may have been stopped in between. It waits behind the
// others, so that it holds up none of them.
void core::stand_aside(std::uint32_t index, std::uint64_t now) noexcept {
  auto& slot = m_.slot(index);
  if (slot.heap_index != no_index)
    timers(m_).remove(index);
  else
    leases(m_).remove(index);
  sync::store_relaxed(slot.since, now);
  leases(m_).push_back(index);
}

// Settled, or a dead letter now. It is in no list but that of its record's place.
void core::finish(std::uint32_t index) noexcept {
  slot_truth t = truth(index);
  drop_record(index);
  release_key(index);
  t.state = slot_state::free;
  store_truth(index, t);
  sync::reach(sync::failpoint::collect_freed);
  put_free(m_, index);
}

// False: it was settled meanwhile.
bool core::leave_lease(std::uint32_t index, slot_truth from, slot_truth to) noexcept {
  to.started = false;
  to.generation = from.generation + 1;
  if (!sync::replace(m_.slot(index).truth, from.pack(), to.pack())) return false;  // [Q1]
  sync::reach(sync::failpoint::return_marked);
  unlink_lease(index);
  sync::reach(sync::failpoint::return_unlinked);
  return true;
}

std::uint64_t core::backoff_of(std::uint32_t failed, std::uint64_t salt) const noexcept {
  const auto& rules = m_.rules;
  if (rules.backoff_count == 0) return 0;
  const std::uint64_t delay =
      rules.backoff[std::min(failed == 0 ? 0 : failed - 1, rules.backoff_count - 1)];
  const double share =
      static_cast<double>(base::mix(salt) >> 11) / static_cast<double>(1ull << 53);  // [0, 1)
  return static_cast<std::uint64_t>(static_cast<double>(delay) *
                                    (1.0 + rules.jitter * (2.0 * share - 1.0)));
}

// For the record of death, should it come to that: who had it last, and what was wrong.
void core::note_failure(std::uint32_t index, std::uint32_t owner,
                        std::string_view reason) noexcept {
  auto& story = m_.story(index);
  if (story.first_ticks == 0) story.first_ticks = sync::load_relaxed(m_.slot(index).since);
  if (story.reason_bytes != 0) hold_arena(m_).drop(story.reason_block, story.reason_bytes);
  story.reason_bytes = 0;
  char text[sizeof(layout::group_member::name) + 1 + reason_max_bytes];
  const char* name = owner < m_.member_count ? m_.members[owner].name : "";
  std::size_t bytes = ::strnlen(name, sizeof(layout::group_member::name));
  std::memcpy(text, name, bytes);
  text[bytes++] = '\n';
  reason = reason.substr(0, reason_max_bytes);
  if (!reason.empty()) std::memcpy(text + bytes, reason.data(), reason.size());
  bytes += reason.size();
  story.reason_block = hold_arena(m_).put(reinterpret_cast<const std::byte*>(text), bytes);
  if (story.reason_block != no_index) story.reason_bytes = static_cast<std::uint32_t>(bytes);
}

// What was leased comes back, and counts.
void core::fail(std::uint32_t index, slot_truth old, const std::uint64_t* delay, death last,
                std::uint64_t now) noexcept {
  slot_truth to = old;
  to.failed = std::min(old.failed + 1, slot_truth::failed_max);
  const bool dies =
      m_.rules.max_deliver > 0 && to.failed >= static_cast<std::uint32_t>(m_.rules.max_deliver);
  const std::uint64_t wait = delay != nullptr ? *delay : backoff_of(to.failed, now ^ old.pack());
  auto& story = m_.story(index);
  if (dies) {
    story.death = static_cast<std::uint32_t>(last);
    to.state = slot_state::dying;
  } else {
    story.due = now + wait;
    to.state = wait == 0 ? slot_state::ready : slot_state::delayed;
  }
  if (!leave_lease(index, old, to)) return;
  to.started = false;
  to.generation = old.generation + 1;
  if (dies)
    to_death(index, to, last);
  else if (wait == 0)
    to_ready(index, to, false);
  else
    to_delayed(index, to, now + wait);
}

void core::lease_expired(std::uint32_t index, slot_truth t, std::uint64_t now) noexcept {
  sync::bump(m_.header->counters.expired, 1);
  if (expired_count_ < std::size(expired_))
    expired_[expired_count_++] = {sync::load_relaxed(m_.slot(index).origin), t.owner};
  note_failure(index, t.owner, "ack_wait passed");
  fail(index, t, nullptr, death::expired, now);
}

// REQUIRES: the truth says so already.
void core::to_ready(std::uint32_t index, slot_truth, bool in_front) noexcept {
  if (in_front)
    ready_queue(m_).push_front(index);
  else
    ready_queue(m_).push_back(index);
  news_ = true;
}

void core::to_delayed(std::uint32_t index, slot_truth, std::uint64_t due) noexcept {
  timers(m_).add(index, due);
  ++m_.lists().delayed_count;
  news_ = true;                   // a place in the window, and a new time to wake at
  (void)copy_out_of_ring(index);  // no room: it pins the ring
  if (m_.rules.on_fail == fail_rule::skip || sync::makes(sync::fault::key_released_early))
    release_key(index);
}

void core::timer_due(std::uint32_t index, std::uint64_t now) noexcept {
  slot_truth t = truth(index);
  if (t.state == slot_state::leased) return lease_expired(index, t, now);  // with a time of its own
  if (t.state == slot_state::settled) return stand_aside(index, now);
  timers(m_).remove(index);
  sync::reach(sync::failpoint::timer_taken);
  if (t.state != slot_state::delayed) {
    m_.broken = true;
    return;
  }
  --m_.lists().delayed_count;
  const std::uint64_t key = sync::load_relaxed(m_.slot(index).key);
  if (m_.rules.order == order_rule::key && key != 0 && m_.rules.on_fail == fail_rule::skip) {
    take_up(index);
    return;
  }
  t.state = slot_state::ready;
  store_truth(index, t);
  to_ready(index, t, false);
}

void core::run_events(std::uint64_t now) noexcept {
  if (m_.lists().doubtful != 0) [[unlikely]]
    collect_doubtful();
  // Without dead letters only a crash leaves one here.
  if (m_.lists().dying_count != 0) {
    const auto dying = dying_queue(m_);
    for (std::uint32_t left = std::min<std::uint32_t>(dying.count, 64); left != 0; --left) {
      const std::uint32_t index = dying.first;
      if (!try_move(index)) break;
      dying.pop_front();
      finish_move(index);
    }
  }
  for (int i = 0; i < timers_at_once; ++i) {
    const timers all(m_);
    if (m_.broken || all.next_due() > now) break;
    const std::uint32_t index = all.next_slot();
    timer_due(index, now);
    if (!timers(m_).empty() && timers(m_).next_slot() == index && timers(m_).next_due() <= now)
      break;  // started this moment: next time
  }
  if (m_.rules.ack_wait == 0) return;
  for (int i = 0; i < timers_at_once; ++i) {
    const std::uint32_t index = m_.lists().lease_first;
    if (index == no_index || m_.broken) return;
    if (sync::load_relaxed(m_.slot(index).since) + m_.rules.ack_wait > now) return;
    const slot_truth t = truth(index);
    if (t.state != slot_state::leased) {
      stand_aside(index, now);
      continue;
    }
    lease_expired(index, t, now);
  }
}

settled core::nack(const lease_token& token, std::uint64_t now, const std::uint64_t* delay,
                   std::string_view reason) noexcept {
  slot_truth old;
  if (held(token, old) != settled::ok) return settled::stale;
  note_failure(token.slot, old.owner, reason);
  sync::bump(m_.header->counters.nacked, 1);
  fail(token.slot, old, delay, death::max_deliver, now);
  return settled::ok;
}

settled core::release(const lease_token& token) noexcept {
  slot_truth old;
  if (held(token, old) != settled::ok) return settled::stale;
  slot_truth to = old;
  to.state = slot_state::ready;
  if (!leave_lease(token.slot, old, to)) return settled::stale;
  sync::bump(m_.header->counters.released, 1);
  if (sync::makes(sync::fault::returned_is_settled)) return finish(token.slot), settled::ok;
  to_ready(token.slot, to, true);
  return settled::ok;
}

settled core::reject(const lease_token& token, std::string_view reason) noexcept {
  slot_truth old;
  if (held(token, old) != settled::ok) return settled::stale;
  note_failure(token.slot, old.owner, reason);
  slot_truth to = old;
  to.state = slot_state::dying;
  to.failed = std::min(old.failed + 1, slot_truth::failed_max);
  m_.story(token.slot).death = static_cast<std::uint32_t>(death::rejected);
  if (!leave_lease(token.slot, old, to)) return settled::stale;
  sync::bump(m_.header->counters.rejected, 1);
  to.started = false;
  to.generation = old.generation + 1;
  to_death(token.slot, to, death::rejected);
  return settled::ok;
}

settled core::extend(const lease_token& token, std::uint64_t now,
                     const std::uint64_t* duration) noexcept {
  slot_truth t;
  if (held(token, t) != settled::ok) return settled::stale;
  auto& slot = m_.slot(token.slot);
  auto& story = m_.story(token.slot);
  if (story.lease_begin == 0) story.lease_begin = sync::load_relaxed(slot.since);
  if (story.first_ticks == 0) story.first_ticks = story.lease_begin;
  if (m_.rules.ack_wait == 0) return settled::ok;
  const std::uint64_t last = story.lease_begin + m_.rules.max_lease;
  const std::uint64_t due =
      std::min(now + (duration != nullptr ? *duration : m_.rules.ack_wait), last);
  if (slot.heap_index != no_index)
    timers(m_).remove(token.slot);
  else
    leases(m_).remove(token.slot);
  sync::reach(sync::failpoint::extend_unlinked);
  if (duration == nullptr && due != last) {
    sync::store_relaxed(slot.since, now);
    story.due = 0;
    leases(m_).push_back(token.slot);
  } else {
    story.due = due;
    timers(m_).add(token.slot, due);
  }
  sync::bump(m_.header->counters.extended, 1);
  return settled::ok;
}

std::uint32_t core::ack_all(std::uint32_t member, std::uint32_t lane, std::uint64_t seq) noexcept {
  std::uint32_t count = 0;
  std::uint32_t index = m_.lists().lease_first;
  for (std::uint32_t steps = 0; index != no_index && steps < m_.slot_count; ++steps) {
    const auto& slot = m_.slot(index);
    const std::uint32_t next = slot.lease_next;
    const slot_truth t = truth(index);
    const std::uint64_t origin = sync::load_relaxed(slot.origin);
    if (t.state == slot_state::leased && t.owner == member &&
        layout::lane_of_origin(origin) == lane && layout::seq_of_origin(origin) <= seq) {
      slot_truth to = t;
      to.state = slot_state::settled;
      if (sync::replace(m_.slot(index).truth, t.pack(), to.pack())) {
        unlink_lease(index);
        finish(index);
        ++count;
      }
    }
    index = next;
  }
  return count;
}

// ---------------------------------------------------------------- death of members

std::uint32_t core::member_died(std::uint32_t member, std::uint64_t now) noexcept {
  collect();
  std::uint32_t count = 0;
  const auto back = [&](std::uint32_t index) {
    const slot_truth t = truth(index);
    if (t.state != slot_state::leased || t.owner != member) return;
    ++count;
    if (t.started) {
      sync::bump(m_.header->counters.died, 1);
      note_failure(index, t.owner, "its process died");
      fail(index, t, nullptr, death::max_deliver, now);
      return;
    }
    slot_truth to = t;
    to.state = slot_state::ready;
    if (!leave_lease(index, t, to)) return;
    sync::bump(m_.header->counters.returned_unstarted, 1);
    to_ready(index, to, false);
  };
  std::uint32_t index = m_.lists().lease_first;
  for (std::uint32_t steps = 0; index != no_index && steps < m_.slot_count; ++steps) {
    const std::uint32_t next = m_.slot(index).lease_next;
    back(index);
    index = next;
  }
  // Leases with a time of their own are among the timers; returning one moves others.
  for (std::uint32_t at = 0; at < m_.lists().timer_count && at < m_.slot_count;) {
    const std::uint32_t before = m_.lists().timer_count;
    const std::uint32_t slot = m_.timers[at].slot;
    back(slot);
    if (m_.lists().timer_count >= before) ++at;
  }
  sync::reach(sync::failpoint::member_returned);
  return count;
}

void core::member_gone(std::uint32_t member) noexcept {
  collect();
  if (sync::makes(sync::fault::orphan_never_collected)) return;
  for (std::uint32_t index = 0; index < std::min(m_.lists().slots_used, m_.slot_count); ++index) {
    const slot_truth t = truth(index);
    if (t.state != slot_state::settled || t.owner != member) continue;
    unlink_lease(index);
    finish(index);
  }
  sync::reach(sync::failpoint::member_collected);
}

// ---------------------------------------------------------------- dead letters

void core::to_death(std::uint32_t index, slot_truth, death) noexcept {
  release_key(index);
  sync::bump(m_.header->counters.dead, 1);
  news_ = true;
  if (try_move(index))
    finish_move(index);
  else
    dying_queue(m_).push_back(index);
}

// [Q4] announced, decided; the caller writes, then frees.
void core::decide_move(std::uint32_t index, slot_truth t, std::uint64_t number) noexcept {
  sync::store_release(m_.header->move_intent, std::uint64_t{index} | (number & intent_mask) << 24);
  sync::reach(sync::failpoint::death_announced);
  t.state =
      sync::makes(sync::fault::letter_freed_too_early) ? slot_state::free : slot_state::moving;
  store_truth(index, t);
  sync::reach(sync::failpoint::death_decided);
}

// False: the dead letters are full, or cannot be reached: it waits.
bool core::try_move(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  const slot_truth t = truth(index);
  const std::uint64_t origin = sync::load_relaxed(slot.origin);
  if (!m_.rules.dead_letters) {
    const std::uint64_t count = sync::load_relaxed(m_.header->discarded);
    decide_move(index, t, count);
    sync::store_release(m_.header->discarded, count + 1);
    return true;
  }
  if (letters_ == nullptr) return false;
  const auto shape = shape_of(slot);
  const std::uint64_t bytes =
      layout::record_header_bytes + std::uint64_t{shape.header_bytes} + shape.payload_bytes;
  if (m_.broken || !letters_->has_room(bytes)) return false;
  const std::uint32_t lane = layout::lane_of_origin(origin);
  const std::uint64_t place = sync::load_relaxed(slot.place);
  letter_sink::letter letter;
  if ((place & layout::place_in_arena) != 0 || !knows_lane(lane)) {
    std::byte* copy = letters_->scratch(bytes);
    if (copy == nullptr || !knows_lane(lane)) return false;
    read_record(slot, 0, copy, bytes);
    letter.record = copy;
  } else {
    letter.record = lanes_[lane].at(place);
  }
  decide_move(index, t, letters_->next_seq());
  char text[sizeof(layout::group_member::name) + 1 + reason_max_bytes];
  const auto& story = m_.story(index);
  const std::uint32_t text_bytes = std::min<std::uint32_t>(story.reason_bytes, sizeof text);
  if (text_bytes != 0)
    hold_arena(m_).copy_out(reinterpret_cast<std::byte*>(text), story.reason_block, 0, text_bytes);
  letter.attempts = t.acquired;
  letter.first_ticks = story.first_ticks;
  letter.lane = lane;
  letter.seq = layout::seq_of_origin(origin);
  letter.why = static_cast<death>(story.death);
  letter.record_bytes = bytes;
  const std::string_view both(text, text_bytes);
  const std::size_t end = both.find('\n');
  letter.member = both.substr(0, end);
  letter.reason = end == both.npos ? std::string_view() : both.substr(end + 1);
  letters_->append(letter);
  wrote_letter_ = true;
  sync::reach(sync::failpoint::death_written);
  return true;
}

void core::finish_move(std::uint32_t index) noexcept {
  slot_truth t = truth(index);
  drop_record(index);
  t.state = slot_state::free;
  store_truth(index, t);
  put_free(m_, index);
  sync::reach(sync::failpoint::death_freed);
}

// ---------------------------------------------------------------- keys

void core::release_key(std::uint32_t index) noexcept {
  if (m_.rules.order != order_rule::key) return;
  const std::uint64_t key = sync::load_relaxed(m_.slot(index).key);
  if (key == 0) return;
  layout::group_key* entry = key_table(m_).find(key);
  if (entry == nullptr || entry->holder != index + 1) return;  // delayed, and skipped before
  entry->holder = 0;
  promote(entry);
}

// Nobody has the key: the next one gets it.
void core::promote(layout::group_key* entry) noexcept {
  if (entry->first != 0) {
    const std::uint32_t index = entry->first - 1;
    auto& slot = m_.slot(index);
    entry->first = slot.next;
    if (--entry->parked == 0) entry->first = entry->last = 0;
    --m_.lists().parked_count;
    entry->holder = index + 1;
    slot_truth t = truth(index);
    t.state = slot_state::ready;
    store_truth(index, t);
    sync::reach(sync::failpoint::key_promoted);
    to_ready(index, t, false);
    return;
  }
  if (entry->skip != 0) {
    if (entry->looked_at_again != 0 || sync::makes(sync::fault::passed_over_is_forgotten)) return;
    // With on_fail=skip a retry may take the key meanwhile, and leave it.
    entry->looked_at_again = 1;
    m_.slot(entry->skip - 1).next = m_.lists().rescan_first;
    m_.lists().rescan_first = entry->skip;
    sync::reach(sync::failpoint::key_to_rescan);
    news_ = true;
    return;
  }
  key_table(m_).remove(entry);
}

bool core::is_passed_over(std::uint64_t key, std::uint32_t lane) noexcept {
  const layout::group_key* entry = key_table(m_).find(key);
  if (entry == nullptr || entry->skip == 0) return false;
  const auto& skip = m_.slot(entry->skip - 1);
  if (layout::lane_of_origin(sync::load_relaxed(skip.origin)) != lane) return false;
  // Counted when the cursor is stored: a crash before that takes it back.
  auto& story = m_.story(entry->skip - 1);
  const std::uint64_t cursor = stand_of(lane).seq, count = layout::count_of_skipped(story.skipped);
  if (!layout::was_counted_at(story.skipped, cursor))
    sync::store_release(story.skipped_before, count);
  sync::store_release(story.skipped, layout::pack_skipped(count + 1, cursor));
  return true;
}

core::admission core::admit_key(std::uint32_t index) noexcept {
  key_table keys(m_);
  auto& slot = m_.slot(index);
  const std::uint64_t key = sync::load_relaxed(slot.key);
  layout::group_key* entry = keys.find(key);
  if (entry == nullptr) {
    entry = keys.add(key);
    if (entry == nullptr) return admission::no_room;
    entry->holder = index + 1;
    return admission::out;
  }
  if (entry->skip != 0) return admission::no_room;  // passed over in another lane
  slot_truth t = truth(index);
  ++t.generation;
  t.started = false;
  t.owner = t.acquired = t.failed = 0;
  if (entry->parked < parked_per_key && m_.lists().parked_count < m_.rules.max_parked) {
    t.state = slot_state::parked;
    slot.next = 0;
    if (entry->parked++ == 0)
      entry->first = index + 1;
    else
      m_.slot(entry->last - 1).next = index + 1;
    entry->last = index + 1;
    ++m_.lists().parked_count;
    store_truth(index, t);
    return admission::parked;
  }
  // A ring that overwrites keeps nothing that could be looked at again.
  if ((sync::load_relaxed(slot.place) & layout::place_in_arena) != 0) return admission::no_room;
  t.state = slot_state::skipped;
  m_.story(index).skipped = layout::pack_skipped(
      1, stand_of(layout::lane_of_origin(sync::load_relaxed(slot.origin))).seq);
  entry->skip = index + 1;
  store_truth(index, t);
  sync::reach(sync::failpoint::claim_passed_over);
  return admission::passed_over;
}

void core::take_up(std::uint32_t index) noexcept {
  key_table keys(m_);
  auto& slot = m_.slot(index);
  layout::group_key* entry = keys.find(sync::load_relaxed(slot.key));
  if (entry == nullptr) entry = keys.add(sync::load_relaxed(slot.key));
  if (entry == nullptr) return;
  slot_truth t = truth(index);
  if (t.state == slot_state::free) t = {slot_state::free, false, 0, 0, 0, t.generation + 1};
  if (entry->holder == 0) {
    entry->holder = index + 1;
    t.state = slot_state::ready;
    store_truth(index, t);
    to_ready(index, t, false);
    return;
  }
  t.state = slot_state::parked;
  slot.next = 0;
  if (entry->parked++ == 0)
    entry->first = index + 1;
  else
    m_.slot(entry->last - 1).next = index + 1;
  entry->last = index + 1;
  ++m_.lists().parked_count;
  store_truth(index, t);
}

// The new place is in a slot before the old one is freed: of two the later counts, and slots of the
// key at or above the only one are void. So a crash repeats the look, and hands out nothing twice.
void core::go_on_from(std::uint32_t skip, bool nothing_left, std::uint64_t position,
                      std::uint64_t seq, std::uint32_t found) noexcept {
  auto& old = m_.slot(skip);
  const std::uint32_t lane = layout::lane_of_origin(sync::load_relaxed(old.origin));
  layout::group_key* entry = key_table(m_).find(sync::load_relaxed(old.key));
  if (entry == nullptr || entry->skip != skip + 1) {
    m_.broken = true;
    return;
  }
  const std::uint32_t rest = old.next;  // of the keys that wait to be looked at
  std::uint32_t now = skip;
  if (!nothing_left) {
    const std::uint32_t index = take_free(m_);
    if (index >= m_.slot_count) return;  // next time
    auto& slot = m_.slots[index];
    sync::store_relaxed(slot.origin, layout::pack_origin_of(lane, seq));
    sync::store_relaxed(slot.place, position);
    sync::store_relaxed(slot.key, sync::load_relaxed(old.key));
    slot.heap_index = no_index;
    m_.stories[index] = {};
    m_.stories[index].reason_block = no_index;
    const std::uint64_t left = layout::count_of_skipped(m_.story(skip).skipped) - found;
    m_.stories[index].skipped_before = left;
    m_.stories[index].skipped = layout::pack_skipped(left, stand_of(lane).seq);
    slot_truth t = truth(index);
    t = {slot_state::skipped, false, 0, 0, 0, t.generation + 1};
    store_truth(index, t);
    insert_in_ring(skip, index);
    now = index;
    sync::reach(sync::failpoint::rescan_placed);
  }
  entry->skip = nothing_left ? 0 : now + 1;
  drop_record(skip);
  slot_truth t = truth(skip);
  t.state = slot_state::free;
  store_truth(skip, t);
  sync::reach(sync::failpoint::rescan_freed);
  put_free(m_, skip);
  entry->looked_at_again = nothing_left || found != 0 ? 0 : 1;
  if (nothing_left) {
    m_.lists().rescan_first = rest;
    if (entry->holder == 0) promote(entry);
    return;
  }
  if (found != 0) {  // what was found comes first
    m_.lists().rescan_first = rest;
  } else {
    m_.slot(now).next = rest;
    m_.lists().rescan_first = now + 1;
  }
}

}  // namespace bus::group
