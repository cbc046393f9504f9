#pragma once
/// admin: the thread that does what takes its time, one order after another: makes, opens, changes
/// and removes streams. Nothing that is written or confirmed waits for it.
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

  /// `between`: called in the thread when no order waits; answers when it wants to be called again.
  explicit admin(std::function<clock::time_point()> between);
  /// As stop(); waits for the order that is being carried out.
  ~admin();

  /// Carries out `order`, behind those that came before, and returns when that is done. False: it
  /// was not begun, and will not be, because busd ends.
  bool run(const std::function<void()>& order);
  /// What was not begun is not begun any more. Does not wait.
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
