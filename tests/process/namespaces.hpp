#pragma once
/// namespaces: processes whose ids or clocks differ from the test's.

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "scratch.hpp"

namespace test {

inline constexpr int not_permitted = 77;

// Runs `work` in process 2 of a new pid namespace. `init` gets the pid, as seen from here, of the
// first process in it: killing that one kills both.
template <class Work>
int in_new_pid_namespace(std::atomic<int>& init, Work&& work) {
  if (::unshare(CLONE_NEWPID) != 0) return not_permitted;
  const pid_t first = ::fork();
  if (first < 0) return not_permitted;
  if (first == 0) {
    const pid_t second = ::fork();
    if (second == 0) ::_exit(work());
    int status = 0;
    while (::waitpid(second, &status, 0) < 0 && errno == EINTR) {
    }
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
  }
  init.store(first);
  int status = 0;
  while (::waitpid(first, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

// Runs `work` in a process whose monotonic clock and boot time are a day ahead of ours.
template <class Work>
int a_day_ahead(std::atomic<int>& pid, Work&& work) {
  if (::unshare(CLONE_NEWTIME) != 0) return not_permitted;
  const int file = ::open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
  const std::string_view offsets = "monotonic 86400 0\nboottime 86400 0\n";
  const bool set = file >= 0 && ::write(file, offsets.data(), offsets.size()) ==
                                    static_cast<ssize_t>(offsets.size());
  ::close(file);
  if (!set) return not_permitted;
  const pid_t inside = ::fork();
  if (inside == 0) ::_exit(work());
  pid.store(inside);
  int status = 0;
  while (::waitpid(inside, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

// False: namespaces are not permitted here, which fails the test unless the environment accepts
// it.
inline bool namespaces_work() {
  std::atomic<int> ignored{0};
  child probe(
      [&] { return in_new_pid_namespace(ignored, [] { return ::getpid() == 2 ? 0 : 1; }); });
  if (probe.succeeded()) return true;
  const char* known = std::getenv("BUS_TEST_NO_NAMESPACES");
  if (known != nullptr && std::string_view(known) == "1") {
    std::printf(
        "pid namespaces may not be made here (BUS_TEST_NO_NAMESPACES=1): nothing is tested\n");
    return false;
  }
  ADD_FAILURE() << "unshare(CLONE_NEWPID) is not permitted here, so that locks across pid "
                   "namespaces cannot be tested; run as "
                   "root, or set BUS_TEST_NO_NAMESPACES=1 to accept that";
  return false;
}

}  // namespace test
