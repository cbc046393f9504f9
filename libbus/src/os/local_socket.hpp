#pragma once
/// local_socket: Unix stream sockets with deadlines. Close-on-exec, non-blocking underneath.

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
/// A socket that listens, mode 0600; what lay at `path` is replaced.
/// Errors: permission, system
result<fd> listen_local(const std::string& path);
/// Empty: nobody waits.
/// `exhausted` is set when there are no descriptors or no memory left for it.
std::optional<fd> accept_local(int listener, bool& exhausted);
/// Whoever waits for the other end sees that it is over. The descriptor stays.
void end_connection(int socket) noexcept;
/// uid of who is at the other end.
result<std::uint32_t> peer_uid(int socket);

/// Errors: timed_out, closed, system
result<void> send_all(int socket, std::string_view bytes, socket_deadline until);
result<std::string> receive_exactly(int socket, std::size_t bytes, socket_deadline until);

}  // namespace bus::os
