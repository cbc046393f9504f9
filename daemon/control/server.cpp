#include "control/server.hpp"

#include "os/files.hpp"
#include "os/local_socket.hpp"
#include "wire/message.hpp"

namespace bus::control {

namespace {

constexpr auto patience = std::chrono::seconds(5);
constexpr std::size_t connections_max = 32;

}  // namespace

result<std::unique_ptr<server>> server::listen(const std::string& path, handler handle) {
  auto socket = os::listen_local(path);
  if (!socket) return std::move(socket.error());
  return std::unique_ptr<server>(new server(std::move(*socket), path, std::move(handle)));
}

server::~server() {
  os::remove_file(path_);
  join_done(true);
}

void server::join_done(bool all) {
  std::erase_if(connections_, [&](connection& one) {
    if (!all && !one.done.load()) return false;
    one.thread.join();
    return true;
  });
}

void server::accept() {
  join_done(false);
  while (auto socket = os::accept_local(listener_.get())) {
    const auto uid = os::peer_uid(socket->get());
    // Too many: they see the end of their connection, and say so.
    if (!uid || *uid != os::user_id() || connections_.size() >= connections_max) continue;
    connection& made = connections_.emplace_back();
    made.thread = std::thread([this, &made, taken = std::move(*socket)]() mutable {
      serve(std::move(taken));
      made.done.store(true);
    });
  }
}

void server::serve(os::fd socket) const {
  const auto until = std::chrono::steady_clock::now() + patience;
  const auto answer = [&]() -> result<nlohmann::json> {
    auto head = os::receive_exactly(socket.get(), wire::head_bytes, until);
    if (!head) return std::move(head.error());
    auto bytes = wire::body_bytes(*head);
    if (!bytes) return std::move(bytes.error());
    auto body = os::receive_exactly(socket.get(), *bytes, until);
    if (!body) return std::move(body.error());
    auto request = wire::unpack(*body);
    if (!request) return request;
    return handle_(*request);
  }();
  const std::string packed = wire::pack(answer ? *answer : wire::answer_of(answer.error()));
  (void)os::send_all(socket.get(), packed, std::chrono::steady_clock::now() + patience);
}

}  // namespace bus::control
