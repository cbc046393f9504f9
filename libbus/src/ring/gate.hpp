#pragma once
/// gate: what a gated publisher reads of a reader's pin.

#include <algorithm>

#include "ring/pin.hpp"
#include "sync/access.hpp"

namespace bus::ring {

/// Position that this pin still needs, or `tail` when it holds nothing back. Pins outside the ring
/// are nonsense and ignored.
template <class A>
std::uint64_t held_position(const pin_words& pin, std::uint64_t lane_key, std::uint64_t tail,
                            std::uint64_t capacity_bytes) noexcept {
  using enum std::memory_order;
  // [G2] acquire: a free or watching pin has looked for the last time; pairs with the release in
  // lane_reader::leave.
  if (A::load(pin.state, acquire, sync::edge::cursor) != pin_gating) return tail;
  // written before the pin was announced
  if (A::load(pin.lane_key, relaxed, sync::edge::none) != lane_key) return tail;
  // [G2] acquire: the reader's looks before our overwriting; pairs with the release in
  // lane_reader::release.
  const std::uint64_t cursor = A::load(pin.cursor, acquire, sync::edge::cursor);
  if (cursor > tail || tail - cursor > capacity_bytes) return tail;
  return cursor;
}

/// The same on a lane that spills: a reader whose cursor fell out of the ring reads the log, up to
/// `logged`, and needs everything from there on.
template <class A>
std::uint64_t held_position_of_spill(const pin_words& pin, std::uint64_t lane_key,
                                     std::uint64_t tail, std::uint64_t capacity_bytes,
                                     std::uint64_t logged) noexcept {
  using enum std::memory_order;
  // [G2] as held_position
  if (A::load(pin.state, acquire, sync::edge::cursor) != pin_gating) return tail;
  if (A::load(pin.lane_key, relaxed, sync::edge::none) != lane_key) return tail;
  const std::uint64_t cursor = A::load(pin.cursor, acquire, sync::edge::cursor);
  if (cursor > tail) return tail;
  return tail - cursor > capacity_bytes ? logged : std::max(cursor, logged);
}

}  // namespace bus::ring
