#pragma once
/// admin: the thread that adds, opens, changes and removes streams, one order after another. No
/// write and no confirm waits for it.
///
/// Threads    run and stop from any

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace bus::streams {

class admin {
 public:
  using clock = std::chrono::steady_clock;

  /// `between`: called in the thread when no order waits; returns when to call it again.
  explicit admin(std::function<clock::time_point()> between);
  /// As stop(); waits for the order in progress.
  ~admin();

  /// Carries out `order` after the earlier ones, and returns when it is done. False: busd is
  /// ending, and the order was not and will not be begun.
  bool run(const std::function<void()>& order);
  /// Orders that have not begun never will. Does not wait.
  void stop();

 private:
  struct waiting {
    const std::function<void()>* order = nullptr;
    bool begun = false, done = false;
  };
  void work();

  const std::function<clock::time_point()> between_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<waiting*> orders_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::streams
