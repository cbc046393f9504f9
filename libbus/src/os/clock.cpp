#include "os/clock.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "os/fd.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace bus::os {

namespace {

std::uint64_t read_clock(clockid_t id) noexcept {
  timespec t{};
  ::clock_gettime(id, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

// The kernel watches the counter against other clocks and stops using it when it drifts.
bool kernel_trusts_the_counter() noexcept {
  const fd file(::open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                       O_RDONLY | O_CLOEXEC));
  if (!file) return true;  // hidden in some containers
  char name[32] = {};
  return ::read(file.get(), name, sizeof name - 1) <= 0 || std::strncmp(name, "tsc", 3) == 0 ||
         std::strncmp(name, "kvm-clock", 9) == 0 ||
         std::strncmp(name, "hyperv", 6) == 0 || std::strncmp(name, "arch_sys_counter", 16) == 0;
}

}  // namespace

std::uint32_t best_clock_kind() noexcept {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool invariant = __get_cpuid(0x80000007u, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
#else
  const bool invariant = true;  // the generic timer is by definition
#endif
  return invariant && kernel_trusts_the_counter() ? clock_cycles : clock_wall;
}

std::uint64_t wall_ns() noexcept { return read_clock(CLOCK_REALTIME); }
std::uint64_t raw_monotonic_ns() noexcept { return read_clock(CLOCK_MONOTONIC_RAW); }

tick_clock& tick_clock::operator=(const tick_clock& other) noexcept {
  kind_ = other.kind_;
  birth_ticks_ = other.birth_ticks_;
  birth_raw_ns_ = other.birth_raw_ns_;
  return *this;
}

double tick_clock::ns_per_tick() const noexcept {
  if (kind_ == clock_wall) return 1.0;
  // 10 ms of baseline make the frequency right to some parts in a hundred thousand.
  std::uint64_t ns = 0;
  while ((ns = raw_monotonic_ns() - birth_raw_ns_) < 10'000'000) base::relax();
  const std::uint64_t ticks = base::cycle_counter() - birth_ticks_;
  return ticks == 0 ? 1.0 : static_cast<double>(ns) / static_cast<double>(ticks);
}

tick_clock::anchor tick_clock::fresh_anchor() const noexcept {
  thread_local anchor cached{};
  thread_local std::uint64_t cached_birth = 0;
  const std::uint64_t ticks = base::cycle_counter();
  if (cached_birth != birth_ticks_ ||
      static_cast<double>(ticks - cached.ticks) * cached.ns_per_tick > 1e9) {
    cached = {ticks, wall_ns(), ns_per_tick()};
    cached_birth = birth_ticks_;
  }
  return cached;
}

std::uint64_t tick_clock::to_wall_ns(std::uint64_t ticks) const noexcept {
  if (kind_ == clock_wall) return ticks;
  const anchor at = fresh_anchor();
  const auto distance =
      static_cast<double>(static_cast<std::int64_t>(ticks - at.ticks)) * at.ns_per_tick;
  return at.wall + static_cast<std::uint64_t>(static_cast<std::int64_t>(distance));
}

std::uint64_t tick_clock::from_wall_ns(std::uint64_t wall) const noexcept {
  if (kind_ == clock_wall) return wall;
  const anchor at = fresh_anchor();
  const double distance =
      (static_cast<double>(wall) - static_cast<double>(at.wall)) / at.ns_per_tick;
  if (distance <= -static_cast<double>(at.ticks)) return 0;  // before the counter began
  if (distance >= 9e18) return ~0ull;
  // Exact for what is near, where it matters.
  if (std::abs(distance) < 4e15)
    return at.ticks +
           static_cast<std::uint64_t>(static_cast<std::int64_t>(
               static_cast<double>(static_cast<std::int64_t>(wall - at.wall)) / at.ns_per_tick));
  return at.ticks + static_cast<std::uint64_t>(static_cast<std::int64_t>(distance));
}

}  // namespace bus::os
