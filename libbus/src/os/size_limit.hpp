#pragma once
/// size_limit: makes a write beyond RLIMIT_FSIZE an error (EFBIG) instead of a SIGXFSZ that kills
/// the host process. Held around one call.
///
/// Threads    the one that constructed it
/// Cost       two system calls; two more after a failure

#include <csignal>

namespace bus::os {

class size_limit_guard {
 public:
  size_limit_guard() noexcept;
  ~size_limit_guard();
  size_limit_guard(const size_limit_guard&) = delete;
  size_limit_guard& operator=(const size_limit_guard&) = delete;
  /// Call it after EFBIG: consumes the signal that the kernel sent with it.
  void failed() noexcept;

 private:
  ::sigset_t before_;
  bool was_blocked_ = false;
};

}  // namespace bus::os
