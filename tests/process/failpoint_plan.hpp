#pragma once
/// failpoint_plan: what a forked process does at the library's failpoints: counts them, dies at
/// one of them, or waits there. It lies in shared memory, so that the test can change it, and
/// read it after the death.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>

#include "sync/failpoint.hpp"

namespace test {

using bus::sync::failpoint;
inline constexpr std::size_t failpoints = static_cast<std::size_t>(failpoint::count);

inline std::int64_t now_ns() noexcept {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

struct failpoint_plan {
  std::array<std::atomic<std::uint64_t>, failpoints> hits{};
  std::atomic<failpoint> kill_at{failpoint::count};  ///< count: at none
  std::atomic<std::uint64_t> kill_at_hit{1};
  std::atomic<std::int64_t> killed_ns{0};  ///< steady clock, 0: not yet
  std::atomic<failpoint> hold_at{failpoint::count};
  std::atomic<bool> held{false};  ///< the process waits there now

  std::uint64_t hits_of(failpoint at) const noexcept {
    return hits[static_cast<std::size_t>(at)].load(std::memory_order_acquire);
  }
  void reset() noexcept;
};

/// Of the hits of one failpoint, those to die at: the first two, some in the middle, a late one.
std::set<std::uint64_t> hits_to_die_at(std::uint64_t hits);

/// Failpoints of groups, which have their own tests.
constexpr bool is_of_groups(failpoint at) noexcept { return at >= failpoint::claim_begin; }

/// How often each failpoint was reached, and how often a process died there.
struct failpoint_tally {
  std::array<std::uint64_t, failpoints> hits{}, kills{};
  /// Prints a table of the failpoints that `counts` selects. Returns the names of those where no
  /// process was killed.
  std::string print(bool (*counts)(failpoint)) const;
};

/// From now on this process follows `plan`; null: none. A forked child calls it after the fork.
void follow(failpoint_plan* plan) noexcept;

}  // namespace test
