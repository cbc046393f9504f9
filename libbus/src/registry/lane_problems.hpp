#pragma once
/// lane_problems: finds words of lanes that block a process or cannot be right (`bus doctor`), and
/// repairs them (`bus stream repair`).
///
/// Threads    any

#include <vector>

#include "registry/session_core.hpp"

namespace bus::registry {

/// Reads the lanes several times, 5 ms apart: a lock that is in use changes.
std::vector<error> find_lane_problems(session_core& session);

/// Returns how many lanes were repaired.
/// Errors: busy (the process that holds the lane makes no progress), not_found
result<unsigned> repair_lanes(session_core& session, stream_handle& stream);

}  // namespace bus::registry
