#pragma once
/// lane_writer: the publishing side of one lane. No system call, no allocation, no waiting.
///
/// Invariants (docs/memory_model.md names the edges)
///   RING-1  The word at the tail position is 0 until a record is committed there.
///   RING-2  Only bytes below reserved_end - capacity may be torn or overwritten.
///   RING-3  A lane is entered only at a waypoint, then walked.
///   RING-4  {tail, next_seq} are derived: repair finds them by walking from the newest waypoint.
///   RING-5  Nothing waits while it holds the lane lock: `reserve` returns false instead.
///
/// Threads    one at a time: exclusive publishers own the lane by a lease, shared ones call under
///            the lane lock
/// Cost       a record: one release store to commit it, no read-modify-write

#include <algorithm>

#include "base/assert.hpp"
#include "ring/lane_memory.hpp"
#include "ring/waypoints.hpp"
#include "sync/access.hpp"

namespace bus::ring {

/// What a publisher gives for one message besides its payload.
struct record_head {
  layout::record_shape shape;
  std::uint32_t subject_id = 0;
  std::uint32_t publisher_id = 0;
  const std::byte* header = nullptr;  // shape.header_bytes bytes
};

/// The window of zeroes of a lane_writer. A ring of the product holds 32 of them at least. A policy
/// for smaller rings names its own: the start of the last record must stay out of reach of what is
/// reserved beyond it, or a reader that was lapped finds no waypoint.
template <class A>
constexpr std::uint64_t zero_window_of() noexcept {
  if constexpr (requires { A::zero_window_bytes; })
    return A::zero_window_bytes;
  else
    return 2048;
}

template <class A>
class lane_writer {
 public:
  /// Words at most this far above the tail are zeroed after a commit, so that a commit needs no
  /// store before it.
  static constexpr std::uint64_t zero_window_bytes = zero_window_of<A>();

  explicit lane_writer(const lane_memory& lane) noexcept
      : lane_(lane), offset_mask_(lane.capacity_bytes - 1) {}

  const lane_memory& lane() const noexcept { return lane_; }
  std::uint64_t tail() const noexcept { return tail_; }
  std::uint64_t next_seq() const noexcept { return next_seq_; }

  /// REQUIRES for both: the lane lock is held. Values that a dead process may have left are not
  /// trusted: see repair().
  void load_turn() noexcept;
  void store_turn() noexcept;

  /// The same for a turn that published plain records only: the other words have not changed.
  void store_plain_turn() noexcept;

  /// Finds the tail and the next sequence again after a publisher died.
  /// REQUIRES: no thread of that publisher stores any more.
  void repair() noexcept;

  /// True when only the record itself is due: space is reserved, the word after it is already zero,
  /// and it gets no waypoint.
  bool is_plain(std::uint64_t total_bytes) const noexcept {
    return tail_ + total_bytes <= plain_end_;
  }
  /// Writes and commits one record without headers in the fewest steps. Returns its sequence. The
  /// caller calls prepare_plain() afterwards when is_preparation_due().
  /// `fill(to)` writes the payload. `stamp()` reads the clock, as the last step: the read waits for
  /// what came before it and delays what comes after.
  /// REQUIRES: is_plain(total_bytes)
  template <class Fill, class Stamp>
  [[gnu::always_inline]] std::uint64_t publish_plain(std::uint64_t payload_bytes,
                                                     std::uint64_t total_bytes,
                                                     std::uint64_t origin, Fill&& fill,
                                                     Stamp&& stamp) noexcept;

  bool is_preparation_due() const noexcept { return tail_ > prepare_from_; }
  void prepare_plain() noexcept;

  bool has_room(std::uint64_t total_bytes) const noexcept {
    return tail_ + total_bytes + layout::record_align <= reserved_end_;
  }

  /// Reserves space for `total_bytes` at the tail. `lowest_pin(tail)` returns the lowest position
  /// that a gating reader still needs, at most `tail`. False: the ring is full until readers
  /// release.
  template <class LowestPin>
  bool reserve(std::uint64_t total_bytes, LowestPin&& lowest_pin) noexcept;

  /// Writes a record `offset` bytes after the tail; readers do not see it yet.
  /// REQUIRES: has_room.
  void write(std::uint64_t offset, const record_head& head, std::uint64_t ticks,
             const void* payload) noexcept;
  /// The same without a payload: the caller writes it in place.
  std::byte* write_head(std::uint64_t offset, const record_head& head,
                        std::uint64_t ticks) noexcept;

  /// Gives a written record its time. Best as the last step before the commit: see publish_plain.
  void stamp(std::uint64_t offset, std::uint64_t ticks) noexcept {
    auto* words = &word_at(tail_ + offset);
    A::store(words[3], ticks, std::memory_order_relaxed, sync::edge::none);  // as write_head
  }

  /// Makes `count` records, `total_bytes` in all, visible at once.
  /// REQUIRES: mark_member has stored the commit words of all but the first.
  void commit(std::uint64_t total_bytes, std::uint64_t count, std::uint64_t ticks) noexcept;

  /// Gives record `index` (> 0) of a batch its sequence. No reader reaches it before the first
  /// record is committed.
  void mark_member(std::uint64_t offset, std::uint64_t index) noexcept {
    A::store(word_at(tail_ + offset), next_seq_ + index, std::memory_order_relaxed,
             sync::edge::none);
    A::step(sync::failpoint::batch_record);
  }

  /// Call when bytes above the tail are written without a commit: the zeroes there are no longer
  /// valid.
  void forget_zeroes() noexcept {
    zero_end_ = tail_;
    limit_plain(tail_);
  }

  /// Early reading: shows the record at the tail while its payload is still being written.
  /// Exclusive lanes only.
  void show_open(std::uint64_t total_bytes) noexcept;
  void show_progress(std::uint64_t progress_offset, std::uint64_t payload_bytes) noexcept;

 private:
  bool turn_is_sane() const noexcept {
    const std::uint64_t lap = lane_.capacity_bytes + zero_window_bytes;
    return tail_ % layout::record_align == 0 && zero_end_ % layout::record_align == 0 &&
           tail_ <= layout::sequence_mask && zero_end_ >= tail_ && zero_end_ - tail_ <= lap &&
           reserved_end_ >= tail_ && reserved_end_ - tail_ <= lap && next_seq_ != 0 &&
           next_seq_ <= layout::sequence_mask;
  }
  // Preparation is due when a plain record of this size might not fit.
  static constexpr std::uint64_t plain_margin_bytes = 256;
  void zero_ahead() noexcept;
  // Below `end`, nothing else is due for a plain record and the word after it.
  void limit_plain(std::uint64_t end) noexcept {
    plain_end_ = end - std::min(end, layout::record_align);
    prepare_from_ = end - std::min(end, plain_margin_bytes);
  }

  // As in lane_memory, with the mask at hand: one instruction less for each record.
  std::byte* byte_at(std::uint64_t position) const noexcept {
    return lane_.data + (position & offset_mask_);
  }
  layout::word& word_at(std::uint64_t position) const noexcept {
    return *reinterpret_cast<layout::word*>(byte_at(position));
  }

  lane_memory lane_;
  std::uint64_t offset_mask_;
  std::uint64_t tail_ = 0;
  std::uint64_t next_seq_ = 1;
  std::uint64_t zero_end_ = 0;      // words at record boundaries in [tail, zero_end) are 0
  std::uint64_t reserved_end_ = 0;  // copy of limits.reserved_end, which only publishers change
  std::uint64_t gate_limit_ = 0;
  std::uint64_t time_max_ = 0;
  std::uint64_t next_block_ = 0;  // position from which the next waypoint is due
  // Plain records end at or below plain_end_. Preparation is due once the tail is above
  // prepare_from_.
  std::uint64_t plain_end_ = 0;
  std::uint64_t prepare_from_ = 0;
};

template <class A>
void lane_writer<A>::load_turn() noexcept {
  using enum std::memory_order;
  auto& turn = lane_.header->turn;
  auto& limits = lane_.header->limits;
  // relaxed: ordered by the lane lock [L1]
  tail_ = A::load(turn.tail, relaxed, sync::edge::none);
  next_seq_ = A::load(turn.next_seq, relaxed, sync::edge::none);
  zero_end_ = A::load(turn.zero_end, relaxed, sync::edge::none);
  time_max_ = A::load(turn.time_max, relaxed, sync::edge::none);
  reserved_end_ = A::load(limits.reserved_end, relaxed, sync::edge::none);
  gate_limit_ = A::load(limits.gate_limit, relaxed, sync::edge::none);
  next_block_ = A::load(turn.next_block, relaxed, sync::edge::none);
  if (!turn_is_sane()) repair();  // overwritten by something else: the records decide
  limit_plain(std::min({reserved_end_, zero_end_, next_block_}));
  // [R2] release: another publisher's reservation, seen under the lock, before what we write into
  // it.
  A::fence(release, sync::edge::reserve);
}

template <class A>
void lane_writer<A>::store_plain_turn() noexcept {
  using enum std::memory_order;
  auto& turn = lane_.header->turn;
  // relaxed: ordered by the lane lock [L1]
  A::store(turn.tail, tail_, relaxed, sync::edge::none);
  A::store(turn.next_seq, next_seq_, relaxed, sync::edge::none);
  A::store(turn.zero_end, zero_end_, relaxed, sync::edge::none);
  A::step(sync::failpoint::publish_state_stored);
}

template <class A>
void lane_writer<A>::store_turn() noexcept {
  using enum std::memory_order;
  auto& turn = lane_.header->turn;
  // relaxed: ordered by the lane lock [L1]
  A::store(turn.time_max, time_max_, relaxed, sync::edge::none);
  A::store(turn.next_block, next_block_, relaxed, sync::edge::none);
  store_plain_turn();
}

template <class A>
template <class LowestPin>
bool lane_writer<A>::reserve(std::uint64_t total_bytes, LowestPin&& lowest_pin) noexcept {
  using enum std::memory_order;
  auto& limits = lane_.header->limits;
  const std::uint64_t stride = lane_.block_bytes();
  const std::uint64_t need = tail_ + total_bytes + layout::record_align;
  std::uint64_t end = base::round_up(need + zero_window_bytes, stride);
  if (!lane_.overwriting) {
    if (end > gate_limit_) {
      // The candidate is the most that this call could take. It is stored before the pins are read:
      // a reader that attaches meanwhile is either found by the scan, or sees the candidate and
      // enters above it.
      const std::uint64_t candidate = std::max(end, tail_ + lane_.capacity_bytes / 4);
      A::store(limits.gate_limit, candidate, relaxed, sync::edge::none);  // ordered by the fence
      A::step(sync::failpoint::reserve_candidate);
      // [G1] seq_cst: the candidate before the scan; pairs with the fence between a new pin and its
      // load of gate_limit.
      A::fence(seq_cst, sync::edge::gate);
      gate_limit_ = std::min(candidate, lowest_pin(tail_) + lane_.capacity_bytes);
      A::step(sync::failpoint::reserve_scanned);
      // relaxed: the fence lies between what was reserved before and this limit, which may be
      // lower; pairs with the acquire in lane_reader::enter [G1].
      A::store(limits.gate_limit, gate_limit_, relaxed, sync::edge::gate);
    }
    end = std::min(end, base::round_down(gate_limit_, layout::record_align));
    if (need > end) return false;
  }
  reserved_end_ = end;
  A::store(limits.reserved_end, end, relaxed, sync::edge::none);  // ordered by the fence
  // [R2] release: the reservation before the bytes that it covers; pairs with the acquire fence in
  // lane_reader::was_overwritten.
  A::fence(release, sync::edge::reserve);
  A::step(sync::failpoint::reserve_done);
  return true;
}

template <class A>
std::byte* lane_writer<A>::write_head(std::uint64_t offset, const record_head& head,
                                      std::uint64_t ticks) noexcept {
  using enum std::memory_order;
  std::byte* at = byte_at(tail_ + offset);
  auto* words = reinterpret_cast<layout::word*>(at);
  // relaxed: the commit word orders them [R1]
  A::store(words[1], head.shape.pack(), relaxed, sync::edge::none);
  A::store(words[2], layout::pack_origin(head.subject_id, head.publisher_id), relaxed,
           sync::edge::none);
  A::store(words[3], ticks, relaxed, sync::edge::none);
  A::step(sync::failpoint::publish_header);
  at += layout::record_header_bytes;
  if (head.shape.header_bytes != 0) {
    A::copy_in(at, head.header, head.shape.header_bytes);
    at += head.shape.header_bytes;
  }
  return at;
}

template <class A>
void lane_writer<A>::write(std::uint64_t offset, const record_head& head, std::uint64_t ticks,
                           const void* payload) noexcept {
  BUS_ASSERT_HOT(has_room(offset + head.shape.total_bytes()), offset, tail_, reserved_end_);
  std::byte* at = write_head(offset, head, ticks);
  A::copy_in(at, payload, head.shape.payload_bytes);
  A::step(sync::failpoint::publish_payload);
}

template <class A>
void lane_writer<A>::commit(std::uint64_t total_bytes, std::uint64_t count,
                            std::uint64_t ticks) noexcept {
  using enum std::memory_order;
  const std::uint64_t first = tail_;
  const std::uint64_t end = first + total_bytes;
  if (end >= zero_end_) {                                  // RING-1 for the next tail
    A::store(word_at(end), 0, relaxed, sync::edge::none);  // ordered by the commit
    zero_end_ = end + layout::record_align;
  }
  A::step(sync::failpoint::publish_before_commit);
  // [R1] release: the records, and the zero after them, before the commit word; pairs with the
  // acquire in lane_reader::poll.
  A::store(word_at(first), next_seq_, release, sync::edge::commit);
  A::step(sync::failpoint::publish_committed);
  const std::uint64_t seq = next_seq_;
  tail_ = end;
  next_seq_ += count;
  // larger records zero only the word after them
  if (total_bytes < zero_window_bytes / 2) zero_ahead();
  if (first >= next_block_) {
    // A maximum over the waypoints: stamps of one counter run backwards by at most the distance
    // between two publishers.
    time_max_ = std::max(time_max_, ticks);
    write_waypoint<A>(lane_, {first, seq, time_max_});
    next_block_ = base::round_up(first + 1, lane_.block_bytes());
  }
  limit_plain(std::min({reserved_end_, zero_end_, next_block_}));
}

template <class A>
template <class Fill, class Stamp>
inline std::uint64_t lane_writer<A>::publish_plain(std::uint64_t payload_bytes,
                                                   std::uint64_t total_bytes, std::uint64_t origin,
                                                   Fill&& fill, Stamp&& stamp) noexcept {
  using enum std::memory_order;
  BUS_ASSERT_HOT(is_plain(total_bytes), total_bytes, tail_, plain_end_);
  const std::uint64_t tail = tail_ + total_bytes;
  std::byte* at = byte_at(tail_);
  auto* words = reinterpret_cast<layout::word*>(at);
  // relaxed: the commit word orders them [R1]
  A::store(words[1], payload_bytes, relaxed, sync::edge::none);
  A::store(words[2], origin, relaxed, sync::edge::none);
  A::step(sync::failpoint::publish_header);
  fill(at + layout::record_header_bytes);
  // Loaded here, because it would take a register from the copy.
  const std::uint64_t seq = next_seq_;
  A::store(words[3], stamp(), relaxed, sync::edge::none);
  A::step(sync::failpoint::publish_payload);
  // [R1] release: as in commit; the word after it was zeroed before an earlier commit (RING-1).
  A::store(words[0], seq, release, sync::edge::commit);
  A::step(sync::failpoint::publish_committed);
  tail_ = tail;
  next_seq_ = seq + 1;
  return seq;
}

// After the commit, where the reader does not wait for it.
template <class A>
void lane_writer<A>::prepare_plain() noexcept {
  zero_ahead();
  limit_plain(std::min({reserved_end_, zero_end_, next_block_}));
}

template <class A>
void lane_writer<A>::zero_ahead() noexcept {
  using enum std::memory_order;
  if (zero_end_ >= tail_ + zero_window_bytes / 2) return;
  const std::uint64_t stop = base::round_down(std::min(tail_ + zero_window_bytes, reserved_end_),
                                              layout::record_align);  // RING-2
  if (zero_end_ >= stop) return;
  // relaxed: the next commit orders it [R1]. The second mapping makes the window contiguous.
  std::byte* at = byte_at(zero_end_);
#pragma GCC unroll 8
  for (std::uint64_t left = stop - zero_end_; left != 0;
       left -= layout::record_align, at += layout::record_align)
    A::store(*reinterpret_cast<layout::word*>(at), 0, relaxed, sync::edge::none);
  zero_end_ = stop;
  A::step(sync::failpoint::publish_zeroed);
}

template <class A>
void lane_writer<A>::show_open(std::uint64_t total_bytes) noexcept {
  using enum std::memory_order;
  const std::uint64_t end = tail_ + total_bytes;
  if (end >= zero_end_) {
    A::store(word_at(end), 0, relaxed, sync::edge::none);  // ordered by the store below
    zero_end_ = end + layout::record_align;
  }
  // [R1] release: head and progress word before the open commit word; pairs with the acquire in
  // lane_reader::poll.
  A::store(word_at(tail_), next_seq_ | layout::commit_open, release, sync::edge::commit);
  A::step(sync::failpoint::open_record);
}

template <class A>
void lane_writer<A>::show_progress(std::uint64_t progress_offset,
                                   std::uint64_t payload_bytes) noexcept {
  auto& progress = *reinterpret_cast<layout::word*>(byte_at(tail_) + progress_offset);
  // [O1] release: the payload so far before the progress word; pairs with the acquire in
  // message::available.
  A::store(progress, payload_bytes, std::memory_order_release, sync::edge::progress);
  A::step(sync::failpoint::open_progress);
}

}  // namespace bus::ring

#include "ring/lane_repair.hpp"
