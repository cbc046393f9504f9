#pragma once
/// clock: the stamp on every message. The cycle counter where it is invariant, else CLOCK_BOOTTIME.
/// Leases, retries and orders depend on it, so it is never a clock that can be set.
///
/// A bus has one clock kind, chosen by its creator. The creator also stores one pair {ticks,
/// CLOCK_MONOTONIC_RAW}, from which every process derives the frequency; the older the bus, the
/// better the estimate. The bus's eras convert a stamp to wall-clock time, to the same value in all
/// processes at any later moment. Clock steps and drift take effect for stamps 3 s later.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>

#include "base/clock_eras.hpp"
#include "base/cycles.hpp"

namespace bus::os {

inline constexpr std::uint32_t clock_cycles = 1;
inline constexpr std::uint32_t clock_wall = 2;  // of a bus made by an older library
inline constexpr std::uint32_t clock_boot = 3;

std::uint32_t best_clock_kind() noexcept;
std::uint64_t wall_ns() noexcept;
std::uint64_t boot_ns() noexcept;
std::uint64_t raw_monotonic_ns() noexcept;

class tick_clock {
 public:
  tick_clock() = default;
  /// `eras` outlive the clock and its copies. Null: the clock has eras of its own.
  tick_clock(std::uint32_t kind, std::uint64_t created_ticks, std::uint64_t created_raw_ns,
             base::clock_eras* eras = nullptr);

  std::uint32_t kind() const noexcept { return kind_; }
  std::uint64_t now() const noexcept {
    return kind_ == clock_cycles ? base::cycle_counter()
           : kind_ == clock_boot ? boot_ns()
                                 : wall_ns();
  }
  double ns_per_tick() const noexcept;
  std::uint64_t to_wall_ns(std::uint64_t ticks) const noexcept;
  std::uint64_t from_wall_ns(std::uint64_t wall) const noexcept;

 private:
  struct era {
    std::uint64_t from, wall;
    double ns_per_tick;

    std::uint64_t wall_at(std::uint64_t ticks) const noexcept;
  };
  struct sample {
    std::uint64_t ticks, wall;
  };
  using known_eras = std::array<era, base::clock_eras_max>;

  sample take_sample() const noexcept;
  era first_guess(const sample& now) const noexcept;
  bool settle(std::size_t index, const era& before, const sample& now, era& settled) const noexcept;
  std::size_t read_eras(known_eras& found, const sample& now) const noexcept;
  std::size_t look(known_eras& found, const sample& now) const noexcept;
  bool is_forked() const noexcept;

  std::uint32_t kind_ = clock_wall;
  std::uint64_t created_ticks_ = 0;
  std::uint64_t created_raw_ns_ = 0;
  int process_ = 0;  // a forked child does not have the eras mapped
  std::shared_ptr<base::clock_eras> eras_;
};

}  // namespace bus::os
