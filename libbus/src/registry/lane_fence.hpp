#pragma once
/// lane_fence: ends publishing to a lane: for ever, or until its log is marked as reopened.
///
/// Invariants
///   FENCE-1  A shared publisher commits only under the lane's lock, and not while the lease is one
///            that no publisher owns. So nothing is committed after the fence is raised.
///   FENCE-2  A live exclusive publisher keeps its lease and is notified by the bus's generation.
///            It commits what it has begun, at most one call's messages, and nothing else.
///
/// Threads    any

#include <cstdint>

#include "registry/stream_files.hpp"
#include "sync/peers.hpp"

namespace bus::registry {

enum class fence : std::uint8_t {
  raised,
  owned,  // a live process publishes exclusively (FENCE-2)
  busy,   // the lock is held by a process that makes no progress
};

/// `lease`: lease_closed or lease_parked. Waits at most 100 ms for a turn to end.
fence raise_fence(lane_map& lane, std::uint64_t lease, std::uint64_t self,
                  sync::peers& peers) noexcept;

}  // namespace bus::registry
