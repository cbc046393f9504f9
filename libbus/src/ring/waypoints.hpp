#pragma once
/// waypoints: the only positions where a lane is entered (RING-3).

#include "ring/lane_memory.hpp"
#include "sync/access.hpp"

namespace bus::ring {

struct entry_point {
  std::uint64_t position = layout::no_waypoint;
  std::uint64_t seq = 0;
  std::uint64_t time_ticks = 0;

  bool found() const noexcept { return position != layout::no_waypoint; }
};

/// REQUIRES: the caller is the lane's only publisher now (exclusive, or under the lock).
template <class A>
void write_waypoint(const lane_memory& lane, const entry_point& entry) noexcept {
  using enum std::memory_order;
  auto& at = lane.waypoint_of(entry.position);
  A::store(at.position, layout::no_waypoint, relaxed, sync::edge::waypoint);
  A::step(sync::failpoint::publish_waypoint_open);
  // [P1] release: the invalid position before the fields; pairs with the acquire fence in
  // read_waypoint.
  A::fence(release, sync::edge::waypoint);
  A::store(at.seq, entry.seq, relaxed, sync::edge::none);  // ordered by the seqlock around it
  A::store(at.time_ticks, entry.time_ticks, relaxed, sync::edge::none);
  // [P1] release: fields before the position; pairs with the acquire in read_waypoint.
  A::store(at.position, entry.position, release, sync::edge::waypoint);
  A::step(sync::failpoint::publish_waypoint);
}

/// One entry of the table; not found when it is empty, invalid, or being written.
template <class A>
entry_point read_waypoint(const lane_memory& lane, std::uint64_t index) noexcept {
  using enum std::memory_order;
  const auto& at = lane.header->waypoints[index];
  entry_point entry;
  // [P1] acquire: pairs with the release of the position in write_waypoint.
  entry.position = A::load(at.position, acquire, sync::edge::waypoint);
  entry.seq = A::load(at.seq, relaxed, sync::edge::none);
  entry.time_ticks = A::load(at.time_ticks, relaxed, sync::edge::none);
  // [P1] acquire: the fields before the second load of the position; pairs with the release fence
  // in write_waypoint.
  A::fence(acquire, sync::edge::waypoint);
  const bool same = A::load(at.position, relaxed, sync::edge::none) == entry.position;
  const bool sane = entry.position % layout::record_align == 0 &&
                    entry.position <= layout::sequence_mask && entry.seq <= layout::sequence_mask &&
                    entry.seq != 0 &&
                    (entry.position / lane.block_bytes()) % layout::waypoint_count == index;
  if (!same || !sane) return {};
  return entry;
}

/// The newest waypoint; below, the oldest at or above `from`. Both by position.
template <class A>
entry_point newest_waypoint(const lane_memory& lane) noexcept {
  entry_point best;
  for (std::uint64_t i = 0; i < layout::waypoint_count; ++i) {
    const entry_point entry = read_waypoint<A>(lane, i);
    if (entry.found() && (!best.found() || entry.position > best.position)) best = entry;
  }
  return best;
}

template <class A>
entry_point oldest_waypoint(const lane_memory& lane, std::uint64_t from) noexcept {
  entry_point best;
  for (std::uint64_t i = 0; i < layout::waypoint_count; ++i) {
    const entry_point entry = read_waypoint<A>(lane, i);
    if (entry.found() && entry.position >= from &&
        (!best.found() || entry.position < best.position))
      best = entry;
  }
  return best;
}

/// The newest waypoint at or above `from` for which `before(entry)` holds; if there is none, the
/// oldest at or above `from`.
template <class A, class Before>
entry_point last_waypoint_before(const lane_memory& lane, std::uint64_t from,
                                 Before&& before) noexcept {
  entry_point best;
  for (std::uint64_t i = 0; i < layout::waypoint_count; ++i) {
    const entry_point entry = read_waypoint<A>(lane, i);
    if (!entry.found() || entry.position < from || !before(entry)) continue;
    if (!best.found() || entry.position > best.position) best = entry;
  }
  return best.found() ? best : oldest_waypoint<A>(lane, from);
}

}  // namespace bus::ring
