#pragma once
/// lane_repair: rebuilds the state of a lane whose publisher died, from its records (RING-4).
/// Included by lane_writer.hpp only.

#include "ring/lane_writer.hpp"

namespace bus::ring {

template <class A>
void lane_writer<A>::repair() noexcept {
  using enum std::memory_order;
  A::step(sync::failpoint::repair_begin);
  auto& limits = lane_.header->limits;
  const entry_point from = newest_waypoint<A>(lane_);
  tail_ = from.found() ? from.position : 0;
  next_seq_ = from.found() ? from.seq : 1;
  time_max_ = from.time_ticks;
  reserved_end_ = A::load(limits.reserved_end, relaxed,
                          sync::edge::none);  // the dead process's stores come before [L1]
  const std::uint64_t oldest = tail_;
  // Without any waypoint the one of the first record is missing, too.
  std::uint64_t due = from.found() ? base::round_up(tail_ + 1, lane_.block_bytes()) : 0;
  for (;;) {
    if (tail_ - oldest > lane_.capacity_bytes || tail_ + layout::record_align > reserved_end_)
      break;
    const auto* words = &word_at(tail_);
    // [R1] acquire: pairs with the release of the commit word.
    const std::uint64_t commit = A::load(words[0], acquire, sync::edge::commit);
    const std::uint64_t seq = commit & layout::sequence_mask;
    if (seq != next_seq_) break;
    const auto shape = layout::record_shape::unpack(A::load(words[1], relaxed, sync::edge::none));
    if (shape.total_bytes() > lane_.largest_bytes()) break;
    if ((commit & layout::commit_open) != 0) {
      // A reader may be reading its bytes: they are skipped for ever, and the sequence goes to the
      // next record (RING-1).
      const std::uint64_t end = tail_ + shape.total_bytes();
      if (end + layout::record_align > reserved_end_) break;
      A::store(word_at(end), 0, relaxed, sync::edge::none);  // ordered by the store below
      // [R1] release: the zero after the record before the abort; pairs with the acquire in
      // lane_reader::poll.
      A::store(word_at(tail_), seq | layout::commit_aborted, release, sync::edge::commit);
      A::add(lane_.header->counters.aborted, 1, relaxed, sync::edge::none);  // a statistic
    } else if ((commit & layout::commit_aborted) == 0) {
      time_max_ = std::max(time_max_, A::load(words[3], relaxed, sync::edge::none));
      if (tail_ >= due) {
        // Missing: its publisher died between commit and waypoint.
        write_waypoint<A>(lane_, {tail_, seq, time_max_});
        A::step(sync::failpoint::repair_waypoint);
      }
      due = base::round_up(tail_ + 1, lane_.block_bytes());
      ++next_seq_;
    }
    tail_ += shape.total_bytes();
  }
  A::step(sync::failpoint::repair_walked);
  // reserved_end was overwritten by something else: the next reservation stores it again
  if (reserved_end_ < tail_ || reserved_end_ - tail_ > lane_.capacity_bytes + zero_window_bytes)
    reserved_end_ = tail_;
  // words of an unfinished batch may lie above: each next tail is zeroed before its commit
  zero_end_ = tail_;
  // The limit may be a dead publisher's candidate (see reserve): nothing above reserved_end was
  // taken, so start there.
  gate_limit_ = reserved_end_;
  // [G1] release: what was reserved before the limit; pairs with the acquire in lane_reader::enter.
  A::store(limits.gate_limit, gate_limit_, release, sync::edge::gate);
  next_block_ = due;
  limit_plain(tail_);
  A::add(lane_.header->counters.repaired, 1, relaxed, sync::edge::none);  // a statistic
  store_turn();
  A::step(sync::failpoint::repair_end);
}

}  // namespace bus::ring
