#include "os/local_socket.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "os/failure.hpp"

namespace bus::os {

namespace {

bool fill_address(const std::string& path, ::sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  return true;
}

error too_long(const std::string& path) {
  return {errc::invalid_argument, ENAMETOOLONG, "cannot use the socket " + path,
          "a socket path is limited to 107 bytes", "use a shorter BUS_ROOT or bus name"};
}

bool wait_for(int socket, short events, socket_deadline until) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    ::pollfd one{socket, events, 0};
    const int ready =
        ::poll(&one, 1, static_cast<int>(std::clamp<std::int64_t>(left.count() + 1, 0, INT_MAX)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return true;  // the next call on the socket reports it
  }
}

error timed_out() {
  return {errc::timed_out, 0, "no answer on a control socket", "the peer does not respond", ""};
}

}  // namespace

result<fd> connect_local(const std::string& path) {
  ::sockaddr_un address;
  if (!fill_address(path, address)) return too_long(path);
  fd made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) return failure(errno, "cannot create a socket");
  if (::connect(made.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address) == 0)
    return made;
  if (errno == ENOENT || errno == ECONNREFUSED)
    return error{errc::not_found, errno, "cannot connect to " + path, "no process listens on it",
                 ""};
  return failure(errno, "cannot connect to " + path);
}

result<fd> listen_local(const std::string& path) {
  ::sockaddr_un address;
  if (!fill_address(path, address)) return too_long(path);
  fd made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) return failure(errno, "cannot create a socket");
  // Bound under another name first: no client can connect before the mode is set and it listens.
  const std::string early = path + ".new";
  if (!fill_address(early, address)) return too_long(path);
  ::unlink(early.c_str());
  if (::bind(made.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(early.c_str(), 0600) != 0 || ::listen(made.get(), 64) != 0 ||
      ::rename(early.c_str(), path.c_str()) != 0)
    return failure(errno, "cannot listen on " + path);
  return made;
}

void end_connection(int socket) noexcept { ::shutdown(socket, SHUT_RDWR); }

std::optional<fd> accept_local(int listener, bool& exhausted) {
  const int taken = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (taken < 0) {
    exhausted = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    return std::nullopt;
  }
  return fd(taken);
}

result<std::uint32_t> peer_uid(int socket) {
  ::ucred who{};
  ::socklen_t size = sizeof who;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
    return failure(errno, "cannot identify the peer of a socket");
  return who.uid;
}

result<void> send_all(int socket, std::string_view bytes, socket_deadline until) {
  while (!bytes.empty()) {
    const ::ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(socket, POLLOUT, until)) return timed_out();
    } else if (errno != EINTR) {
      return error{errc::closed, errno, "cannot send on a control socket", std::strerror(errno),
                   ""};
    }
  }
  return {};
}

result<std::string> receive_exactly(int socket, std::size_t bytes, socket_deadline until) {
  std::string got;
  got.resize(bytes);
  std::size_t done = 0;
  while (done < bytes) {
    const ::ssize_t count = ::recv(socket, got.data() + done, bytes - done, 0);
    if (count > 0) {
      done += static_cast<std::size_t>(count);
    } else if (count == 0) {
      return error{errc::closed, 0, "cannot receive on a control socket", "the peer closed it", ""};
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(socket, POLLIN, until)) return timed_out();
    } else if (errno != EINTR) {
      return failure(errno, "cannot receive on a control socket");
    }
  }
  return got;
}

}  // namespace bus::os
