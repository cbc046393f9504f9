#include <sys/socket.h>

#include <cerrno>

#include "between.hpp"
#include "peers.hpp"

namespace bench {

namespace {

class socket_end {
 public:
  socket_end(int descriptor, const plan& asked)
      : socket_(descriptor),
        flags_(asked.wait == waiting::spin ? MSG_DONTWAIT : 0),
        buffer_(asked.bytes) {}

  void send(const char* payload, std::uint32_t bytes) {
    while (::send(socket_, payload, bytes, flags_) < 0)
      if (errno != EAGAIN && errno != EINTR) fail_with_errno("send");
  }

  std::uint64_t receive(std::uint64_t& sum) {
    const ssize_t got = recv(socket_, buffer_.data(), buffer_.size(), flags_);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got != static_cast<ssize_t>(buffer_.size())) fail_with_errno("recv");
    sum += sum_of(buffer_.data(), buffer_.size());
    return 1;
  }

 private:
  int socket_;
  int flags_;
  std::vector<char> buffer_;
};

class socket_channel {
 public:
  explicit socket_channel(const plan& asked) : plan_(asked) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_) != 0)
      fail_with_errno("socketpair");
    const int room = 4 << 20;
    for (const int end : ends_) {
      // Above the machine's limit if permitted, else as much as the limit permits.
      if (setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) != 0)
        setsockopt(end, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
  }
  ~socket_channel() {
    for (const int end : ends_) close(end);
  }
  socket_channel(const socket_channel&) = delete;
  socket_channel& operator=(const socket_channel&) = delete;

  socket_end open(bool near) { return {ends_[near ? 0 : 1], plan_}; }

 private:
  plan plan_;
  int ends_[2];
};

}  // namespace

peer unix_socket_peer() {
  return {"unix_socket", "Unix socket SEQPACKET", "", [](const plan&) { return true; },
          run_between<socket_channel>};
}

}  // namespace bench
