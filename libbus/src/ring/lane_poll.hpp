#pragma once
/// lane_poll: how a reader takes records from its lane: one, or many, with a fast path for plain
/// records. Included by lane_reader.hpp only, which has the invariants.

#include "ring/lane_reader.hpp"

namespace bus::ring {

// Bits of the shape word that the fast path does not handle.
inline constexpr std::uint64_t complicated_shape =
    ~(std::uint64_t{layout::flags_may_ignore} << 48 | 0xffffffffull);

template <class A>
template <class Take>
inline bool lane_reader<A>::take_one(Take&& take) noexcept {
  using enum std::memory_order;
  if (!gating_ || open_delivered_) [[unlikely]]
    return false;
  const auto* words = &lane_.word_at(position_);
  // [R1] acquire: pairs with the release of the commit word in lane_writer::publish_plain and
  // commit.
  if (A::load(words[0], acquire, sync::edge::commit) != next_seq_) [[unlikely]]
    return false;
  // relaxed: ordered by the commit word
  const std::uint64_t shape = A::load(words[1], relaxed, sync::edge::none);
  const auto payload_bytes = static_cast<std::uint32_t>(shape);
  if ((shape & complicated_shape) != 0 || payload_bytes > lane_.max_message_bytes) [[unlikely]]
    return false;
  A::step(sync::failpoint::consume_found);
  const std::uint64_t total = layout::record_shape{payload_bytes, 0, 0}.total_bytes();
  // The payload comes from the publisher's cache: fetch it while the message is handed out.
  for (std::uint64_t ahead = 64; ahead < total && ahead <= prefetch_payload_bytes; ahead += 64)
    A::prefetch(reinterpret_cast<const std::byte*>(words) + ahead);
  if (!take(reinterpret_cast<const std::byte*>(words), position_, next_seq_, shape,
            A::load(words[2], relaxed, sync::edge::none),
            A::load(words[3], relaxed, sync::edge::none))) [[unlikely]]
    return false;
  A::step(sync::failpoint::consume_checked);
  position_ += total;
  ++next_seq_;
  keeps_up_ = false;
  return true;
}

template <class A>
template <class Sink>
poll_outcome lane_reader<A>::poll(std::size_t budget, Sink&& sink) noexcept {
  using enum std::memory_order;
  const std::uint64_t pause_at = position_ + share_bytes();
  if (keeps_up_) budget = std::min<std::size_t>(budget, 1);
  keeps_up_ = false;
  while (budget != 0 && position_ < pause_at) {
    if constexpr (requires { &std::remove_cvref_t<Sink>::take_plain; }) {
      if (gating_ && !open_delivered_) [[likely]] {
        const std::uint64_t next = poll_plain(budget, sink, pause_at);
        if (budget == 0 || position_ >= pause_at) break;
        if (next == 0) return on_empty();
      }
    }
    const auto* words = &lane_.word_at(position_);
    // [R1] acquire: pairs with the release of the commit word in lane_writer::commit.
    const std::uint64_t commit = A::load(words[0], acquire, sync::edge::commit);
    if (commit != next_seq_) [[unlikely]] {
      bool advanced = false;
      const poll_outcome outcome = look_closer(commit, sink, advanced);
      if (!advanced) return outcome;
      continue;
    }
    record_view view;
    view.data = reinterpret_cast<const std::byte*>(words);
    view.position = position_;
    view.seq = commit;
    // relaxed: ordered by the commit word
    view.shape = layout::record_shape::unpack(A::load(words[1], relaxed, sync::edge::none));
    view.origin = A::load(words[2], relaxed, sync::edge::none);
    view.ticks = A::load(words[3], relaxed, sync::edge::none);
    A::step(sync::failpoint::consume_found);
    if (!sane(view.shape)) [[unlikely]]
      return lapped() ? poll_outcome::lapped : poll_outcome::corrupt;
    if ((view.shape.flags & ~layout::flags_known) != 0) [[unlikely]]
      return lapped() ? poll_outcome::lapped : poll_outcome::unsupported;
    verdict decision = verdict::skipped;
    if (!open_delivered_) [[likely]] {
      decision = sink.take(view);
      A::step(sync::failpoint::consume_copied);
    }
    if (may_be_lapped() && lapped()) [[unlikely]] {
      if (decision == verdict::taken) sink.undo();
      return poll_outcome::lapped;
    }
    A::step(sync::failpoint::consume_checked);
    if (decision == verdict::full) return poll_outcome::more;
    open_delivered_ = false;
    position_ += view.shape.total_bytes();
    ++next_seq_;
    if (decision == verdict::taken) --budget;
  }
  return poll_outcome::more;
}

// The fast path for plain records. Ends at the first record that is not plain, or when the sink is
// full. Returns the last commit word that it loaded: 0 when there is nothing more.
template <class A>
template <class Sink>
inline std::uint64_t lane_reader<A>::poll_plain(std::size_t& budget, Sink& sink,
                                                std::uint64_t pause_at) noexcept {
  using enum std::memory_order;
  // The second mapping makes everything up to pause_at, and the record there, contiguous.
  const std::byte* const start = lane_.at(position_);
  const std::byte* const pause = start + (pause_at - position_);
  const std::byte* at = start;
  // An address plus this is the position of that address.
  const std::uint64_t to_position = position_ - reinterpret_cast<std::uintptr_t>(start);
  std::uint64_t seq = next_seq_;
  std::uint64_t commit = seq;
  std::size_t left = budget;
  // A lagging reader fetches lines that no publisher writes any more; one that keeps up would take
  // them from the publisher.
  const bool behind = full_polls_ == lagging_polls;
  while (left != 0 && at < pause) {
    const auto* words = reinterpret_cast<const layout::word*>(at);
    // [R1] acquire: pairs with the release of the commit word in lane_writer::publish_plain and
    // commit.
    commit = A::load(words[0], acquire, sync::edge::commit);
    if (commit != seq) break;
    // relaxed: ordered by the commit word
    const std::uint64_t shape = A::load(words[1], relaxed, sync::edge::none);
    const auto payload_bytes = static_cast<std::uint32_t>(shape);
    if ((shape & complicated_shape) != 0 || payload_bytes > lane_.max_message_bytes) break;
    const std::uint64_t total = layout::plain_record_bytes(payload_bytes);
    A::step(sync::failpoint::consume_found);
    if (behind && total <= prefetch_largest_bytes) {
      // The next lengths are unknown until their lines have arrived, one after the other, so it
      // assumes that they equal this one.
      const std::byte* ahead = at + prefetch_records * total;
      A::prefetch(ahead);
      A::prefetch(ahead + 64);
      for (std::uint64_t line = 128; line < total; line += 64) A::prefetch(ahead + line);
    }
    const verdict decision = sink.take_plain(
        at, reinterpret_cast<std::uintptr_t>(at) + to_position, seq, shape,
        A::load(words[2], relaxed, sync::edge::none), A::load(words[3], relaxed, sync::edge::none));
    if (decision == verdict::full) break;
    A::step(sync::failpoint::consume_checked);
    at += total;
    ++seq;
    left -= decision == verdict::taken ? 1 : 0;
  }
  const bool full = (left == 0 || at >= pause) && budget >= lagging_budget;
  full_polls_ = full ? std::min(full_polls_ + 1, lagging_polls) : 0;
  position_ += static_cast<std::uint64_t>(at - start);
  next_seq_ = seq;
  budget = left;
  return commit;
}

// The word is not the expected sequence: there is nothing, the record is open or aborted, the
// reader was lapped, or the lane is corrupt.
template <class A>
template <class Sink>
poll_outcome lane_reader<A>::look_closer(std::uint64_t commit, Sink&& sink,
                                         bool& advanced) noexcept {
  using enum std::memory_order;
  if (commit == 0) return on_empty();
  const auto* words = &lane_.word_at(position_);
  const bool open = commit == (next_seq_ | layout::commit_open);
  const bool aborted = commit == (next_seq_ | layout::commit_aborted);
  if (!open && !aborted) {
    if (lapped()) return poll_outcome::lapped;
    // A repair may have cut off what was here, and the word was loaded before the check. Load it
    // again.
    const std::uint64_t again = A::load(words[0], acquire, sync::edge::commit);
    return again == commit ? poll_outcome::corrupt : poll_outcome::empty;
  }
  record_view view;
  view.data = reinterpret_cast<const std::byte*>(words);
  view.position = position_;
  view.seq = next_seq_;
  view.shape = layout::record_shape::unpack(A::load(words[1], relaxed, sync::edge::none));
  view.origin = A::load(words[2], relaxed, sync::edge::none);
  view.ticks = A::load(words[3], relaxed, sync::edge::none);
  view.open = true;
  if (!sane(view.shape)) return lapped() ? poll_outcome::lapped : poll_outcome::corrupt;
  if (aborted) {
    if (may_be_lapped() && lapped()) return poll_outcome::lapped;
    position_ += view.shape.total_bytes();
    const bool was_delivered = open_delivered_;
    open_delivered_ = false;
    advanced = !was_delivered;
    return poll_outcome::aborted;
  }
  // To read in place while it is written needs a lane that holds the publisher back.
  if (!wants_open_ || open_delivered_ || !gating_) return on_empty();  // or lapped
  const verdict decision = sink.take(view);
  if (decision == verdict::full) return poll_outcome::more;
  open_delivered_ = true;
  return decision == verdict::taken ? poll_outcome::more : poll_outcome::empty;
}

}  // namespace bus::ring
