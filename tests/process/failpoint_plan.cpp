#include "failpoint_plan.hpp"

#include <signal.h>
#include <unistd.h>

#include <cstdio>

namespace test {

namespace {

std::atomic<failpoint_plan*> followed{nullptr};

}  // namespace

void failpoint_plan::reset() noexcept {
  for (auto& count : hits) count.store(0, std::memory_order_relaxed);
  kill_at.store(failpoint::count, std::memory_order_relaxed);
  kill_at_hit.store(1, std::memory_order_relaxed);
  killed_ns.store(0, std::memory_order_relaxed);
  hold_at.store(failpoint::count, std::memory_order_relaxed);
  held.store(false, std::memory_order_release);
}

std::set<std::uint64_t> hits_to_die_at(std::uint64_t hits) {
  std::set<std::uint64_t> all{1, 2, hits / 4, hits / 2, hits * 3 / 4, hits - hits / 8};
  std::erase_if(all, [&](std::uint64_t hit) { return hit == 0 || hit > hits; });
  return all;
}

std::string failpoint_tally::print(bool (*counts)(failpoint)) const {
  std::string missing;
  std::printf("%-24s %10s %6s\n", "step", "reached", "kills");
  for (std::size_t i = 0; i < failpoints; ++i) {
    const auto at = static_cast<failpoint>(i);
    if (!counts(at)) continue;
    std::printf("%-24s %10llu %6llu\n", bus::sync::failpoint_name(at),
                static_cast<unsigned long long>(hits[i]),
                static_cast<unsigned long long>(kills[i]));
    if (kills[i] == 0) missing += std::string(" ") + bus::sync::failpoint_name(at);
  }
  return missing;
}

void follow(failpoint_plan* plan) noexcept { followed.store(plan, std::memory_order_release); }

}  // namespace test

namespace bus::sync {

void failpoint_reached(failpoint at) noexcept {
  test::failpoint_plan* plan = test::followed.load(std::memory_order_acquire);
  if (plan == nullptr) return;
  const std::uint64_t hit =
      plan->hits[static_cast<std::size_t>(at)].fetch_add(1, std::memory_order_acq_rel) + 1;
  if (plan->kill_at.load(std::memory_order_acquire) == at &&
      plan->kill_at_hit.load(std::memory_order_acquire) == hit) {
    plan->killed_ns.store(test::now_ns(), std::memory_order_release);
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }
  if (plan->hold_at.load(std::memory_order_acquire) == at) {
    plan->held.store(true, std::memory_order_release);
    while (plan->hold_at.load(std::memory_order_acquire) == at) ::usleep(50);
    plan->held.store(false, std::memory_order_release);
  }
}

}  // namespace bus::sync
