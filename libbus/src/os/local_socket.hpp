#pragma once
/// local_socket: Unix stream sockets with deadlines; close-on-exec, and non-blocking internally.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include <bus/error.hpp>

#include "os/fd.hpp"

namespace bus::os {

using socket_deadline = std::chrono::steady_clock::time_point;

/// Errors: not_found (nobody listens), permission, system
result<fd> connect_local(const std::string& path);
/// A listening socket with mode 0600; replaces an existing file at `path`.
/// Errors: permission, system
result<fd> listen_local(const std::string& path);
/// Empty: no connection is pending, or accepting it failed.
/// Sets `exhausted` on failure: true when descriptors or memory ran out.
std::optional<fd> accept_local(int listener, bool& exhausted);
/// Shuts the connection down in both directions, which ends waits on it. Keeps the descriptor.
void end_connection(int socket) noexcept;
/// User id of the process at the other end.
result<std::uint32_t> peer_uid(int socket);

/// Errors: timed_out, closed, system
result<void> send_all(int socket, std::string_view bytes, socket_deadline until);
result<std::string> receive_exactly(int socket, std::size_t bytes, socket_deadline until);

}  // namespace bus::os
