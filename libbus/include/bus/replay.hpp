#pragma once
/// replay: the stored messages of streams in order of time, at original speed, scaled, or at once.
///
/// Threads    one thread per object
/// Cost       one subscriber per replayed lane; one comparison per lane and message
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
  std::vector<std::string> streams = {};  ///< empty: all with matching subjects
  std::chrono::system_clock::time_point from{};
  /// Messages stamped later are left out; default: none. Messages published after open() are never
  /// replayed.
  std::optional<std::chrono::system_clock::time_point> to = {};
  /// 1: original speed; 10: ten times as fast; 0: at once.
  double speed = 0;
  /// The longest pause if speed is not 0: the clock may have been set between two messages.
  std::chrono::nanoseconds longest_pause = std::chrono::minutes(1);
};

class BUS_EXPORT replay {
 public:
  /// Errors: invalid_argument (pattern, speed, longest_pause), not_found (a stream), those of
  ///         session::subscribe
  static result<replay> open(session& from, replay_options options);
  replay(replay&&) noexcept;
  replay& operator=(replay&&) noexcept;
  ~replay();

  /// The next message in order of time over all lanes; waits until it is due. Empty: the end, or
  /// stop() was called. After a failure() the other lanes are still replayed.
  std::optional<message> next();
  /// Any thread; async-signal-safe.
  void stop() noexcept;
  const std::optional<error>& failure() const noexcept;
  /// Messages that are no longer stored.
  std::uint64_t lost() const noexcept;

 private:
  struct state;
  explicit replay(std::unique_ptr<state> made) noexcept;
  std::unique_ptr<state> state_;
};

}  // namespace bus
