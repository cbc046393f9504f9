#pragma once
/// pin: a reader's cursor on one lane, in the reader's own process file. A gated publisher reads
/// it, never writes it.

#include <cstdint>

#include "layout/lane.hpp"

namespace bus::ring {

inline constexpr std::uint64_t pin_free = 0;
inline constexpr std::uint64_t pin_watching = 1;  // counted and shown, never holds a publisher back
inline constexpr std::uint64_t pin_gating = 2;    // publishers of a gated lane wait for it

/// writer: the reader · readers: publishers of the lane, monitors
struct alignas(64) pin_words {
  layout::word state;     // pin_free ...                                                 edge G1
  layout::word lane_key;  // which lane; a publisher ignores a pin of another lane
  layout::word cursor;  // position of the first record that the reader still needs     edges G1, G2
  layout::word tick;    // rises when space was released; its low half is a futex       edge W2
  layout::word next_seq;  // sequence at the cursor, for monitors
  layout::word lost;      // messages that the reader was told it lost
  layout::word delivered;
  layout::word thread;  // thread that polled last, to recognise a publisher that waits for itself
};
static_assert(sizeof(pin_words) == 64);

}  // namespace bus::ring
