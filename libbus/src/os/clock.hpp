#pragma once
/// clock: the stamp on every message. The cycle counter where it is invariant, else CLOCK_REALTIME.
///
/// A bus has one kind, chosen by its creator. The creator also writes down one pair {ticks,
/// CLOCK_MONOTONIC_RAW}: every process derives the frequency from it, more exact the older the bus
/// is. Wall-clock time is taken anew at most a second ago, so that clock steps and drift show.

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/cycles.hpp"

namespace bus::os {

inline constexpr std::uint32_t clock_cycles = 1;
inline constexpr std::uint32_t clock_wall = 2;

std::uint32_t best_clock_kind() noexcept;
std::uint64_t wall_ns() noexcept;
std::uint64_t raw_monotonic_ns() noexcept;

class tick_clock {
 public:
  tick_clock() = default;
  tick_clock(std::uint32_t kind, std::uint64_t birth_ticks, std::uint64_t birth_raw_ns) noexcept
      : kind_(kind), birth_ticks_(birth_ticks), birth_raw_ns_(birth_raw_ns) {}
  tick_clock(const tick_clock& other) noexcept
      : tick_clock(other.kind_, other.birth_ticks_, other.birth_raw_ns_) {}
  tick_clock& operator=(const tick_clock& other) noexcept;

  std::uint32_t kind() const noexcept { return kind_; }
  std::uint64_t now() const noexcept {
    return kind_ == clock_cycles ? base::cycle_counter() : wall_ns();
  }
  double ns_per_tick() const noexcept;
  std::uint64_t to_wall_ns(std::uint64_t ticks) const noexcept;
  std::uint64_t from_wall_ns(std::uint64_t wall) const noexcept;

 private:
  struct anchor {
    std::uint64_t ticks;
    std::uint64_t wall;
    double ns_per_tick;
  };
  anchor fresh_anchor() const noexcept;

  std::uint32_t kind_ = clock_wall;
  std::uint64_t birth_ticks_ = 0;
  std::uint64_t birth_raw_ns_ = 0;
};

}  // namespace bus::os
