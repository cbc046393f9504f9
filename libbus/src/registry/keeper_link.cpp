#include "registry/keeper_link.hpp"

#include "os/futex.hpp"
#include "os/local_socket.hpp"
#include "sync/words.hpp"
#include "wire/message.hpp"

namespace bus::registry {

std::string keeper_socket_path(const std::string& bus_directory) {
  return bus_directory + "/busd.sock";
}

std::string keeper_command(const std::string& bus_name, const std::string& log_directory) {
  std::string data = log_directory;
  const std::string inside = "/" + bus_name + "/streams/";
  if (const auto at = data.rfind(inside); at != std::string::npos) data.resize(at);
  return "busd --bus " + bus_name + " --data " + (data.empty() ? "DIR" : data);
}

error no_keeper(const std::string& bus_name, std::string what, const std::string& log_directory) {
  return {errc::unavailable, 0, std::move(what), "no busd keeps the bus '" + bus_name + "'",
          "start one: " + keeper_command(bus_name, log_directory)};
}

result<nlohmann::json> ask_keeper(const std::string& bus_directory, const std::string& bus_name,
                                  const nlohmann::json& request, std::chrono::milliseconds wait) {
  const auto until = std::chrono::steady_clock::now() + wait;
  auto socket = os::connect_local(keeper_socket_path(bus_directory));
  if (!socket) {
    if (socket.error().code == errc::not_found) return no_keeper(bus_name, "cannot ask busd");
    return std::move(socket.error());
  }
  auto sent = os::send_all(socket->get(), wire::pack(request), until);
  if (!sent) return std::move(sent.error());
  auto head = os::receive_exactly(socket->get(), wire::head_bytes, until);
  if (!head) return std::move(head.error());
  auto bytes = wire::body_bytes(*head);
  if (!bytes) return std::move(bytes.error());
  auto body = os::receive_exactly(socket->get(), *bytes, until);
  if (!body) return std::move(body.error());
  auto answer = wire::unpack(*body);
  if (!answer) return answer;
  return wire::check_answer(std::move(*answer));
}

void ring_keeper(layout::control_header& control) noexcept {
  if (sync::load_relaxed(control.keeper_bell) == 0) return;
  sync::exchange_both(control.keeper_bell, 0);
  os::futex_wake(os::futex_half(control.keeper_bell), 1);
}

}  // namespace bus::registry
