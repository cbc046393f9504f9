#include "os/size_limit.hpp"

#include <cerrno>
#include <ctime>

#include <pthread.h>

namespace bus::os {

namespace {

::sigset_t the_signal() noexcept {
  ::sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGXFSZ);
  return set;
}

}  // namespace

size_limit_guard::size_limit_guard() noexcept {
  const ::sigset_t set = the_signal();
  was_blocked_ =
      ::pthread_sigmask(SIG_BLOCK, &set, &before_) != 0 || ::sigismember(&before_, SIGXFSZ) == 1;
}

size_limit_guard::~size_limit_guard() {
  if (was_blocked_) return;
  const int code = errno;
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  errno = code;
}

// The kernel sends SIGXFSZ to the writing thread. If the host blocked the signal itself, it stays
// pending.
void size_limit_guard::failed() noexcept {
  if (was_blocked_) return;
  const int code = errno;
  const ::sigset_t set = the_signal();
  const timespec at_once{};
  (void)::sigtimedwait(&set, nullptr, &at_once);
  errno = code;
}

}  // namespace bus::os
