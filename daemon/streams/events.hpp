#pragma once
/// events: what busd meets, as messages for whoever listens: `_bus.event.storage.KIND`, JSON.
///
/// Threads    any

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <bus/publisher.hpp>

#include "client/session_core.hpp"

namespace bus::streams {

class events {
 public:
  explicit events(std::shared_ptr<session_core> session);
  ~events();

  /// Never waits for anybody: an event that cannot be published is dropped; the log line stays.
  void publish(const char* kind, const std::string& stream, const error& what);

 private:
  std::shared_ptr<session_core> session_;
  std::mutex mutex_;
  std::unique_ptr<publisher_core> publisher_;
};

}  // namespace bus::streams
