#pragma once
/// statistics: pictures of streams and processes for observers, from read-only maps.

#include <vector>

#include <bus/statistics.hpp>

#include "client/session_core.hpp"

namespace bus::client {

result<stream_info> describe_stream(session_core& session, stream_handle& stream);
std::vector<process_info> describe_processes(session_core& session);

}  // namespace bus::client
