#pragma once
/// confirm: waiting until a message is on disk.

#include <chrono>

#include <bus/publisher.hpp>

#include "client/session_core.hpp"

namespace bus::client {

/// Blocks at most `wait`.
/// Errors: as publisher::wait_confirmed
result<void> wait_durable(session_core& session, stream_handle& stream, const receipt& of,
                          std::chrono::nanoseconds wait);

}  // namespace bus::client
