#pragma once
/// events: writes busd's events to its log and publishes them as JSON messages with the subject
/// `_bus.event.storage.KIND`. Has its own thread: tell() waits for neither.
///
/// Threads    any

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <bus/publisher.hpp>

#include "registry/session_core.hpp"

namespace bus::streams {

class events {
 public:
  explicit events(std::shared_ptr<session_core> session);
  /// Handles the remaining events first.
  ~events();

  /// An event that cannot be published is dropped, but its log line is written. When too many wait,
  /// the oldest are dropped.
  void tell(const char* kind, const std::string& stream, const error& what);

 private:
  struct event {
    std::string kind, stream;
    error what;
  };
  void run();
  void publish(const event& one);

  std::shared_ptr<session_core> session_;
  std::unique_ptr<publisher_core> publisher_;  // used by the thread only
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<event> waiting_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::streams
