#pragma once
/// sleeper: how a subscriber waits without spinning: on futex words of its lanes, or on a
/// descriptor for epoll.
///
/// Invariant W: the subscriber sets the armed word (an exchange), then checks once more, then
/// sleeps. A publisher commits, then exchanges. One of the two sees the other. A publisher that
/// dies in between, or an overwritten word, costs a bounded delay: no sleep is longer than 50 ms,
/// and none longer than 8 ms soon after the last message.
///
/// Threads    the subscriber's

#include <chrono>
#include <memory>
#include <vector>

#include "os/fd.hpp"
#include "registry/session_core.hpp"
#include "subscribe/source.hpp"

namespace bus::subscribe {

/// `expected`: the armed word before the sleep.
/// Cost: a load; a system call if more readers sleep than a publisher wakes.
void hand_on_wake_up(layout::readers_header& readers, std::uint32_t expected) noexcept;

class sleeper {
 public:
  using sources = std::vector<std::unique_ptr<detail::source>>;

  void note_activity() noexcept { last_activity_ = std::chrono::steady_clock::now(); }
  /// Sleeps at most `wait`, unless `ready()` is true after arming.
  template <class Ready>
  void sleep(const sources& from, session_core& session, std::chrono::nanoseconds wait,
             Ready&& ready) noexcept {
    arm_futexes(from);
    sync::reach(sync::failpoint::sleep_armed);
    if (!ready()) wait_armed(from, session, wait);
    disarm(from);
    sync::reach(sync::failpoint::sleep_woken);
  }

  /// Errors: no_space, system
  result<int> descriptor(const sources& from, session_core& session, std::uint32_t subscriber_id);
  bool has_descriptor() const noexcept { return static_cast<bool>(events_); }
  void arm_bell(const sources& from) noexcept;
  void disarm_bell(const sources& from) noexcept;
  void drain() noexcept;
  void close(session_core& session) noexcept;

 private:
  std::chrono::nanoseconds bound() const noexcept;
  void arm_futexes(const sources& from) noexcept;
  void wait_armed(const sources& from, session_core& session,
                  std::chrono::nanoseconds wait) noexcept;
  void disarm(const sources& from) noexcept;

  std::chrono::steady_clock::time_point born_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_activity_ = born_;
  std::vector<std::uint32_t> expected_;  // of each source's armed word
  os::fd bell_, timer_, events_;
  std::string bell_path_;
};

}  // namespace bus::subscribe
