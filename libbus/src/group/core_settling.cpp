/// core, settling: collects what was settled, returns what failed and what a dead member held.
/// core.hpp defines the invariants.

#include <algorithm>

#include "group/claim.hpp"
#include "group/core.hpp"
#include "sync/seeded_fault.hpp"

namespace bus::group {

namespace {

constexpr int timers_at_once = 256;

}  // namespace

// REQUIRES: the slot is settled.
void core::collect_slot(layout::group_slot& slot, std::uint32_t index) noexcept {
  if (m_.lists().lease_count >= m_.rules.max_ack_pending) wake_consumers_ = true;
  unlink_lease(slot, index);
  sync::reach(sync::failpoint::collect_unlinked);
  finish(slot, index);
}

[[gnu::flatten]] void core::collect_from(std::uint32_t member) noexcept {
  auto& queue = m_.settled[member];
  // [Q3] acquire: pairs with the release in ack.
  const std::uint64_t tail = sync::load_acquire(queue.tail);
  std::uint64_t head = sync::load_relaxed(queue.head);
  if (head == tail) return;
  if (tail - head > layout::group_settled::places) {
    m_.broken = true;
    return;
  }
  sync::reach(sync::failpoint::collect_taken);
  for (; head != tail; ++head) {
    const std::uint64_t entry =
        sync::load_relaxed(queue.entry[head % layout::group_settled::places]);
    const std::uint32_t index = layout::slot_of_settled(entry);
    if (index >= m_.slot_count) {
      m_.broken = true;
      return;
    }
    auto& slot = m_.slots[index];
    const std::uint64_t status = sync::load_acquire(slot.status);  // [Q1] acquire
    if (layout::generation_of(status) != layout::generation_of_settled(entry)) continue;
    if (layout::state_of(status) == slot_state::settled) [[likely]]
      collect_slot(slot, index);
    else if (layout::state_of(status) == slot_state::leased &&
             !sync::makes(sync::fault::passed_over_unlisted))
      break;
  }
  // [Q3] release: the entries were read before they may be written again; pairs with the acquire in
  // ack.
  sync::store_release(queue.head, head);
}

void core::collect(std::uint32_t member) noexcept {
  if (member < m_.member_count) collect_from(member);
  if (!may_collect(member)) return;
  auto& header = *m_.header;
  const std::uint64_t bits = sync::keep_bits_both(header.settled_by, own_bit(member));
  const bool all =
      sync::load_relaxed(header.unlisted) != 0 && sync::exchange_both(header.unlisted, 0) != 0;
  // [Q3] the loads above before those of tails and decisions; pairs with the fence in ack.
  sync::full_fence_after_swap();
  const auto used = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(sync::load_acquire(header.members_used), m_.member_count));
  for (std::uint32_t one = 0; one < used; ++one)
    if ((bits >> (one % 64) & 1) != 0) collect_from(one);
  if (all) [[unlikely]]
    collect_unlisted();
}

std::uint32_t core::collect_unlisted() noexcept {
  std::uint32_t count = 0;
  std::uint32_t index = m_.lists().lease_first;
  for (std::uint32_t steps = 0; index != no_index && steps < m_.slot_count; ++steps) {
    const std::uint32_t next = m_.slot(index).lease_next;
    if (status(index).state == slot_state::settled) collect_slot(m_.slot(index), index), ++count;
    index = next;
  }
  // Leases with an end of their own are among the timers; removing one moves others.
  for (std::uint32_t at = 0; at < m_.lists().timer_count && at < m_.slot_count;) {
    const std::uint32_t slot = m_.timers[at].slot;
    if (slot < m_.slot_count && status(slot).state == slot_state::settled)
      collect_slot(m_.slot(slot), slot), ++count;
    else
      ++at;
  }
  return count;
}

// Frees a settled slot, which is in no list but that of its ring.
void core::finish(layout::group_slot& slot, std::uint32_t index) noexcept {
  drop_record(slot, index);
  if (m_.rules.order == order_rule::key) release_key(index);
  auto& status = slot.status;
  sync::store_release(status, layout::with_state(sync::load_relaxed(status), slot_state::free));
  sync::reach(sync::failpoint::collect_freed);
  put_free(m_, slot, index);
}

// False: it was settled in the meantime.
bool core::leave_lease(std::uint32_t index, slot_status from, slot_status to) noexcept {
  to.started = false;
  to.generation = from.generation + 1;
  if (!sync::replace(m_.slot(index).status, from.pack(), to.pack())) return false;  // [Q1]
  sync::reach(sync::failpoint::return_marked);
  unlink_lease(m_.slot(index), index);
  sync::reach(sync::failpoint::return_unlinked);
  return true;
}

std::uint64_t core::backoff_of(std::uint32_t failed, std::uint64_t salt) const noexcept {
  const auto& rules = m_.rules;
  if (rules.backoff_count == 0) return 0;
  const std::uint64_t delay =
      rules.backoff[std::min(failed == 0 ? 0 : failed - 1, rules.backoff_count - 1)];
  // [0, 1)
  const double share = static_cast<double>(base::mix(salt) >> 11) / static_cast<double>(1ull << 53);
  return static_cast<std::uint64_t>(static_cast<double>(delay) *
                                    (1.0 + rules.jitter * (2.0 * share - 1.0)));
}

// Kept for the record of death: the last holder, and the error.
void core::note_failure(std::uint32_t index, std::uint32_t owner,
                        std::string_view reason) noexcept {
  auto& details = m_.details_of(index);
  if (details.first_ticks == 0) details.first_ticks = sync::load_relaxed(m_.slot(index).since);
  if (details.reason_bytes != 0) drop_reason(index);
  char text[sizeof(layout::group_member::name) + 1 + reason_max_bytes];
  const char* name = owner < m_.member_count ? m_.members[owner].name : "";
  std::size_t bytes = ::strnlen(name, sizeof(layout::group_member::name));
  std::memcpy(text, name, bytes);
  text[bytes++] = '\n';
  reason = reason.substr(0, reason_max_bytes);
  if (!reason.empty()) std::memcpy(text + bytes, reason.data(), reason.size());
  bytes += reason.size();
  details.reason_block = hold_arena(m_).put(reinterpret_cast<const std::byte*>(text), bytes);
  if (details.reason_block != no_index) details.reason_bytes = static_cast<std::uint32_t>(bytes);
}

// Returns a leased message and counts a failure. False: its holder settled or started it meanwhile.
bool core::fail(std::uint32_t index, slot_status old, const std::uint64_t* delay, death last,
                std::uint64_t now) noexcept {
  slot_status to = old;
  to.failed = std::min(old.failed + 1, slot_status::failed_max);
  const bool dies =
      m_.rules.max_deliver > 0 && to.failed >= static_cast<std::uint32_t>(m_.rules.max_deliver);
  const std::uint64_t wait = delay != nullptr ? *delay : backoff_of(to.failed, now ^ old.pack());
  auto& details = m_.details_of(index);
  if (dies) {
    details.death = static_cast<std::uint32_t>(last);
    to.state = slot_state::dying;
  } else {
    details.due = now + wait;
    to.state = wait == 0 ? slot_state::ready : slot_state::delayed;
  }
  if (!leave_lease(index, old, to)) return false;
  to.started = false;
  to.generation = old.generation + 1;
  if (dies)
    to_death(index, to, last);
  else if (wait == 0)
    to_ready(index, to, false);
  else
    to_delayed(index, to, now + wait);
  return true;
}

// A message on which no work began returns as if it had never been handed out.
bool core::return_unstarted(std::uint32_t index, slot_status t) noexcept {
  slot_status to = t;
  to.state = slot_state::ready;
  if (!leave_lease(index, t, to)) return false;
  sync::bump(m_.header->counters.returned_unstarted, 1);
  to_ready(index, to, false);
  return true;
}

void core::lease_expired(std::uint32_t index, slot_status t, std::uint64_t now) noexcept {
  const std::uint64_t origin = sync::load_relaxed(m_.slot(index).origin);
  if (!t.started && !sync::makes(sync::fault::unstarted_fails)) {
    if (!return_unstarted(index, t)) return;
  } else {
    note_failure(index, t.owner, "ack_wait expired");
    if (!fail(index, t, nullptr, death::expired, now)) return;
  }
  sync::bump(m_.header->counters.expired, 1);
  if (expired_count_ < std::size(expired_)) {
    auto& told = expired_[expired_count_++];
    told.origin = origin;
    told.owner = t.owner;
    told.started = t.started;
    if (t.owner < m_.member_count)
      std::memcpy(told.name, m_.members[t.owner].name, sizeof told.name);
    told.name[sizeof told.name - 1] = '\0';
  }
  // An active member that lets a started lease expire is deposed: the next one that checks takes
  // over. Messages that it claimed ahead and did not start prove nothing.
  if (t.started && m_.rules.mode == mode_rule::failover &&
      sync::load_relaxed(m_.header->active) >> 32 == std::uint64_t{t.owner} + 1)
    depose(t.owner);
}

void core::depose(std::uint32_t member) noexcept {
  sync::store_relaxed(m_.header->active, 0);
  wake_consumers_ = true;
  deposed_ = member;
  if (member < m_.member_count)
    std::memcpy(deposed_name_, m_.members[member].name, sizeof deposed_name_ - 1);
}

// REQUIRES: the status is stored already.
void core::to_ready(std::uint32_t index, slot_status, bool in_front) noexcept {
  if (in_front)
    ready_queue(m_).push_front(index);
  else
    ready_queue(m_).push_back(index);
  wake_consumers_ = true;
}

void core::to_delayed(std::uint32_t index, slot_status, std::uint64_t due) noexcept {
  timers(m_).add(index, due);
  ++m_.lists().delayed_count;
  wake_consumers_ = true;         // space in the window, and a new time to wake at
  (void)copy_out_of_ring(index);  // no room: it pins the ring
  if (m_.rules.on_fail == fail_rule::skip || sync::makes(sync::fault::key_released_early))
    release_key(index);
}

void core::timer_due(std::uint32_t index, std::uint64_t now) noexcept {
  slot_status t = status(index);
  if (t.state == slot_state::leased) return lease_expired(index, t, now);  // its own end
  if (t.state == slot_state::settled) return collect_slot(m_.slot(index), index);
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
  store_status(index, t);
  to_ready(index, t, false);
}

void core::run_events(std::uint64_t now) noexcept {
  // In a group without dead letters, only a crash leaves one here.
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
    if (m_.broken || all.next_due() > now || expired_count_ == std::size(expired_)) break;
    const std::uint32_t index = all.next_slot();
    timer_due(index, now);
    const timers left(m_);
    // it was started just now: next time
    if (!left.empty() && left.next_slot() == index && left.next_due() <= now) break;
  }
  if (m_.rules.ack_wait == 0) return;
  for (int i = 0; i < timers_at_once; ++i) {
    const std::uint32_t index = m_.lists().lease_first;
    if (index == no_index || m_.broken || expired_count_ == std::size(expired_)) return;
    if (sync::load_relaxed(m_.slot(index).since) + m_.rules.ack_wait > now) return;
    const slot_status t = status(index);
    if (t.state == slot_state::settled)
      collect_slot(m_.slot(index), index);
    else if (t.state == slot_state::leased)
      lease_expired(index, t, now);
    else
      m_.broken = true;
  }
}

settled core::nack(const lease_token& token, std::uint64_t now, const std::uint64_t* delay,
                   std::string_view reason) noexcept {
  slot_status old;
  if (held(token, old) != settled::ok) return settled::stale;
  note_failure(token.slot, old.owner, reason);
  sync::bump(m_.header->counters.nacked, 1);
  return fail(token.slot, old, delay, death::max_deliver, now) ? settled::ok : settled::stale;
}

settled core::release(const lease_token& token) noexcept {
  slot_status old;
  if (held(token, old) != settled::ok) return settled::stale;
  slot_status to = old;
  to.state = slot_state::ready;
  if (!leave_lease(token.slot, old, to)) return settled::stale;
  sync::bump(m_.header->counters.released, 1);
  if (sync::makes(sync::fault::returned_is_settled)) {
    finish(m_.slot(token.slot), token.slot);
    return settled::ok;
  }
  to_ready(token.slot, to, true);
  return settled::ok;
}

settled core::reject(const lease_token& token, std::string_view reason) noexcept {
  slot_status old;
  if (held(token, old) != settled::ok) return settled::stale;
  note_failure(token.slot, old.owner, reason);
  slot_status to = old;
  to.state = slot_state::dying;
  to.failed = std::min(old.failed + 1, slot_status::failed_max);
  m_.details_of(token.slot).death = static_cast<std::uint32_t>(death::rejected);
  if (!leave_lease(token.slot, old, to)) return settled::stale;
  sync::bump(m_.header->counters.rejected, 1);
  to.started = false;
  to.generation = old.generation + 1;
  to_death(token.slot, to, death::rejected);
  return settled::ok;
}

settled core::extend(const lease_token& token, std::uint64_t now,
                     const std::uint64_t* duration) noexcept {
  slot_status t;
  if (held(token, t) != settled::ok) return settled::stale;
  auto& slot = m_.slot(token.slot);
  auto& details = m_.details_of(token.slot);
  if (details.lease_begin == 0) details.lease_begin = sync::load_relaxed(slot.since);
  if (details.first_ticks == 0) details.first_ticks = details.lease_begin;
  if (m_.rules.ack_wait == 0) return settled::ok;
  const std::uint64_t last = std::uint64_t{details.lease_begin} + m_.rules.max_lease;
  const std::uint64_t due =
      std::min(now + (duration != nullptr ? *duration : m_.rules.ack_wait), last);
  if (slot.heap_index != no_index)
    timers(m_).remove(token.slot);
  else
    leases(m_).remove(slot, token.slot);
  sync::reach(sync::failpoint::extend_unlinked);
  if (duration == nullptr && due != last) {
    sync::store_relaxed(slot.since, now);
    details.due = 0;
    leases(m_).push_back(slot, token.slot);
  } else {
    details.due = due;
    timers(m_).add(token.slot, due);
  }
  sync::bump(m_.header->counters.extended, 1);
  return settled::ok;
}

core::loss core::take_loss(std::uint32_t lane) noexcept {
  auto& cursor = m_.cursors[lane];
  const std::uint64_t dropped = cursor_of(lane).dropped, told = sync::load_relaxed(cursor.told);
  if (dropped <= told || sync::makes(sync::fault::loss_unreported)) return {};
  sync::store_relaxed(cursor.told, dropped);
  return {sync::load_relaxed(cursor.lost_first), dropped - told};
}

void core::member_left(std::uint32_t member) noexcept {
  // The member that takes over the entry next does not become the active one by that.
  if (sync::load_relaxed(m_.header->active) >> 32 == std::uint64_t{member} + 1 &&
      !sync::makes(sync::fault::place_stays_active))
    sync::store_relaxed(m_.header->active, 0);
  if (sync::makes(sync::fault::unlisted_never_collected)) return;
  collect_from(member);
  collect_unlisted();
  sync::reach(sync::failpoint::member_collected);
}

void core::member_joins(std::uint32_t member) noexcept {
  auto& queue = m_.settled[member];
  sync::store_release(queue.head, sync::load_relaxed(queue.tail));
}

}  // namespace bus::group
