#pragma once
/// lane_reader: the reading side of one lane: a position, the sequence expected there, and nothing
/// shared but a pin.
///
/// Invariants
///   RING-6  The reader enters at a waypoint and walks: its position is always the start of a
///           record, or the tail.
///   RING-7  On a lane that may overwrite it, what was read counts only after reserved_end was
///           loaded again: read, fence, check.
///   RING-8  A record is delivered when its commit word equals the expected sequence. So no record
///           comes twice or out of order, and a jump of the sequence is exactly what was lost.
///
/// Threads    one at a time
/// Cost       a record: one acquire load of its own first word; no store until release()

#include <algorithm>
#include <type_traits>
#include <utility>

#include "ring/lane_memory.hpp"
#include "ring/pin.hpp"
#include "ring/waypoints.hpp"
#include "sync/access.hpp"

namespace bus::ring {

struct record_view {
  const std::byte* data = nullptr;  // the record's first word
  std::uint64_t position = 0;
  std::uint64_t seq = 0;
  layout::record_shape shape{};
  std::uint64_t origin = 0;
  std::uint64_t ticks = 0;
  bool open = false;  // its payload is still being written

  std::uint32_t subject_id() const noexcept { return static_cast<std::uint32_t>(origin); }
  std::uint32_t publisher_id() const noexcept {
    return static_cast<std::uint32_t>(origin >> 32) & layout::publisher_id_mask;
  }
  const std::byte* header() const noexcept { return data + layout::record_header_bytes; }
  const std::byte* payload() const noexcept { return header() + shape.header_bytes; }
};

enum class poll_outcome : std::uint8_t {
  empty,        // nothing more for now
  more,         // the sink is full or the budget is spent
  lapped,       // overwritten: resume()
  aborted,      // the open record that was just delivered will never be complete
  corrupt,      // not a record: the lane can be read no further
  unsupported,  // written by a newer library in a way that this one may not ignore
};

enum class verdict : std::uint8_t { taken, skipped, full };

template <class A>
class lane_reader {
 public:
  /// One empty poll in 256 checks for a lap, because the word at an old position may stay 0 for
  /// ever.
  static constexpr std::uint32_t lap_check_interval = 256;

  /// How many records ahead a lagging reader fetches. It is lagging after `lagging_polls` full
  /// budgets of at least `lagging_budget` in a row.
  static constexpr std::uint64_t prefetch_records = 8;
  static constexpr std::uint64_t prefetch_largest_bytes = 2048;  // processors prefetch larger ones
  /// How much of a payload a reader that keeps up fetches while it reads the head.
  static constexpr std::uint64_t prefetch_payload_bytes = 1024;
  static constexpr std::size_t lagging_budget = 32;
  static constexpr std::uint32_t lagging_polls = 6;

  lane_reader() = default;
  /// `pin` may be null: publishers never wait for such a reader. `gating`: publishers of a gated
  /// lane shall wait for it.
  lane_reader(const lane_memory& lane, pin_words* pin, bool gating) noexcept
      : lane_(lane),
        pin_(pin),
        holds_(gating && !lane.overwriting && lane.kept != layout::storage::durable &&
               pin != nullptr),
        gating_(holds_ && !lane.has_log()) {}

  const lane_memory& lane() const noexcept { return lane_; }
  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t next_seq() const noexcept { return next_seq_; }
  /// True when records may be overwritten while they are read, so that they must be copied before
  /// use.
  bool may_be_lapped() const noexcept { return !gating_; }
  void wants_open(bool yes) noexcept { wants_open_ = yes; }

  /// Enters at the waypoint that `choose(lowest_position)` picks, and pins it. False: no suitable
  /// waypoint just now, try again.
  template <class Choose>
  bool enter(Choose&& choose) noexcept;

  /// Walks without delivering, until `stop(view)` returns true or the tail is reached.
  /// REQUIRES: entered.
  template <class Stop>
  poll_outcome walk(Stop&& stop) noexcept;

  /// Reads up to `budget` records into `sink`: `verdict take(view)`, and `undo()` for the last one
  /// taken. A sink may also have `take_plain(data, position, seq, shape, origin, ticks)`, for
  /// records without headers on a lane that cannot lap the reader.
  template <class Sink>
  poll_outcome poll(std::size_t budget, Sink&& sink) noexcept;

  /// Takes the next record on the fastest path: it is committed, has no headers, and cannot be
  /// lapped. `take(data, position, seq, shape, origin, ticks)` returns false to decline it. False:
  /// use poll().
  template <class Take>
  [[gnu::always_inline]] bool take_one(Take&& take) noexcept;

  bool keeps_up() const noexcept { return keeps_up_; }
  /// A cheap check before poll(): true when there is nothing to read now. The poll() after it takes
  /// one record only, so that a reader that keeps up uses it before it reads the next word: that
  /// would cost it and the publisher the transfer of a line.
  bool nothing_there() noexcept {
    // relaxed: nothing is read on the strength of it
    if (A::load(lane_.word_at(position_), std::memory_order_relaxed, sync::edge::none) != 0)
      return false;
    keeps_up_ = true;
    if (on_empty() == poll_outcome::empty) return true;
    --empty_polls_;  // poll() checks again, and reports it
    return false;
  }

  /// After `lapped`: resumes at the oldest safe waypoint. The gap is [first_lost, next_seq()).
  /// False: none is safe just now, try again.
  bool resume(std::uint64_t& first_lost) noexcept;

  /// True when there is a record, or an event to report, at the position, so that the reader may
  /// not sleep.
  bool ready() const noexcept {
    // relaxed: poll() acquires what it reads
    const std::uint64_t commit =
        A::load(lane_.word_at(position_), std::memory_order_relaxed, sync::edge::none);
    if (commit == 0) return lapped();
    if (commit == (next_seq_ | layout::commit_open))
      return wants_open_ && gating_ && !open_delivered_;
    return true;
  }

  /// True when bytes at `position` may have been overwritten since they were read.
  bool was_overwritten(std::uint64_t position) const noexcept {
    // [R2] acquire: the reads before the check; pairs with the release fence in
    // lane_writer::reserve.
    A::fence(std::memory_order_acquire, sync::edge::reserve);
    return A::load(lane_.header->limits.reserved_end, std::memory_order_relaxed,
                   sync::edge::reserve) > position + lane_.capacity_bytes;
  }
  bool lapped() const noexcept { return was_overwritten(position_); }

  /// Gives back the space below the position.
  void release() noexcept;
  /// After release(): notifies a waiting publisher. True: it sleeps, and the caller wakes
  /// `pin.tick`. It costs a fence, so call it when idle, not per message.
  bool tick() noexcept;
  bool has_unticked_release() const noexcept { return released_ != ticked_; }
  std::uint64_t held_bytes() const noexcept { return position_ - released_; }
  std::uint64_t unticked_bytes() const noexcept { return released_ - ticked_; }
  /// Space is given back at the latest after this many bytes, even when none of them was for this
  /// reader.
  std::uint64_t share_bytes() const noexcept { return lane_.capacity_bytes / 8; }
  void leave() noexcept;

  /// Adopts a position that another reader of the same lane found. It may come from overwritten
  /// shared memory: poll() then finds that no record of that sequence is there.
  void set_position(std::uint64_t position, std::uint64_t seq) noexcept {
    position_ = position & ~(std::uint64_t{layout::record_align} - 1);
    next_seq_ = seq;
    open_delivered_ = false;
  }

 private:
  std::uint64_t lowest_safe() const noexcept;
  bool sane(const layout::record_shape& shape) const noexcept {
    return shape.total_bytes() <= lane_.largest_bytes() &&
           shape.payload_bytes <= lane_.max_message_bytes &&
           shape.header_bytes % layout::header_align == 0;
  }
  template <class Sink>
  [[gnu::always_inline]] std::uint64_t poll_plain(std::size_t& budget, Sink& sink,
                                                  std::uint64_t pause_at) noexcept;
  poll_outcome on_empty() noexcept {
    if (++empty_polls_ % lap_check_interval != 0) return poll_outcome::empty;
    return lapped() ? poll_outcome::lapped : poll_outcome::empty;
  }
  template <class Sink>
  poll_outcome look_closer(std::uint64_t commit, Sink&& sink, bool& advanced) noexcept;

  lane_memory lane_;
  pin_words* pin_ = nullptr;
  bool holds_ = false;   // publishers check its pin before they overwrite
  bool gating_ = false;  // and overwrite only what it released: it cannot be lapped
  bool wants_open_ = false;
  bool keeps_up_ = false;         // the last check found nothing
  std::uint32_t full_polls_ = 0;  // consecutive polls that filled the whole budget
  bool open_delivered_ = false;   // the open record at position_ was handed out
  std::uint32_t empty_polls_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t next_seq_ = 1;
  std::uint64_t released_ = 0;
  std::uint64_t ticked_ = 0;
};

// The lowest position at which an entering reader is safe for a while: an eighth of the ring above
// the bytes that are overwritten next, or the lowest that the gate protects.
template <class A>
std::uint64_t lane_reader<A>::lowest_safe() const noexcept {
  using enum std::memory_order;
  const auto& limits = lane_.header->limits;
  // relaxed: only a choice; enter() and poll() check again
  std::uint64_t end = A::load(limits.reserved_end, relaxed, sync::edge::none);
  std::uint64_t margin = lane_.capacity_bytes / 8;
  if (holds_ || lane_.has_log()) {
    end = std::max(end, A::load(limits.gate_limit, relaxed, sync::edge::none));
    margin = 0;
  }
  return end <= lane_.capacity_bytes ? 0 : end - lane_.capacity_bytes + margin;
}

template <class A>
template <class Choose>
bool lane_reader<A>::enter(Choose&& choose) noexcept {
  using enum std::memory_order;
  const entry_point entry = choose(lowest_safe());
  if (!entry.found() || entry.position < position_) return false;
  if (pin_ != nullptr) {
    // relaxed: the fence orders them before a publisher's scan
    A::store(pin_->cursor, entry.position, relaxed, sync::edge::none);
    A::store(pin_->state, holds_ ? pin_gating : pin_watching, relaxed, sync::edge::none);
    A::step(sync::failpoint::attach_pinned);
  }
  if (holds_) {
    // [G1] seq_cst: the pin before the loads of the limits; pairs with the fence in
    // lane_writer::reserve.
    A::fence(seq_cst, sync::edge::gate);
    // [G1] acquire: a lowered limit comes with what was reserved before it; pairs with the fence in
    // lane_writer::reserve, and the release in repair.
    const std::uint64_t gate_limit =
        A::load(lane_.header->limits.gate_limit, acquire, sync::edge::gate);
    const std::uint64_t reserved_end =
        A::load(lane_.header->limits.reserved_end, relaxed, sync::edge::none);
    if (std::max(gate_limit, reserved_end) > entry.position + lane_.capacity_bytes) {
      A::store(pin_->state, pin_watching, relaxed,
               sync::edge::none);  // a publisher may wait for it once: harmless
      return false;
    }
    A::step(sync::failpoint::attach_checked);
  }
  position_ = released_ = ticked_ = entry.position;
  next_seq_ = entry.seq;
  open_delivered_ = false;
  return true;
}

template <class A>
template <class Stop>
poll_outcome lane_reader<A>::walk(Stop&& stop) noexcept {
  struct walker {
    Stop& stop;
    bool stopped = false;
    verdict take(const record_view& view) {
      stopped = stop(view);
      return stopped ? verdict::full : verdict::skipped;
    }
    void undo() {}
  };
  walker sink{stop};
  // An open record is neither passed nor handed out.
  const bool open = std::exchange(wants_open_, false);
  poll_outcome outcome = poll_outcome::more;
  for (std::uint64_t before = ~0ull;
       outcome == poll_outcome::more && position_ != before && !sink.stopped;) {
    before = position_;
    outcome = poll(1, sink);  // poll() pauses now and then
  }
  wants_open_ = open;
  A::step(sync::failpoint::attach_walked);
  return outcome;
}

template <class A>
bool lane_reader<A>::resume(std::uint64_t& first_lost) noexcept {
  const std::uint64_t expected = next_seq_;
  if (!enter([this](std::uint64_t lowest) { return oldest_waypoint<A>(lane_, lowest); }))
    return false;
  if (next_seq_ < expected) {  // impossible: what overwrote us is newer than what we expect
    next_seq_ = expected;
    return false;
  }
  first_lost = expected;
  return true;
}

template <class A>
void lane_reader<A>::release() noexcept {
  using enum std::memory_order;
  released_ = position_;
  if (pin_ == nullptr) return;
  // [G2] release: the last load of the records before the space is given back; pairs with the
  // acquire in the gate's scan.
  A::store(pin_->cursor, position_, release, sync::edge::cursor);
  A::store(pin_->next_seq, next_seq_, relaxed, sync::edge::none);  // for monitors
  A::step(sync::failpoint::consume_released);
}

template <class A>
bool lane_reader<A>::tick() noexcept {
  using enum std::memory_order;
  ticked_ = released_;
  if (pin_ == nullptr || !holds_) return false;
  // [W2] release: a publisher that sees the tick sees the cursor; pairs with the fence of a
  // publisher that remembered the tick. Without it, that could find the ring full and sleep on a
  // tick that has passed.
  A::store(pin_->tick, A::load(pin_->tick, relaxed, sync::edge::none) + 1, release,
           sync::edge::waiting);
  // [W2] seq_cst: cursor and tick before the load of `waiting`; pairs with the fence between
  // `waiting` and the publisher's second scan.
  A::fence(seq_cst, sync::edge::waiting);
  A::step(sync::failpoint::consume_tick);
  return A::load(lane_.header->counters.waiting, relaxed, sync::edge::waiting) != 0;
}

template <class A>
void lane_reader<A>::leave() noexcept {
  using enum std::memory_order;
  if (pin_ == nullptr) return;
  // [G2] release: the last load of the lane before the pin is free; pairs with the acquire in the
  // gate's scan.
  A::store(pin_->state, pin_free, release, sync::edge::cursor);
}

}  // namespace bus::ring

#include "ring/lane_poll.hpp"
