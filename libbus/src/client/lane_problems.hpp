#pragma once
/// lane_problems: words of lanes that block somebody, or that cannot be true: seen by `bus doctor`,
/// put right by `bus stream repair`.
///
/// Threads    any

#include <vector>

#include "client/session_core.hpp"

namespace bus::client {

/// Looks several times, some milliseconds apart: a lock that is in use moves.
std::vector<error> find_lane_problems(session_core& session);

/// How many lanes were put right.
/// Errors: busy (who has the lane does not go on), not_found
result<unsigned> repair_lanes(session_core& session, stream_handle& stream);

}  // namespace bus::client
