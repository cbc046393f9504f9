#pragma once
/// pin: a reader's cursor on one lane, in the reader's own process file. A gated publisher only
/// reads it.

#include <cstdint>

#include "layout/lane.hpp"

namespace bus::ring {

inline constexpr std::uint64_t pin_free = 0;
inline constexpr std::uint64_t pin_watching = 1;  // counted and shown, never holds a publisher back
inline constexpr std::uint64_t pin_gating = 2;    // publishers of a gated lane wait for it

/// Written by the reader. Read by the publishers of the lane and by monitors.
struct alignas(64) pin_words {
  /// pin_free, pin_watching or pin_gating (edge G1).
  layout::word state;
  /// Which lane the pin is of. A publisher ignores a pin of another lane.
  layout::word lane_key;
  /// Position of the first record that the reader still needs (edges G1, G2).
  layout::word cursor;
  /// Rises when space was released. Its low half is a futex (edge W2).
  layout::word tick;
  /// Sequence at the cursor, for monitors.
  layout::word next_seq;
  /// Messages that were reported to the reader as lost.
  layout::word lost;
  /// Messages that the reader got.
  layout::word delivered;
  /// Thread that polled last, to recognise a publisher that waits for itself.
  layout::word thread;
};
static_assert(sizeof(pin_words) == 64);

}  // namespace bus::ring
