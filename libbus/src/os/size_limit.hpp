#pragma once
/// size_limit: writing beyond RLIMIT_FSIZE is an error (EFBIG) and not the end of the process:
/// SIGXFSZ does not reach a host that never asked for files. Held around one call.
///
/// Threads    the one that made it
/// Cost       two system calls; two more after a failure

#include <csignal>

namespace bus::os {

class size_limit_guard {
 public:
  size_limit_guard() noexcept;
  ~size_limit_guard();
  size_limit_guard(const size_limit_guard&) = delete;
  size_limit_guard& operator=(const size_limit_guard&) = delete;
  /// That the call failed with EFBIG: the signal that came with it is taken.
  void failed() noexcept;

 private:
  ::sigset_t before_;
  bool was_blocked_ = false;
};

}  // namespace bus::os
