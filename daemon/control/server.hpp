#pragma once
/// server: the control socket of busd: one request per connection, one thread per request, few at a
/// time. Only the bus's owner may connect: the socket has mode 0600, and the peer's uid is checked.
///
/// Format     docs/format/control.md

#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include <bus/error.hpp>

#include "os/fd.hpp"

namespace bus::control {

class server {
 public:
  using handler = std::function<result<nlohmann::json>(const nlohmann::json& request)>;

  /// Errors: permission, system
  static result<std::unique_ptr<server>> listen(const std::string& path, handler handle);
  ~server();

  /// For poll(); -1 for a moment after busd ran out of descriptors or threads.
  int descriptor() const noexcept;
  /// Accepts all waiting connections. Never blocks.
  void accept();

 private:
  struct connection {
    os::fd socket;
    std::thread thread;
    std::atomic<bool> asked{false};  // its request has arrived completely
    std::atomic<bool> done{false};
  };
  server(os::fd listener, std::string path, handler handle)
      : listener_(std::move(listener)), path_(std::move(path)), handle_(std::move(handle)) {}
  void serve(connection& of) const;
  bool drop_silent_client();
  void join_done(bool all);

  os::fd listener_;
  const std::string path_;
  const handler handle_;
  std::list<connection> connections_;
  std::chrono::steady_clock::time_point rests_until_{};
};

}  // namespace bus::control
