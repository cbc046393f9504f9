#pragma once
/// lane_end: how far a lane was published, as a reader sees it. The tail itself is private to the
/// publisher.
///
/// Cost       a walk from the newest waypoint

#include <cstdint>

#include "ring/lane_reader.hpp"
#include "sync/words.hpp"

namespace bus::inspect {

struct lane_end {
  std::uint64_t position = 0;
  std::uint64_t next_seq = 1;
};

inline lane_end find_end(const ring::lane_memory& memory) noexcept {
  constexpr int most_attempts = 100;  // an overwriting publisher may lap the walk
  ring::lane_reader<sync::hardware> walker(memory, nullptr, false);
  for (int attempt = 0; attempt < most_attempts; ++attempt) {
    if (!walker.enter([&](std::uint64_t) { return ring::newest_waypoint<sync::hardware>(memory); }))
      continue;
    if (walker.walk([](const ring::record_view&) { return false; }) != ring::poll_outcome::lapped)
      break;
  }
  return {walker.position(), walker.next_seq()};
}

}  // namespace bus::inspect
