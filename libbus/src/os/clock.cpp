#include "os/clock.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
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

// The kernel checks the counter against other clocks and stops using it when it drifts.
bool kernel_trusts_the_counter() noexcept {
  const fd file(::open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                       O_RDONLY | O_CLOEXEC));
  if (!file) return true;  // some containers hide the file
  char name[32] = {};
  return ::read(file.get(), name, sizeof name - 1) <= 0 || std::strncmp(name, "tsc", 3) == 0 ||
         std::strncmp(name, "kvm-clock", 9) == 0 || std::strncmp(name, "hyperv", 6) == 0 ||
         std::strncmp(name, "arch_sys_counter", 16) == 0;
}

}  // namespace

std::uint32_t best_clock_kind() noexcept {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool invariant = __get_cpuid(0x80000007u, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
#else
  const bool invariant = true;  // the generic timer is invariant by definition
#endif
  return invariant && kernel_trusts_the_counter() ? clock_cycles : clock_boot;
}

std::uint64_t wall_ns() noexcept { return read_clock(CLOCK_REALTIME); }
std::uint64_t boot_ns() noexcept { return read_clock(CLOCK_BOOTTIME); }
std::uint64_t raw_monotonic_ns() noexcept { return read_clock(CLOCK_MONOTONIC_RAW); }

tick_clock::tick_clock(std::uint32_t kind, std::uint64_t created_ticks,
                       std::uint64_t created_raw_ns, base::clock_eras* eras)
    : kind_(kind),
      created_ticks_(created_ticks),
      created_raw_ns_(created_raw_ns),
      process_(::getpid()) {
  if (eras != nullptr)
    eras_ = std::shared_ptr<base::clock_eras>(std::shared_ptr<void>(), eras);
  else if (kind != clock_wall)
    eras_ = std::make_shared<base::clock_eras>();
}

double tick_clock::ns_per_tick() const noexcept {
  if (kind_ != clock_cycles) return 1.0;
  // A baseline of 10 ms gives the frequency to within a few parts in 100,000.
  std::uint64_t ns = 0;
  while ((ns = raw_monotonic_ns() - created_raw_ns_) < 10'000'000) base::relax();
  const std::uint64_t ticks = base::cycle_counter() - created_ticks_;
  return ticks == 0 ? 1.0 : static_cast<double>(ns) / static_cast<double>(ticks);
}

namespace {

// A new era begins this long after it was announced. A process trusts what it has read of the eras
// for half of that time, which ends before the first stamp of an era that it has not seen.
constexpr double announced_ahead_ns = 2e9;
constexpr double believed_ns = announced_ahead_ns / 2;
// A larger deviation of the wall clock starts a new era. Eras are few, so the tolerance doubles
// with every eras_per_tolerance of them.
constexpr double tolerance_ns = 1e5;
constexpr std::size_t eras_per_tolerance = 8;
// A rate measured over a shorter time is not used, nor one that deviates more: that is a clock
// step, not drift.
constexpr double shortest_baseline_ns = 1e9;
constexpr double largest_drift = 1e-3;

// Stores `value` if the word is 0. Returns the value that the word then has.
std::uint64_t set_once(base::word& to, std::uint64_t value) noexcept {
  std::uint64_t expected = 0;
  return to.compare_exchange_strong(expected, value) ? value : expected;
}

std::uint64_t ticks_of(double ns, double ns_per_tick) noexcept {
  return static_cast<std::uint64_t>(ns / ns_per_tick);
}

}  // namespace

std::uint64_t tick_clock::era::wall_at(std::uint64_t ticks) const noexcept {
  const double distance =
      static_cast<double>(static_cast<std::int64_t>(ticks - from)) * ns_per_tick;
  if (!(std::abs(distance) < 9e18)) return wall;
  return wall + static_cast<std::uint64_t>(static_cast<std::int64_t>(distance));
}

// Returns the narrowest of four samples: a thread may be preempted between two clock reads.
tick_clock::sample tick_clock::take_sample() const noexcept {
  sample best{};
  std::uint64_t width = ~0ull;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t before = now(), wall = wall_ns();
    const std::uint64_t took = now() - before;
    if (took < width) width = took, best = {before + took / 2, wall};
  }
  return best;
}

bool tick_clock::is_forked() const noexcept { return process_ != ::getpid(); }

tick_clock::era tick_clock::first_guess(const sample& now) const noexcept {
  const double rate = ns_per_tick();
  return {created_ticks_, era{now.ticks, now.wall, rate}.wall_at(created_ticks_), rate};
}

// Completes the era if it is not complete. False: its words were overwritten with garbage.
bool tick_clock::settle(std::size_t index, const era& before, const sample& now,
                        era& settled) const noexcept {
  auto& shared = eras_->of[index];
  settled.from = shared.from.load();
  std::uint64_t rate = shared.ns_per_tick.load();
  if (rate == 0) {
    double measured = before.ns_per_tick;
    if (index != 0) {
      const auto ticks = static_cast<double>(static_cast<std::int64_t>(now.ticks - before.from));
      const auto ns = static_cast<double>(static_cast<std::int64_t>(now.wall - before.wall));
      if (ticks * measured > shortest_baseline_ns &&
          std::abs(ns / (ticks * measured) - 1) < largest_drift)
        measured = ns / ticks;
    }
    rate = set_once(shared.ns_per_tick, std::bit_cast<std::uint64_t>(measured));
  }
  settled.ns_per_tick = std::bit_cast<double>(rate);
  if (!(settled.ns_per_tick > 1e-6 && settled.ns_per_tick < 1e6)) return false;
  settled.wall = shared.wall_ns.load();
  if (settled.wall == 0)
    settled.wall = set_once(shared.wall_ns,
                            era{now.ticks, now.wall, settled.ns_per_tick}.wall_at(settled.from));
  return settled.from <= ~0ull / 2 && settled.wall <= ~0ull / 2 &&
         (index == 0 || settled.from > before.from);
}

// Returns the number of eras, at least one.
std::size_t tick_clock::read_eras(known_eras& found, const sample& now) const noexcept {
  std::size_t count = 0;
  if (!is_forked()) {
    if (eras_->of[0].from.load() == 0)
      set_once(eras_->of[0].from, std::max<std::uint64_t>(created_ticks_, 1));
    while (count < base::clock_eras_max && eras_->of[count].from.load() != 0) {
      const era before = count != 0                             ? found[count - 1]
                         : eras_->of[0].ns_per_tick.load() == 0 ? first_guess(now)
                                                                : era{};
      if (!settle(count, before, now, found[count])) break;
      ++count;
    }
  }
  if (count == 0) found[count++] = first_guess(now);
  return count;
}

// The same. Also announces a new era when the wall clock deviates from the last one, which may
// itself be announced only.
std::size_t tick_clock::look(known_eras& found, const sample& now) const noexcept {
  const std::size_t count = read_eras(found, now);
  const era& last = found[count - 1];
  if (count == base::clock_eras_max || is_forked()) return count;
  const double off =
      std::abs(static_cast<double>(static_cast<std::int64_t>(last.wall_at(now.ticks) - now.wall)));
  if (off <= std::ldexp(tolerance_ns, static_cast<int>(count / eras_per_tolerance))) return count;
  const std::uint64_t from = this->now() + ticks_of(announced_ahead_ns, last.ns_per_tick);
  set_once(eras_->of[count].from, std::max(from, last.from + 1));
  return read_eras(found, now);
}

std::uint64_t tick_clock::to_wall_ns(std::uint64_t ticks) const noexcept {
  if (kind_ == clock_wall) return ticks;
  struct remembered {
    const base::clock_eras* of;
    std::uint64_t create_params, begin, bytes;
    era known;
  };
  thread_local remembered last{};
  if (last.of == eras_.get() && last.create_params == created_ticks_ &&
      ticks - last.begin < last.bytes) [[likely]]
    return last.known.wall_at(ticks);
  const sample now = take_sample();
  known_eras all;
  const std::size_t count = look(all, now);
  std::size_t at = count - 1;
  while (at != 0 && ticks < all[at].from) --at;
  const std::uint64_t begin = at == 0 ? 0 : all[at].from;
  const std::uint64_t believed = now.ticks + ticks_of(believed_ns, all[at].ns_per_tick);
  const std::uint64_t end = at + 1 < count ? std::min(all[at + 1].from, believed) : believed;
  last = {eras_.get(), created_ticks_, begin, end > begin ? end - begin : 0, all[at]};
  return all[at].wall_at(ticks);
}

// Returns the first stamp of that time; for a time that the wall clock skipped, the next one.
std::uint64_t tick_clock::from_wall_ns(std::uint64_t wall) const noexcept {
  if (kind_ == clock_wall) return wall;
  known_eras all;
  const std::size_t count = read_eras(all, take_sample());
  for (std::size_t at = 0;; ++at) {
    const era& e = all[at];
    const bool is_last = at + 1 == count;
    if (!is_last && wall >= e.wall_at(all[at + 1].from)) continue;
    if (at != 0 && wall <= e.wall) return e.from;
    const double distance =
        static_cast<double>(static_cast<std::int64_t>(wall - e.wall)) / e.ns_per_tick;
    // earlier than the counter's zero
    if (wall < e.wall && distance <= -static_cast<double>(e.from)) return 0;
    if (!(distance < 9e18)) return ~0ull;
    return e.from + static_cast<std::uint64_t>(static_cast<std::int64_t>(distance));
  }
}

}  // namespace bus::os
