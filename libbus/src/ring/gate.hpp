#pragma once
/// gate: how a gated publisher reads a reader's pin.

#include <algorithm>

#include "ring/pin.hpp"
#include "sync/access.hpp"

namespace bus::ring {

/// The position that this pin still needs, or `tail` when it holds nothing back. A pin outside the
/// ring is invalid and ignored.
template <class A>
std::uint64_t held_position(const pin_words& pin, std::uint64_t lane_key, std::uint64_t tail,
                            std::uint64_t capacity_bytes) noexcept {
  using enum std::memory_order;
  // [G2] acquire: the reader of a free or watching pin has made its last load; pairs with the
  // release in lane_reader::leave.
  if (A::load(pin.state, acquire, sync::edge::cursor) != pin_gating) return tail;
  // relaxed: written before the pin was announced
  if (A::load(pin.lane_key, relaxed, sync::edge::none) != lane_key) return tail;
  // [G2] acquire: the reader's loads before our overwriting; pairs with the release in
  // lane_reader::release.
  const std::uint64_t cursor = A::load(pin.cursor, acquire, sync::edge::cursor);
  if (cursor > tail || tail - cursor > capacity_bytes) return tail;
  return cursor;
}

/// The same on a lane that spills. A reader whose cursor is no longer in the ring reads the log up
/// to `logged`, and needs everything from there on.
template <class A>
std::uint64_t held_position_of_spill(const pin_words& pin, std::uint64_t lane_key,
                                     std::uint64_t tail, std::uint64_t capacity_bytes,
                                     std::uint64_t logged) noexcept {
  using enum std::memory_order;
  // [G2] acquire, twice: as in held_position
  if (A::load(pin.state, acquire, sync::edge::cursor) != pin_gating) return tail;
  if (A::load(pin.lane_key, relaxed, sync::edge::none) != lane_key) return tail;
  const std::uint64_t cursor = A::load(pin.cursor, acquire, sync::edge::cursor);
  if (cursor > tail) return tail;
  return tail - cursor > capacity_bytes ? logged : std::max(cursor, logged);
}

}  // namespace bus::ring
