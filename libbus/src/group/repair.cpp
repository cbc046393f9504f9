// Rebuilds the indexes that a dead holder of the lock may have left half changed. Slots and cursors
// are whole by GROUP-1 and GROUP-2; everything else is derived from them.

#include <algorithm>
#include <vector>

#include "group/core.hpp"
#include "group/key_table.hpp"
#include "group/slot_lists.hpp"
#include "group/timers.hpp"
#include "sync/failpoint.hpp"
#include "sync/seeded_fault.hpp"

namespace bus::group {

struct repairer {
  core& c;
  group_memory& m;
  const std::function<bool(std::uint32_t)>& knows_subject;
  std::vector<bool> used_blocks;
  std::vector<std::uint32_t> leased, ready, dying, in_rings, keyed;
  // The words of the slots, read once: something may overwrite them during the repair, and a sort
  // that sees two values of one slot does not end.
  struct copied {
    std::uint64_t location = 0, origin = 0, since = 0, key = 0;
  };
  std::vector<copied> copies;
  std::uint32_t nonsense = 0;
  std::uint32_t slots_used = 0;

  repairer(core& of, const std::function<bool(std::uint32_t)>& knows)
      : c(of),
        m(of.memory()),
        knows_subject(knows),
        used_blocks(of.memory().block_count),
        copies(of.memory().slot_count) {}

  std::uint64_t origin(std::uint32_t index) const noexcept { return copies[index].origin; }
  std::uint64_t location(std::uint32_t index) const noexcept { return copies[index].location; }
  std::uint32_t lane(std::uint32_t index) const noexcept {
    return layout::lane_of_origin(origin(index));
  }

  /// Claims a chain of blocks. False: it is invalid, or shares a block with another one.
  bool take_chain(std::uint32_t first, std::uint64_t bytes) {
    std::uint64_t count = std::max<std::uint64_t>(hold_arena::blocks_for(bytes), 1);
    std::vector<std::uint32_t> mine;
    for (std::uint32_t at = first; count != 0; --count, at = m.chain[at]) {
      if (at >= m.block_count || used_blocks[at]) break;
      used_blocks[at] = true;
      mine.push_back(at);
    }
    if (count == 0) {
      m.chain[mine.back()] = no_index;  // nothing continues from there
      return true;
    }
    for (const std::uint32_t at : mine) used_blocks[at] = false;
    return false;
  }

  static bool is_sane(const layout::record_shape& shape, const ring::lane_memory& memory) noexcept {
    return shape.payload_bytes <= memory.max_message_bytes &&
           shape.header_bytes % layout::header_align == 0 &&
           shape.total_bytes() <= memory.largest_bytes();
  }

  enum class kind : std::uint8_t { good, unclaimed, bad };
  kind judge(std::uint32_t index, slot_state state) {
    const std::uint32_t at = lane(index);
    if (at >= layout::group_lanes_max || sync::load_relaxed(m.cursors[at].attached) == 0)
      return kind::bad;
    if (!c.knows_lane(at)) {
      // A slot that cannot be checked here is not dropped: another process repairs it by hand
      m.broken = true;
      return kind::good;
    }
    const auto lane_cursor = c.cursor_of(at);
    const std::uint64_t seq = layout::seq_of_origin(origin(index));
    if (seq >= lane_cursor.seq) return kind::unclaimed;  // GROUP-2
    if (seq < sync::load_relaxed(m.cursors[at].first_seq)) return kind::bad;
    const auto& memory = c.lane_memory(at);
    if ((location(index) & layout::location_in_arena) != 0) {
      const auto first = static_cast<std::uint32_t>(location(index));
      if (first >= m.block_count) return kind::bad;
      std::uint64_t words[3];
      hold_arena(m).copy_out(reinterpret_cast<std::byte*>(words), first, 0, sizeof words);
      const auto shape = layout::record_shape::unpack(words[1]);
      if (words[0] != seq || !is_sane(shape, memory) ||
          (knows_subject && !knows_subject(static_cast<std::uint32_t>(words[2]))))
        return kind::bad;
      return take_chain(first, layout::record_header_bytes + std::uint64_t{shape.header_bytes} +
                                   shape.payload_bytes)
                 ? kind::good
                 : kind::bad;
    }
    if (location(index) % layout::record_align != 0 || location(index) >= lane_cursor.position ||
        lane_cursor.position - location(index) > memory.capacity_bytes + memory.capacity_bytes / 2)
      return kind::bad;
    const std::uint64_t word = sync::load_relaxed(memory.word_at(location(index)));
    // The record of a skipped slot may have been aborted.
    if (state == slot_state::skipped && word == (seq | layout::commit_aborted)) return kind::good;
    const auto shape = layout::record_shape::unpack(
        sync::load_relaxed(memory.word_at(location(index) + sizeof(layout::word))));
    return word == seq && is_sane(shape, memory) ? kind::good : kind::bad;
  }

  /// In a lane that the group has entered and this process cannot map.
  bool is_out_of_reach(std::uint32_t index) const noexcept {
    const std::uint32_t at = lane(index);
    return at < layout::group_lanes_max && !c.knows_lane(at) &&
           sync::load_relaxed(m.cursors[at].attached) != 0;
  }

  void forget(std::uint32_t index, slot_status t) noexcept {
    t.state = slot_state::free;
    sync::store_release(m.slots[index].status, t.pack());
  }

  void drop_indexes() noexcept {
    auto& l = m.lists();
    l = {};
    l.free_first = l.ready_first = l.ready_last = l.lease_first = l.lease_last = no_index;
    l.dying_first = l.dying_last = l.block_first = no_index;
    for (std::uint32_t at = 0; at < layout::group_lanes_max; ++at)
      m.cursors[at].ring_first = m.cursors[at].ring_last = no_index;
    std::fill_n(m.key_index, m.key_capacity, 0);
    m.broken = false;
  }

  // Judges every slot by its own words.
  void sort_slots() {
    for (std::uint32_t index = 0; index < m.slot_count; ++index) {
      auto& slot = m.slots[index];
      slot.heap_index = no_index;
      slot.lease_previous = slot.lease_next = slot.ring_previous = slot.ring_next = no_index;
      slot_status t = slot_status::unpack(sync::load_acquire(slot.status));
      if (t.pack() != 0) m.lists().slots_used = slots_used = index + 1;
      copies[index] = {sync::load_relaxed(slot.location), sync::load_relaxed(slot.origin),
                       sync::load_relaxed(slot.since), sync::load_relaxed(slot.key)};
      if (t.state == slot_state::free) continue;
      if (is_out_of_reach(index)) {
        m.broken = true;  // nothing is decided about it here
        continue;
      }
      const kind is = t.state > slot_state::skipped ? kind::bad : judge(index, t.state);
      if (is != kind::good) {
        nonsense += is == kind::bad ? 1 : 0;
        forget(index, t);
        continue;
      }
      if (t.state == slot_state::moving) {
        if (was_written(index)) {
          release_chain(index);
          forget(index, t);
          continue;
        }
        t.state = slot_state::dying;
        sync::store_release(slot.status, t.pack());
      }
      keep_text(index);
      if ((location(index) & layout::location_in_arena) == 0) in_rings.push_back(index);
      if (copies[index].key != 0) keyed.push_back(index);
      switch (t.state) {
        case slot_state::settled:
        case slot_state::leased: leased.push_back(index); break;
        case slot_state::ready: ready.push_back(index); break;
        case slot_state::dying: dying.push_back(index); break;
        case slot_state::delayed:
          timers(m).add(index, m.details[index].due);
          ++m.lists().delayed_count;
          break;
        case slot_state::skipped: take_back_uncounted(index); break;
        default: break;  // parked: linked by their keys
      }
    }
  }

  // Undoes the count of a claim whose cursor was never stored: its messages are passed over again.
  void take_back_uncounted(std::uint32_t index) noexcept {
    auto& details = m.details[index];
    if (lane(index) >= layout::group_lanes_max) return;
    const std::uint64_t cursor = c.cursor_of(lane(index)).seq;
    const std::uint64_t skipped = details.skipped;
    if (layout::was_counted_at(skipped, cursor))
      details.skipped = layout::pack_skipped(details.skipped_before, cursor);
  }

  // GROUP-4: was the dead letter that was announced for this slot written?
  bool was_written(std::uint32_t index) noexcept {
    const std::uint64_t intent = sync::load_relaxed(m.header->move_intent);
    if ((intent & 0xffffff) != index || sync::makes(sync::fault::dead_letter_written_again))
      return false;
    const std::uint64_t now = m.rules.dead_letters
                                  ? (c.dead_letters_ != nullptr ? c.dead_letters_->next_seq() : 0)
                                  : sync::load_relaxed(m.header->discarded);
    return (now & intent_mask) != intent >> 24;
  }
  void release_chain(std::uint32_t index) {
    if ((location(index) & layout::location_in_arena) == 0) return;
    for (std::uint32_t at = static_cast<std::uint32_t>(location(index));
         at < m.block_count && used_blocks[at]; at = m.chain[at])
      used_blocks[at] = false;
  }
  void keep_text(std::uint32_t index) {
    auto& details = m.details[index];
    const std::uint32_t bytes = details.reason_bytes;
    if (bytes == 0) return;
    if (bytes > 1024 || !take_chain(details.reason_block, bytes)) details.reason_bytes = 0;
  }

  void link() {
    const auto by_seq = [&](std::uint32_t a, std::uint32_t b) { return origin(a) < origin(b); };
    std::sort(in_rings.begin(), in_rings.end(),
              [&](std::uint32_t a, std::uint32_t b) { return location(a) < location(b); });
    for (const std::uint32_t index : in_rings)
      in_ring(m, lane(index)).push_back(m.slot(index), index);
    std::sort(leased.begin(), leased.end(),
              [&](std::uint32_t a, std::uint32_t b) { return copies[a].since < copies[b].since; });
    for (const std::uint32_t index : leased) {
      // An extended lease with an end of its own.
      if (m.details[index].due != 0 && m.details[index].lease_begin != 0)
        timers(m).add(index, m.details[index].due);
      else
        leases(m).push_back(m.slot(index), index);
      ++m.lists().lease_count;
    }
    std::sort(ready.begin(), ready.end(), by_seq);
    for (const std::uint32_t index : dying) dying_queue(m).push_back(index);
    link_keys();
    for (const std::uint32_t index : ready)
      if (c.status(index).state == slot_state::ready) ready_queue(m).push_back(index);
  }

  void link_keys() {
    if (m.rules.order != order_rule::key) return;
    const auto key = [&](std::uint32_t i) { return copies[i].key; };
    std::sort(keyed.begin(), keyed.end(), [&](std::uint32_t a, std::uint32_t b) {
      return std::pair(key(a), origin(a)) < std::pair(key(b), origin(b));
    });
    for (auto first = keyed.begin(); first != keyed.end();) {
      const auto last =
          std::find_if(first, keyed.end(), [&](std::uint32_t i) { return key(i) != key(*first); });
      link_key(key(*first), std::vector<std::uint32_t>(first, last));
      first = last;
    }
  }
  void link_key(std::uint64_t key, const std::vector<std::uint32_t>& all) {
    std::uint32_t skip = no_index;
    for (const std::uint32_t index : all) {
      if (c.status(index).state != slot_state::skipped) continue;
      if (skip != no_index) drop(skip);  // of two the later counts
      skip = index;
    }
    // A message that is out has the key, whatever else the dead process made ready.
    const auto is_out = [&](std::uint32_t index) {
      const slot_status t = c.status(index);
      return t.state == slot_state::leased || t.state == slot_state::settled ||
             (t.state == slot_state::delayed && m.rules.on_fail == fail_rule::block);
    };
    const bool taken = std::any_of(all.begin(), all.end(), is_out);
    key_table keys(m);
    layout::group_key* entry = nullptr;
    for (const std::uint32_t index : all) {
      const slot_status t = c.status(index);
      if (index == skip || t.state == slot_state::free || t.state == slot_state::dying) continue;
      if (skip != no_index && t.acquired == 0 && lane(index) == lane(skip) &&
          layout::seq_of_origin(origin(index)) >= layout::seq_of_origin(origin(skip))) {
        drop(index);  // it is found again, and is not counted yet
        continue;
      }
      if (t.state == slot_state::delayed && m.rules.on_fail == fail_rule::skip) continue;
      if (entry == nullptr && (entry = keys.add(key)) == nullptr) return;
      if (t.state != slot_state::parked &&
          (t.state != slot_state::ready || (entry->holder == 0 && !taken))) {
        entry->holder = index + 1;
        continue;
      }
      if (t.state == slot_state::ready) {
        slot_status parked = t;
        parked.state = slot_state::parked;
        sync::store_release(m.slots[index].status, parked.pack());
      }
      m.slots[index].next = 0;
      if (entry->parked++ == 0)
        entry->first = index + 1;
      else
        m.slots[entry->last - 1].next = index + 1;
      entry->last = index + 1;
      ++m.lists().parked_count;
    }
    if (skip != no_index) {
      if (entry == nullptr && (entry = keys.add(key)) == nullptr) return;
      entry->skip = skip + 1;
    }
    if (entry != nullptr && entry->holder == 0) c.promote(entry);
  }
  void drop(std::uint32_t index) {
    release_chain(index);
    c.leave_ring(m.slot(index), index);
    std::erase(ready, index);
    forget(index, c.status(index));
  }

  bool makes_sense(const layout::group_settled& queue) const noexcept {
    const std::uint64_t head = sync::load_relaxed(queue.head);
    const std::uint64_t tail = sync::load_acquire(queue.tail);  // [Q3] acquire: the entries, too
    bool sane = tail - head <= layout::group_settled::places;
    for (std::uint64_t at = head; sane && at != tail; ++at)
      sane = layout::slot_of_settled(sync::load_relaxed(
                 queue.entry[at % layout::group_settled::places])) < m.slot_count;
    return sane;
  }

  void free_the_rest() noexcept {
    for (std::uint32_t index = slots_used; index-- != 0;)
      if (c.status(index).state == slot_state::free) put_free(m, m.slot(index), index);
    auto& l = m.lists();
    const auto blocks = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(sync::load_relaxed(m.header->blocks_reserved), m.block_count));
    for (std::uint32_t at = blocks; at-- != 0;) {
      if (used_blocks[at]) continue;
      m.chain[at] = l.block_free == 0 ? no_index : std::uint32_t(l.block_first);
      l.block_first = at;
      ++l.block_free;
    }
  }
};

std::uint32_t core::repair(const std::function<bool(std::uint32_t)>& knows_subject) noexcept {
  repairer r(*this, knows_subject);
  r.drop_indexes();
  sync::reach(sync::failpoint::group_repair_dropped);
  r.sort_slots();
  sync::reach(sync::failpoint::group_repair_sorted);
  r.link();
  sync::reach(sync::failpoint::group_repair_linked);
  r.free_the_rest();
  // An invalid queue becomes empty. A member that adds to it finds that its entry was passed over,
  // and sets `unlisted`.
  // If the group is broken, not all slots are linked: another repair collects them.
  for (std::uint32_t member = 0; member < m_.member_count; ++member)
    if (m_.broken)
      break;
    else if (r.makes_sense(m_.settled[member]))
      collect_from(member);
    else
      sync::store_release(m_.settled[member].head, sync::load_acquire(m_.settled[member].tail));
  sync::full_fence();                  // [Q3] pairs with the fence in ack
  if (!m_.broken) collect_unlisted();  // settled slots are among the leases
  for (std::uint32_t lane = 0; lane < layout::group_lanes_max; ++lane)
    if (knows_lane(lane) && sync::load_relaxed(m_.cursors[lane].attached) != 0) update_pin(lane);
  sync::bump(m_.header->counters.repaired, 1);
  sync::store_relaxed(m_.header->damaged, m_.broken ? 1 : 0);
  wake_consumers_ = true;
  sync::reach(sync::failpoint::group_repaired);
  return r.nonsense;
}

}  // namespace bus::group
