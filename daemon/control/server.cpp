#include "control/server.hpp"

#include <algorithm>
#include <system_error>

#include "os/files.hpp"
#include "os/local_socket.hpp"
#include "wire/message.hpp"

namespace bus::control {

namespace {

constexpr auto patience = std::chrono::seconds(5);
constexpr std::size_t connections_max = 32;
constexpr auto rest = std::chrono::milliseconds(100);

}  // namespace

result<std::unique_ptr<server>> server::listen(const std::string& path, handler handle) {
  auto socket = os::listen_local(path);
  if (!socket) return std::move(socket.error());
  return std::unique_ptr<server>(new server(std::move(*socket), path, std::move(handle)));
}

server::~server() {
  os::remove_file(path_);
  // does not wait for silent clients
  for (connection& one : connections_)
    if (!one.asked.load()) os::end_connection(one.socket.get());
  join_done(true);
}

void server::join_done(bool all) {
  std::erase_if(connections_, [&](connection& one) {
    if (!all && !one.done.load()) return false;
    one.thread.join();
    return true;
  });
}

int server::descriptor() const noexcept {
  return std::chrono::steady_clock::now() < rests_until_ ? -1 : listener_.get();
}

// Makes room by dropping a client that has not sent its request yet. False: there is none.
bool server::drop_silent_client() {
  join_done(false);
  if (connections_.size() < connections_max) return true;
  const auto silent = std::find_if(connections_.begin(), connections_.end(),
                                   [](const connection& one) { return !one.asked.load(); });
  if (silent == connections_.end()) return false;
  os::end_connection(silent->socket.get());
  silent->thread.join();
  connections_.erase(silent);
  return true;
}

void server::accept() {
  bool exhausted = false;
  while (auto socket = os::accept_local(listener_.get(), exhausted)) {
    const auto uid = os::peer_uid(socket->get());
    // All connections wait for an answer: this one is closed, and its client reports that.
    if (!uid || *uid != os::user_id() || !drop_silent_client()) continue;
    connection& made = connections_.emplace_back();
    made.socket = std::move(*socket);
    try {
      made.thread = std::thread([this, &made] {
        serve(made);
        made.done.store(true);
      });
    } catch (const std::system_error&) {  // no threads left
      connections_.pop_back();
      exhausted = true;
      break;
    }
  }
  // The connections in the queue cannot be accepted now. Polling pauses, to avoid a busy loop.
  if (exhausted) rests_until_ = std::chrono::steady_clock::now() + rest;
}

void server::serve(connection& of) const {
  const os::fd& socket = of.socket;
  const auto until = std::chrono::steady_clock::now() + patience;
  const auto answer = [&]() -> result<nlohmann::json> {
    auto head = os::receive_exactly(socket.get(), wire::head_bytes, until);
    if (!head) return std::move(head.error());
    auto bytes = wire::body_bytes(*head);
    if (!bytes) return std::move(bytes.error());
    auto body = os::receive_exactly(socket.get(), *bytes, until);
    if (!body) return std::move(body.error());
    of.asked.store(true);
    auto request = wire::unpack(*body);
    if (!request) return request;
    return handle_(*request);
  }();
  const std::string packed = wire::pack(answer ? *answer : wire::answer_of(answer.error()));
  (void)os::send_all(socket.get(), packed, std::chrono::steady_clock::now() + patience);
  os::end_connection(socket.get());  // its descriptor stays until the thread is joined
}

}  // namespace bus::control
