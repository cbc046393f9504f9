#pragma once
/// new_lane: the words of a lane before its first record; all others are 0.

#include "layout/lane.hpp"

namespace bus::ring {

/// Calls `store(word, value)` for each. The lane has no name yet, so the stores need no order.
/// `first_seq`: above every sequence that the stream ever gave out.
template <class Store>
void describe_new_lane(layout::lane_header& header, std::uint64_t capacity_bytes,
                       std::uint64_t first_seq, Store&& store) {
  store(header.turn.next_seq, first_seq);
  store(header.durability.first_seq, first_seq);
  store(header.durability.logged_seq, first_seq - 1);
  store(header.durability.durable_seq, first_seq - 1);
  for (auto& point : header.waypoints) store(point.position, layout::no_waypoint);
  store(header.waypoints[0].position, std::uint64_t{0});
  store(header.waypoints[0].seq, first_seq);
  // The first waypoint also serves the first lap: rewriting it would make it invalid for a moment,
  // or for ever if its publisher died then, and a reader could enter nowhere.
  store(header.turn.next_block, capacity_bytes / layout::blocks_per_lap);
}

}  // namespace bus::ring
