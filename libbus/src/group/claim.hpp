#pragma once
/// claim: what core does for each message that is handed out and settled: its templates and inline
/// functions. Included by core.hpp only.

#include "group/core.hpp"
#include "group/key_table.hpp"
#include "group/slot_lists.hpp"
#include "group/timers.hpp"
#include "sync/failpoint.hpp"
#include "sync/seeded_fault.hpp"

namespace bus::group {

/// At most this many records are read in one turn of the lock.
inline constexpr std::uint32_t looked_at_once = 256;
/// Prefetches the record this far ahead, assumed to be as long as this one, up to this size.
inline constexpr std::uint64_t fetched_ahead = 8;
inline constexpr std::uint64_t fetched_largest_bytes = 1024;
/// From this many keys on, their table is not in the cache, so places of keys are prefetched, too.
inline constexpr std::uint32_t many_keys = 4096;

// Reports whether the token's lease is still the current one.
inline settled core::held(const lease_token& token, std::uint64_t& found) const noexcept {
  if (token.slot >= m_.slot_count) return settled::stale;
  const auto& slot = m_.slots[token.slot];
  // [Q1] acquire: what is read of the slot belongs to this status.
  found = sync::load_acquire(slot.status);
  const bool is_generation = layout::generation_of(found) == token.generation ||
                             sync::makes(sync::fault::ack_without_generation);
  return is_generation && layout::state_of(found) == slot_state::leased &&
                 sync::load_relaxed(slot.origin) == token.origin
             ? settled::ok
             : settled::stale;
}
inline settled core::ack(const lease_token& token, std::uint32_t member) noexcept {
  std::uint64_t from = 0;
  if (held(token, from) != settled::ok) return settled::stale;
  sync::reach(sync::failpoint::settle_begin);
  auto& queue = m_.settled[member];
  const std::uint64_t at = sync::load_relaxed(queue.tail);
  // [Q3] acquire: pairs with the release in collect_from: the old entry was read before.
  const std::uint64_t listed = at - sync::load_acquire(queue.head) + 1;
  if (listed <= layout::group_settled::places) {
    sync::store_relaxed(queue.entry[at % layout::group_settled::places],
                        layout::pack_settled(token.slot, layout::generation_of(from)));
    // [Q3] release: the entry before the tail counts it; pairs with the acquire in collect_from.
    sync::store_release(queue.tail, at + 1);
    sync::reach(sync::failpoint::settle_listed);
    queue_full_ = listed == layout::group_settled::places;
  }
  // [Q1] the decision: a holder whose lease was taken away loses here.
  while (!sync::replace(m_.slots[token.slot].status, from,
                        layout::with_state(from, slot_state::settled)))
    if (held(token, from) != settled::ok) return settled::stale;
  sync::reach(sync::failpoint::settle_marked);
  // [Q3] tail and decision before the loads below; pairs with the fence in collect.
  sync::full_fence_after_swap();
  auto& header = *m_.header;
  // A repair that dropped the queue may have passed over the entry.
  const bool is_passed = sync::load_relaxed(queue.head) - at - 1 < layout::group_settled::places &&
                         sync::load_relaxed(m_.slots[token.slot].status) ==
                             layout::with_state(from, slot_state::settled);
  if ((listed > layout::group_settled::places || is_passed) &&
      !sync::makes(sync::fault::passed_over_unlisted)) [[unlikely]] {
    sync::exchange_both(header.unlisted, 1);
    sync::full_fence_after_swap();
  }
  const std::uint64_t bit = 1ull << (member % 64);
  if ((sync::load_relaxed(header.settled_by) & bit) == 0) {
    sync::set_bits_both(header.settled_by, bit);
    sync::full_fence_after_swap();  // before the load of the sleepers
  }
  sync::reach(sync::failpoint::settle_announced);
  return settled::ok;
}

inline void core::store_cursor(std::uint32_t lane, const lane_cursor& to) noexcept {
  auto& cursor = m_.cursors[lane];
  const std::uint64_t other = ~sync::load_relaxed(cursor.which) & 1;
  auto& into = cursor.copy[other];
  sync::store_relaxed(into.position, to.position);
  sync::store_relaxed(into.seq, to.seq);
  sync::store_relaxed(into.filtered, to.filtered);
  sync::store_relaxed(into.dropped, to.dropped);
  // [Q2] release: slots and the new copy before it counts.
  sync::store_release(cursor.which, other);
}

inline bool core::update_pin(std::uint32_t lane) noexcept {
  if (lanes_[lane].header == nullptr || lanes_[lane].overwriting) return false;
  const auto& cursor = m_.cursors[lane];
  const auto& at = cursor.copy[sync::load_acquire(cursor.which) & 1];  // [Q2]
  std::uint64_t lowest = sync::load_relaxed(at.position);
  const std::uint32_t first = cursor.ring_first;
  if (first != no_index) lowest = std::min(lowest, sync::load_relaxed(m_.slot(first).location));
  auto& words = pin(lane);
  const std::uint64_t before = sync::load_relaxed(words.cursor);
  if (lowest == before) return false;
  // [G2] release: the group's last load of what is below; pairs with the acquire in the publisher's
  // scan.
  sync::store_release(words.cursor, lowest);
  sync::reach(sync::failpoint::pin_raised);
  sync::store_relaxed(words.next_seq, sync::load_relaxed(at.seq));
  return lowest > before;
}

// How many of the claimed bytes are not yet released to the publishers. Some may be held.
inline std::uint64_t core::pin_lag(std::uint32_t lane) const noexcept {
  if (lanes_[lane].header == nullptr || lanes_[lane].overwriting) return 0;
  const auto& cursor = m_.cursors[lane];
  const auto& at = cursor.copy[sync::load_acquire(cursor.which) & 1];  // [Q2]
  return sync::load_relaxed(at.position) - sync::load_relaxed(pin(lane).cursor);
}

inline void core::relieve(std::uint32_t lane, std::uint32_t claims) noexcept {
  const auto& memory = lanes_[lane];
  const std::uint32_t first = m_.cursors[lane].ring_first;
  if (first == no_index || memory.header == nullptr) return;
  // A little above the tail: only a reason to act.
  const std::uint64_t end = sync::load_relaxed(memory.header->limits.reserved_end);
  if (sync::load_relaxed(m_.slot(first).location) + memory.capacity_bytes / 2 <= end) [[unlikely]]
    relieve_ring(lane, end, claims);
}

inline void core::unlink_lease(layout::group_slot& slot, std::uint32_t index) noexcept {
  if (slot.heap_index != no_index) [[unlikely]]
    timers(m_).remove(index);
  else
    leases(m_).remove(slot, index);
  --m_.lists().lease_count;
}

inline void core::leave_ring(layout::group_slot& slot, std::uint32_t index) noexcept {
  if ((sync::load_relaxed(slot.location) & layout::location_in_arena) != 0) return;
  in_ring(m_, layout::lane_of_origin(sync::load_relaxed(slot.origin))).remove(slot, index);
}

inline void core::drop_record(layout::group_slot& slot, std::uint32_t index) noexcept {
  if ((sync::load_relaxed(slot.location) & layout::location_in_arena) != 0)
    drop_copy(index);
  else
    leave_ring(slot, index);
  if (m_.details_of(index).reason_bytes != 0) [[unlikely]]
    drop_reason(index);
}

inline std::uint64_t core::next_event() const noexcept {
  std::uint64_t next = timers(m_).next_due();
  if (m_.rules.ack_wait != 0 && m_.lists().lease_first != no_index)
    next = std::min(next,
                    sync::load_relaxed(m_.slot(m_.lists().lease_first).since) + m_.rules.ack_wait);
  return next;
}

// REQUIRES: the record cannot be overwritten, or the caller checks afterwards whether it was.
inline std::uint32_t core::new_slot(std::uint32_t lane, const ring::record_view& view,
                                    std::uint64_t key) noexcept {
  const std::uint32_t index = take_free(m_);
  if (index >= m_.slot_count) return no_index;
  auto& slot = m_.slots[index];
  std::uint64_t location = view.position;
  if (lanes_[lane].overwriting) {
    const std::uint64_t bytes = layout::record_header_bytes +
                                std::uint64_t{view.shape.header_bytes} + view.shape.payload_bytes;
    const std::uint32_t first = hold_arena(m_).put(view.data, bytes);
    if (first == no_index) {
      put_free(m_, slot, index);
      return no_index;
    }
    // If the record is overwritten during the copy, undo_slot relies on these two words.
    const std::uint64_t words[] = {view.seq, view.shape.pack()};
    std::memcpy(hold_arena(m_).block(first), words, sizeof words);
    location = layout::location_in_arena | first;
  }
  sync::store_relaxed(slot.origin, layout::pack_origin_of(lane, view.seq));
  sync::store_relaxed(slot.location, location);
  sync::store_relaxed(slot.key, key);
  slot.heap_index = no_index;
  auto& details = m_.details[index];
  if (details.first_ticks != 0 || details.reason_bytes != 0) {
    details = {};
    details.reason_block = no_index;
  }
  if ((location & layout::location_in_arena) == 0)
    in_ring(m_, lane).push_back(slot, index);
  else
    slot.ring_previous = slot.ring_next = no_index;
  return index;
}

inline std::uint32_t core::window(std::uint32_t max) const noexcept {
  const auto& l = m_.lists();
  const auto& rules = m_.rules;
  const std::uint32_t leased = l.lease_count, delayed = l.delayed_count;
  if (rules.order == order_rule::total)
    return leased + delayed + l.dying_count == 0 ? std::min(max, 1u) : 0;
  const std::uint32_t used =
      leased + (delayed > rules.max_delayed ? delayed - rules.max_delayed : 0);
  return used >= rules.max_ack_pending ? 0 : std::min(max, rules.max_ack_pending - used);
}

template <class Feed>
struct core::claim_sink {
  core& c;
  Feed& feed;
  const std::uint32_t lane;
  const std::uint32_t member;
  const std::uint64_t now;
  const bool keeps_slots;
  const bool by_key;
  std::uint64_t filtered = 0;
  std::uint64_t last_filtered_seq = 0;
  std::uint32_t looked = 0;
  std::uint32_t taken = 0;
  nothing_because why = nothing_because::empty;
  std::uint32_t last = no_index;  // the slot that was made last

  ring::verdict stop(nothing_because reason) noexcept {
    why = reason;
    return ring::verdict::full;
  }
  ring::verdict take(const ring::record_view& view) noexcept {
    last = no_index;
    if (++looked > looked_at_once) return stop(nothing_because::more);
    if (feed.full(view)) return stop(nothing_because::window);
    switch (feed.match(view)) {
      case Feed::matched::no:
        ++filtered;
        last_filtered_seq = view.seq;
        return ring::verdict::skipped;
      case Feed::matched::unknown: return stop(nothing_because::unknown);
      default: break;
    }
    const bool is_in_backlog = fetch_ahead(view);
    claimed one;
    one.acquired = 1;
    if (!keeps_slots) {
      one.number = c.next_number();
      one.token.origin = layout::pack_origin_of(lane, view.seq);
      feed.take(view, one);
      ++taken;
      return ring::verdict::taken;
    }
    const std::uint64_t key = by_key ? key_of(view, is_in_backlog) : 0;
    layout::group_key* busy = key == 0 ? nullptr : key_table(c.m_).find(key);
    if (busy != nullptr && busy->skip != 0 && c.is_passed_over(*busy, lane))
      return ring::verdict::skipped;
    const std::uint32_t index = c.new_slot(lane, view, key);
    if (index == no_index) return stop(nothing_because::slots);
    last = index;
    if (sync::makes(sync::fault::cursor_before_slots))
      c.store_cursor(lane, {view.position + view.shape.total_bytes(), view.seq + 1, 0, 0});
    sync::reach(sync::failpoint::claim_taking);
    if (key != 0) {
      switch (c.admit_key(index, busy)) {
        case admission::out: break;
        case admission::parked:
        case admission::passed_over: return ring::verdict::skipped;
        case admission::no_room:
          c.undo_slot(std::exchange(last, no_index));
          return stop(nothing_because::slots);
      }
    }
    auto& slot = c.m_.slots[index];
    // relaxed: ordered by the lock
    const std::uint32_t generation =
        slot_status::next_generation(layout::generation_of(sync::load_relaxed(slot.status)));
    sync::store_relaxed(slot.since, now);  // ordered by the status
    leases(c.m_).push_back(slot, index);
    ++c.m_.lists().lease_count;
    one.number = c.next_number();
    c.store_status(slot, {slot_state::leased, feed.starts(), member, 1, 0, generation});
    one.token = {index, generation, layout::pack_origin_of(lane, view.seq)};
    one.location = sync::load_relaxed(slot.location);
    feed.take(view, one);
    ++taken;
    return ring::verdict::taken;
  }
  // A backlog is in memory, not in the cache. Lines near the tail are left to the publisher.
  bool is_backlog(const ring::record_view& view, std::uint64_t records) const noexcept {
    const auto& memory = c.lanes_[lane];
    const std::uint64_t total = view.shape.total_bytes();
    return total <= fetched_largest_bytes &&
           view.position + records * total + memory.block_bytes() <=
               sync::load_relaxed(memory.header->limits.reserved_end);
  }
  // False: the record is not part of a backlog.
  bool fetch_ahead(const ring::record_view& view) noexcept {
    if (!is_backlog(view, fetched_ahead)) return false;
    const std::uint64_t total = view.shape.total_bytes();
    const std::byte* ahead = c.lanes_[lane].at(view.position + fetched_ahead * total);
    for (std::uint64_t line = 0; line < total; line += 64) sync::hardware::prefetch(ahead + line);
    return true;
  }
  known_key& known_at(std::uint64_t seq) const noexcept { return c.known_keys_[seq % keys_ahead]; }
  std::uint64_t key_of(const ring::record_view& view, bool is_in_backlog) noexcept {
    if (c.m_.lists().key_count < many_keys) return feed.key(view);
    const known_key known = known_at(view.seq);
    if (is_in_backlog) find_key_ahead(view);
    return known.origin == layout::pack_origin_of(lane, view.seq) && known.position == view.position
               ? known.key
               : feed.key(view);
  }
  // Assumes that the records in between are as long as this one. The bytes there may be a payload
  // that looks like a record, so the key counts only for a record at exactly this position.
  void find_key_ahead(const ring::record_view& view) noexcept {
    const auto& memory = c.lanes_[lane];
    if (memory.overwriting) return;
    static_assert(keys_ahead <= fetched_ahead);
    ring::record_view next;
    next.seq = view.seq + keys_ahead;
    next.position = view.position + keys_ahead * view.shape.total_bytes();
    const auto* words = &memory.word_at(next.position);
    // [R1] acquire: pairs with the release of the commit word in lane_writer::commit.
    if (sync::load_acquire(words[0]) != next.seq) return;
    next.data = reinterpret_cast<const std::byte*>(words);
    next.shape = layout::record_shape::unpack(sync::load_relaxed(words[1]));
    if (next.shape.total_bytes() > memory.largest_bytes() ||
        next.shape.header_bytes % layout::header_align != 0)
      return;
    const std::uint64_t key = feed.key(next);
    known_at(next.seq) = {layout::pack_origin_of(lane, next.seq), next.position, key};
    if (key != 0) key_table(c.m_).fetch(key);
  }
  void undo() noexcept {
    feed.undo();
    --taken;
    if (last != no_index) c.undo_slot(std::exchange(last, no_index));
  }
  /// The record that was read last has been overwritten, and does not count.
  void lapped(std::uint64_t next_seq) noexcept {
    if (last_filtered_seq == next_seq) --filtered;
    last_filtered_seq = 0;
    if (last != no_index &&
        layout::seq_of_origin(sync::load_relaxed(c.m_.slots[last].origin)) == next_seq)
      c.undo_slot(last);
    last = no_index;
  }
};

template <class Reader, class Feed>
nothing_because core::claim(std::uint32_t lane, std::uint32_t member, std::uint32_t max,
                            std::uint64_t now, Reader& reader, Feed& feed) noexcept {
  const bool by_key = m_.rules.order == order_rule::key;
  if (by_key && m_.lists().rescan_first != 0) return rescan(lane, reader, feed);
  lane_cursor at = cursor_of(lane);
  if (at.position % layout::record_align != 0) {
    m_.broken = true;
    return nothing_because::empty;
  }
  claim_sink<Feed> sink{*this, feed, lane, member, now, m_.rules.ack != ack_rule::none, by_key};
  reader.set_position(at.position, at.seq);
  sync::reach(sync::failpoint::claim_begin);
  auto outcome = ring::poll_outcome::empty;
  for (int laps = 0; laps < 4; ++laps) {
    sink.why = nothing_because::empty;
    outcome = reader.poll(max, sink);
    if (outcome == ring::poll_outcome::aborted) continue;
    if (outcome == ring::poll_outcome::lapped) {
      sink.lapped(reader.next_seq());
      std::uint64_t first_lost = 0;
      if (!reader.resume(first_lost)) break;
      note_lost(lane, at, first_lost, reader.next_seq() - first_lost);
      continue;
    }
    if (outcome == ring::poll_outcome::corrupt || outcome == ring::poll_outcome::unsupported)
      sink.why = nothing_because::broken_lane;
    break;
  }
  // The reader pauses now and then: the next record was not read.
  if (sink.taken == 0 && sink.why == nothing_because::empty && reader.position() != at.position &&
      (outcome == ring::poll_outcome::more || outcome == ring::poll_outcome::aborted))
    sink.why = nothing_because::more;
  if (reader.position() == at.position) return sink.why;
  sync::reach(sync::failpoint::claim_slots);
  at.position = reader.position();
  at.seq = reader.next_seq();
  at.filtered += sink.filtered;
  store_cursor(lane, at);
  sync::reach(sync::failpoint::claim_cursor);
  return sink.why;
}

/// Reads again what was passed over of one key, and puts some of it into slots: ready or parked.
/// Hands out nothing.
template <class Feed>
struct core::rescan_sink {
  core& c;
  Feed& feed;
  const std::uint32_t lane;
  const std::uint64_t key;
  const std::uint64_t end;  // the cursor's sequence
  std::uint32_t behind;     // the last slot in the ring that is known to come before
  std::uint32_t looked = 0;
  std::uint32_t found = 0;
  bool reached_end = false;
  bool needs_learning = false;

  static constexpr std::uint32_t found_max = 64;

  ring::verdict take(const ring::record_view& view) noexcept {
    if (view.seq >= end) return reached_end = true, ring::verdict::full;
    if (++looked > looked_at_once || found == found_max) return ring::verdict::full;
    const auto matched = feed.match(view);
    if (matched == Feed::matched::unknown) return needs_learning = true, ring::verdict::full;
    if (matched == Feed::matched::no || feed.key(view) != key) return ring::verdict::skipped;
    if (free_slots(c.m_) < 2) return ring::verdict::full;  // one is for the new skipped slot
    const std::uint32_t index = c.new_slot(lane, view, key);
    if (index == no_index) return ring::verdict::full;
    ++found;
    // It comes before what was claimed since, and its position must be pinned as such.
    in_ring(c.m_, lane).remove(c.m_.slot(index), index);
    c.insert_in_ring(behind, index);
    behind = index;
    c.take_up(index);
    sync::reach(sync::failpoint::rescan_found);
    return ring::verdict::skipped;
  }
  void undo() noexcept {}
};

template <class Reader, class Feed>
nothing_because core::rescan(std::uint32_t lane, Reader& reader, Feed& feed) noexcept {
  const std::uint32_t skip = m_.lists().rescan_first - 1;
  auto& slot = m_.slot(skip);
  const std::uint64_t origin = sync::load_relaxed(slot.origin);
  const std::uint64_t key = sync::load_relaxed(slot.key);
  const std::uint64_t location = sync::load_relaxed(slot.location);
  if (location % layout::record_align != 0) m_.broken = true;
  if (layout::lane_of_origin(origin) != lane || m_.broken) return nothing_because::empty;
  const lane_cursor at = cursor_of(lane);
  reader.set_position(location, layout::seq_of_origin(origin));
  rescan_sink<Feed> sink{*this, feed, lane, key, at.seq, skip};
  ring::poll_outcome outcome = reader.poll(looked_at_once + 1, sink);
  while (outcome == ring::poll_outcome::aborted) outcome = reader.poll(looked_at_once + 1, sink);
  if (reader.position() >= at.position) sink.reached_end = true;
  continue_from(skip, sink.reached_end, reader.position(), reader.next_seq(), sink.found);
  if (sink.needs_learning) return nothing_because::unknown;
  // No slot for what was found: it is read again when one is free.
  if (!sink.reached_end && reader.position() == location) return nothing_because::slots;
  return outcome == ring::poll_outcome::more || outcome == ring::poll_outcome::empty
             ? nothing_because::rescanning
             : nothing_because::broken_lane;
}

template <class Feed>
std::uint32_t core::claim_ready(std::uint32_t member, std::uint32_t max, std::uint64_t now,
                                Feed& feed) noexcept {
  const auto ready = ready_queue(m_);
  std::uint32_t count = 0;
  while (count < max && m_.lists().ready_count != 0) {
    const std::uint32_t index = m_.lists().ready_first;
    if (index >= m_.slot_count) {
      m_.broken = true;
      break;
    }
    auto& slot = m_.slots[index];
    slot_status t = status(index);
    if (t.state != slot_state::ready) {
      m_.broken = true;
      break;
    }
    claimed one;
    one.token = {index, (t.generation + 1) & slot_status::generation_mask,
                 sync::load_relaxed(slot.origin)};
    one.location = sync::load_relaxed(slot.location);
    one.acquired = std::min(t.acquired + 1, slot_status::count_max);
    one.failed = t.failed;
    one.number = next_number();
    const bool starts = feed.starts();  // before the feed counts it
    if (!feed.again(one)) break;
    ready.pop_front();
    t.state = slot_state::leased;
    t.started = starts;
    t.owner = member;
    t.acquired = one.acquired;
    ++t.generation;
    sync::store_relaxed(slot.since, now);
    auto& details = m_.details_of(index);
    details.due = 0;
    details.lease_begin = 0;
    if (details.first_ticks == 0) details.first_ticks = now;
    leases(m_).push_back(slot, index);
    ++m_.lists().lease_count;
    store_status(index, t);
    sync::reach(sync::failpoint::claim_again);
    if (t.acquired > 1) sync::bump(m_.header->counters.redelivered, 1);
    ++count;
  }
  return count;
}

}  // namespace bus::group
