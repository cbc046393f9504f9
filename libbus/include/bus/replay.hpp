#pragma once
/// replay: what streams hold, in the order of time, at the speed it came, faster, or at once.
///
/// Threads    one thread per object
/// Cost       a subscriber per lane that is replayed; a comparison per lane and message
/// Lifetime   a message is valid until the next call; the session may be destroyed first

#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <bus/error.hpp>
#include <bus/message.hpp>
#include <bus/session.hpp>

namespace bus {

struct replay_options {
  std::vector<std::string> patterns = {">"};
  std::vector<std::string> streams = {};  ///< empty: all that match
  std::chrono::system_clock::time_point from{};
  /// Messages stamped later are left out; default: none. What is published after the opening never
  /// comes.
  std::optional<std::chrono::system_clock::time_point> to = {};
  /// 1: as it came; 10: ten times as fast; 0: at once.
  double speed = 0;
  /// With a speed: no pause is longer. Between two messages there may have been a clock that was
  /// set.
  std::chrono::nanoseconds longest_pause = std::chrono::minutes(1);
};

class BUS_EXPORT replay {
 public:
  /// Errors: invalid_argument (pattern, speed), not_found (a stream), those of subscribe
  static result<replay> open(session& from, replay_options options);
  replay(replay&&) noexcept;
  replay& operator=(replay&&) noexcept;
  ~replay();

  /// The next message in the order of time over all streams; waits until it is due. Empty: that was
  /// all, stop() was called, or failure().
  std::optional<message> next();
  /// Any thread; async-signal-safe.
  void stop() noexcept;
  const std::optional<error>& failure() const noexcept;
  /// Messages that are not there any more.
  std::uint64_t lost() const noexcept;

 private:
  struct state;
  explicit replay(std::unique_ptr<state> made) noexcept;
  std::unique_ptr<state> state_;
};

}  // namespace bus
