#include "sync/owner_lock.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/cycles.hpp"

namespace bus::sync {

namespace {

constexpr int spin_rounds = 16;  // some microseconds, longer than a critical section

}  // namespace

lock_result wait_lock(word& lock, std::uint64_t self,
                      std::chrono::steady_clock::time_point deadline, peers& others,
                      std::uint32_t& holder) noexcept {
  using enum std::memory_order;
  // Backing off lets the owner use the line for several messages instead of losing it after each.
  for (int round = 0, pauses = 4; round < spin_rounds; ++round) {
    // relaxed: only a reason to try
    if (lock.load(relaxed) == 0 && try_lock<hardware>(lock, self)) return lock_result::taken;
    for (int i = 0; i < pauses; ++i) base::relax();
    pauses = std::min(pauses * 2, 64);
  }
  std::uint64_t disowned = 0;
  std::chrono::steady_clock::time_point disowned_since{};
  for (;;) {
    std::uint64_t seen = lock.load(relaxed);  // relaxed: each action on it is a compare-and-swap
    if (seen == 0) {
      // Contended from now on: others may sleep, and only the bit gets them woken.
      // [L1] acquire: pairs with the release in unlock_word.
      if (lock.compare_exchange_strong(seen, self | lock_contended, acquire, relaxed))
        return lock_result::taken;
      continue;
    }
    holder = static_cast<std::uint32_t>(seen & lock_owner_mask);
    // null: it left, or cannot be checked now
    const layout::life_cell* life = others.life_of(holder);
    const bool gone = life == nullptr || read_life(*life) != life_state::alive;
    if (gone && others.proven_dead(holder)) {
      if (take_over<hardware>(lock, seen, self)) {
        hardware::step(failpoint::lock_taken_over);
        return lock_result::taken_over;
      }
      continue;
    }
    const auto now = std::chrono::steady_clock::now();
    // Invariant 5
    if (!gone && !others.uses_key(holder, lock_key_of(seen))) {
      const std::uint64_t unmoved = seen & ~lock_contended;
      if (std::exchange(disowned, unmoved) != unmoved) disowned_since = now;
      if (now - disowned_since >= disowned_after && take_over<hardware>(lock, seen, self)) {
        hardware::step(failpoint::lock_taken_over);
        return lock_result::taken_over;
      }
    }
    if (now >= deadline) return lock_result::busy;
    if (gone) {  // dying: its threads are about to exit
      os::futex_wait(os::futex_half(lock), static_cast<std::uint32_t>(seen),
                     std::chrono::microseconds(50));
      continue;
    }
    if ((seen & lock_contended) == 0 &&
        !lock.compare_exchange_strong(seen, seen | lock_contended, relaxed, relaxed))
      continue;
    hardware::step(failpoint::lock_waiting);
    const std::array<os::futex_expectation, 2> words{{
        {os::futex_half(lock), static_cast<std::uint32_t>(seen | lock_contended)},
        {&life->word, life_word(*life).load(relaxed)},
    }};
    os::futex_wait_any(words, std::min<std::chrono::nanoseconds>(deadline - now, longest_sleep));
  }
}

}  // namespace bus::sync
