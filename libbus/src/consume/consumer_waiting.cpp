/// consumer_core, waiting: spins, then sleeps, until there may be something to claim.

#include <algorithm>
#include <climits>

#include "base/cycles.hpp"
#include "consume/consumer_core.hpp"
#include "os/futex.hpp"
#include "subscribe/sleeper.hpp"

namespace bus {

using group::nothing_because;
using namespace std::chrono_literals;

namespace {

using clock = std::chrono::steady_clock;

constexpr int looks_at_lanes = 16;  // of the lanes per check of everything else
constexpr auto adaptive_spin = 20us;
constexpr auto lately_active = 2s;
constexpr auto lately_active_bound = 8ms;  // a publisher was killed between commit and wake-up
constexpr auto idle_bound = 50ms;
constexpr auto waited_for_bound = 1ms;

}  // namespace

bool consumer_core::may_claim_now() noexcept {
  const auto& header = group_->header();
  if (!group_->is_current() || sync::load_relaxed(header.bell) != bell_seen_) return true;
  switch (why_) {
    case nothing_because::empty:
      for (int looks = options.wait == wait_strategy::busy_spin ? looks_at_lanes : 1; looks != 0;
           --looks) {
        for (const auto& [word, open] : watched_) {
          // relaxed: only a reason to check; the claim acquires what it reads
          const std::uint64_t commit = sync::load_relaxed(*word);
          // An open record does not count: its publisher may be stopped.
          if (commit == 0 || commit == open) continue;
          // The rest of the record is in the publisher's cache, too: fetch it meanwhile.
          sync::hardware::prefetch(reinterpret_cast<const std::byte*>(word) + 64);
          return true;
        }
      }
      return config().order != group_order::none && group_->core().may_collect(member_);
    case nothing_because::window:
    case nothing_because::slots: return group_->core().may_collect(member_);
    case nothing_because::unknown:
    case nothing_because::more:
    case nothing_because::rescanning: return true;
    default: return false;
  }
}

// False: the deadline passed, or stop() was called. `seen_ticks`: the time if it was just read,
// else 0.
bool consumer_core::wait(clock::time_point deadline, std::uint64_t& seen_ticks) noexcept {
  seen_ticks = 0;
  const auto spin_end = options.wait == wait_strategy::adaptive ? clock::now() + adaptive_spin
                                                                : clock::time_point::min();
  const bool spins =
      options.wait == wait_strategy::busy_spin || options.wait == wait_strategy::spin_pause;
  std::uint64_t ticks = group_->now();
  for (std::uint32_t looks = 1;; ++looks) {
    if (may_claim_now()) {
      seen_ticks = ticks;
      return true;
    }
    if (looks % 16 != 0 && options.wait == wait_strategy::busy_spin) continue;
    if (options.wait != wait_strategy::busy_spin)
      for (int i = 0; i < 8; ++i) base::relax();
    if (stopped()) return false;
    const auto now = clock::now();
    if (now >= deadline) return false;
    ticks = group_->now();
    if (ticks >= next_event_) return true;
    // A consumer that spins is not woken: once in a while a claim checks for dead processes and for
    // messages that became ready.
    if (ticks >= next_deaths_look_) return true;
    if (spins || now < spin_end) continue;
    sleep(deadline);
    return !stopped() && clock::now() < deadline;
  }
}

bool consumer_core::has_waiting_publisher() const noexcept {
  for (std::uint32_t lane = 0; lane < group_->lanes().size(); ++lane)
    if (has_waiting_publisher(lane)) return true;
  return false;
}

// Announces that it sleeps, checks once more, and sleeps: on its lanes, the bell, the generation of
// the bus and the life words of the other members' processes.
void consumer_core::sleep(clock::time_point deadline) noexcept {
  auto& header = group_->header();
  const bool for_messages = why_ == nothing_because::empty;
  const bool for_settles = !for_messages || config().order != group_order::none;
  const std::uint64_t bell = sync::load_acquire(header.bell);
  sync::add_relaxed(header.sleepers, 1);
  if (for_settles) sync::add_relaxed(header.settle_sleepers, 1);
  armed_.clear();
  if (for_messages) {
    for (const auto& lane : group_->lanes()) {
      auto& readers = lane->lane->readers();
      // [A1] relaxed: see the bounds above.
      if (sync::load_relaxed(readers.may_sleep) == 0) sync::store_relaxed(readers.may_sleep, 1);
      // [W1] armed before the last check; pairs with the publisher's exchange after its commit.
      armed_.push_back(
          static_cast<std::uint32_t>(sync::set_bits_both(readers.armed, layout::armed_futex)));
    }
  }
  sync::full_fence();  // pairs with the fence in ring_bell
  if (!may_claim_now() && !stopped() && bell == bell_seen_) {
    std::vector<os::futex_expectation> words;
    words.push_back({os::futex_half(header.bell), static_cast<std::uint32_t>(bell)});
    const auto& generation = session->directory->control().generation;
    words.push_back(
        {os::futex_half(generation), static_cast<std::uint32_t>(session->directory->generation())});
    for (std::size_t i = 0; i < armed_.size() && words.size() < os::futex_wait_any_max; ++i)
      words.push_back({os::futex_half(group_->lanes()[i]->lane->readers().armed), armed_[i]});
    const auto& m = group_->memory();
    const auto used = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(sync::load_acquire(header.members_used), m.member_count));
    for (std::uint32_t i = 0; i < used && words.size() < os::futex_wait_any_max; ++i) {
      const auto process = static_cast<std::uint32_t>(sync::load_acquire(m.members[i].who) >> 32);
      if (process == 0 || process == session->me->id()) continue;
      if (const auto* life = session->peers->life_of(process))
        words.push_back({&life->word, sync::life_value(*life)});
    }
    const std::uint64_t ticks = group_->now();
    std::chrono::nanoseconds nap = group_->time(ticks - last_activity_) < lately_active
                                       ? std::chrono::nanoseconds(lately_active_bound)
                                       : std::chrono::nanoseconds(idle_bound);
    nap = std::min<std::chrono::nanoseconds>(nap, deadline - clock::now());
    if (next_event_ != ~0ull)
      nap = std::min(nap, next_event_ > ticks ? group_->time(next_event_ - ticks) : 0ns);
    // The pin that holds the publisher back may still have to move.
    if (has_waiting_publisher()) nap = std::min<std::chrono::nanoseconds>(nap, waited_for_bound);
    if (nap.count() > 0) os::futex_wait_any(words, nap);
    for (std::size_t i = 0; i < armed_.size(); ++i)
      subscribe::hand_on_wake_up(group_->lanes()[i]->lane->readers(), armed_[i]);
    next_deaths_look_ = 0;  // a death may have ended the sleep
  }
  if (for_settles) sync::add_relaxed(header.settle_sleepers, ~std::uint64_t{0});
  sync::add_relaxed(header.sleepers, ~std::uint64_t{0});
}

void consumer_core::stop() noexcept {
  stopped_.store(true);
  // Async-signal-safe: an atomic operation and a system call.
  sync::add_release(group_->header().bell, 1);
  os::futex_wake(os::futex_half(group_->header().bell), INT_MAX);
}

}  // namespace bus
