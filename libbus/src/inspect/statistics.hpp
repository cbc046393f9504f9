#pragma once
/// statistics: pictures of streams and processes for observers, from read-only maps.

#include <vector>

#include <bus/statistics.hpp>

#include "registry/session_core.hpp"

namespace bus::inspect {

result<stream_info> describe_stream(session_core& session, registry::stream_handle& stream);
std::vector<process_info> describe_processes(session_core& session);

}  // namespace bus::inspect
