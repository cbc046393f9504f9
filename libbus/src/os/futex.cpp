#include "os/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace bus::os {

namespace {

timespec to_timespec(std::chrono::nanoseconds t) noexcept {
  const auto whole = std::max<std::int64_t>(0, t.count());
  return {static_cast<time_t>(whole / 1'000'000'000), static_cast<long>(whole % 1'000'000'000)};
}

}  // namespace

void futex_wait(const std::uint32_t* at, std::uint32_t expected,
                std::chrono::nanoseconds timeout) noexcept {
  const timespec relative = to_timespec(timeout);
  ::syscall(SYS_futex, at, FUTEX_WAIT, expected, &relative, nullptr, 0);
}

int futex_wake(const std::uint32_t* at, int count) noexcept {
  return static_cast<int>(::syscall(SYS_futex, at, FUTEX_WAKE, count, nullptr, nullptr, 0));
}

void futex_wait_any(std::span<const futex_expectation> words,
                    std::chrono::nanoseconds timeout) noexcept {
  if (words.empty()) return;
  if (words.size() == 1) return futex_wait(words[0].at, words[0].expected, timeout);
  struct futex_waitv list[futex_wait_any_max] = {};
  const std::size_t count = std::min(words.size(), futex_wait_any_max);
  for (std::size_t i = 0; i < count; ++i) {
    list[i].uaddr = reinterpret_cast<std::uintptr_t>(words[i].at);
    list[i].val = words[i].expected;
    list[i].flags = FUTEX_32;
  }
  timespec deadline{};
  ::clock_gettime(CLOCK_MONOTONIC, &deadline);
  const auto absolute =
      std::chrono::nanoseconds(deadline.tv_sec * 1'000'000'000ll + deadline.tv_nsec) + timeout;
  deadline = to_timespec(absolute);
  const long woken = ::syscall(SYS_futex_waitv, list, count, 0, &deadline, CLOCK_MONOTONIC);
  if (woken < 0 && (errno == ENOSYS || errno == EPERM))
    futex_wait(words[0].at, words[0].expected,
               std::min(timeout, std::chrono::nanoseconds(1'000'000)));
}

}  // namespace bus::os
