#pragma once
/// lane_fence: nobody publishes to a lane any more: it is closed for ever, or until its log is
/// told.
///
/// Invariants
///   FENCE-1  What a shared publisher commits, it commits under the lane's lock, and not while the
///       lease is one of those that nobody owns. So nothing is committed after the fence is raised.
///   FENCE-2  An exclusive publisher that lives keeps its lease, and learns of the change by the
///       bus's generation: it commits what it has begun, at most one call's messages, and nothing
///       else.
///
/// Threads    any

#include <cstdint>

#include "client/stream_files.hpp"
#include "sync/peers.hpp"

namespace bus::client {

enum class fence : std::uint8_t {
  raised,
  owned,  // a process that lives publishes exclusively (FENCE-2)
  busy,   // the lock is in the hands of a process that does not go on
};

/// `lease`: lease_closed or lease_parked. Waits for a turn to end, 100 ms at most.
fence raise_fence(lane_map& lane, std::uint64_t lease, std::uint64_t self,
                  sync::peers& peers) noexcept;

}  // namespace bus::client
