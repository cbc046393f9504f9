#pragma once
/// events: what busd meets, as lines of its log and as messages for whoever listens:
/// `_bus.event.storage.KIND`, JSON. In a thread of its own: who tells waits for neither.
///
/// Threads    any

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <bus/publisher.hpp>

#include "client/session_core.hpp"

namespace bus::streams {

class events {
 public:
  explicit events(std::shared_ptr<session_core> session);
  /// What was told before is still said.
  ~events();

  /// An event that cannot be published is dropped; the line of the log stays. Of too many the
  /// oldest go.
  void tell(const char* kind, const std::string& stream, const error& what);

 private:
  struct event {
    std::string kind, stream;
    error what;
  };
  void run();
  void publish(const event& one);

  std::shared_ptr<session_core> session_;
  std::unique_ptr<publisher_core> publisher_;  // of the thread
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<event> waiting_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::streams
