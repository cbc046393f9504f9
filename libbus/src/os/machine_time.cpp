#include "os/machine_time.hpp"

#include <fcntl.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/crc32c.hpp"
#include "os/clock.hpp"
#include "os/fd.hpp"

namespace bus::os {

namespace {

constexpr std::uint64_t ask_again_ns = 1'000'000'000;  // adjtimex takes a lock in the kernel

std::uint32_t this_boot() noexcept {
  const fd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char id[36] = {};
  if (!file || ::read(file.get(), id, sizeof id) != static_cast<ssize_t>(sizeof id)) return 0;
  return std::max(1u, base::crc32c(0, id, sizeof id));
}

bool kernel_trusts_the_wall_clock() noexcept {
  timex asked{};
  const int state = ::adjtimex(&asked);
  return state >= 0 && state != TIME_ERROR && (asked.status & STA_UNSYNC) == 0;
}

}  // namespace

machine_time read_machine_time() noexcept {
  static const std::uint32_t boot = this_boot();
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  const std::uint64_t boot_ns =
      static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
  thread_local std::uint64_t asked_ns = 0;
  thread_local bool is_trusted = false;
  if (asked_ns == 0 || boot_ns - asked_ns > ask_again_ns) {
    asked_ns = boot_ns;
    is_trusted = kernel_trusts_the_wall_clock();
  }
  return {boot, boot_ns, is_trusted ? wall_ns() : 0};
}

}  // namespace bus::os
