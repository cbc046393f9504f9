#pragma once
/// confirm: waits until a message is on disk.

#include <chrono>

#include <bus/publisher.hpp>

#include "registry/session_core.hpp"

namespace bus::publish {

/// Blocks at most `wait`.
/// Errors: as publisher::wait_confirmed
result<void> wait_durable(session_core& session, registry::stream_handle& stream, const receipt& of,
                          std::chrono::nanoseconds wait);

}  // namespace bus::publish
