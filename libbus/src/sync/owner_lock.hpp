#pragma once
/// owner_lock: a lock in shared memory that survives its owner. A word: 0, or the owner's process
/// id, bit 31 set when a process waits, and in its upper half the key that the owner's file names.
/// Process ids are never used twice on a bus, so a word can never mean another owner.
///
/// Invariants
///   1  The word changes from an id to another id only after the first process was proven dead
///      (peers::proven_dead), so that its last store is in the past.
///   2  A process that takes it over that way gets `taken_over`, and must repair what the lock
///      guards before using it.
///   3  Nothing waits for anything else while holding it (RING-5, ring/lane_writer.hpp).
///   4  A process that sleeps on it checks again after longest_sleep: the bit that it set is lost
///      when it was set at the very moment of an unlock. So an unlock without waiters is a store,
///      not an exchange, which would cost every message.
///   5  A word whose key is not that of the process it names was written by something else. It is
///      taken over when it has not changed for disowned_after.
/// A stopped owner is alive: waiters get `busy` at their deadline.

#include <chrono>
#include <cstdint>

#include "os/futex.hpp"
#include "sync/access.hpp"
#include "sync/peers.hpp"

namespace bus::sync {

inline constexpr std::chrono::milliseconds longest_sleep{1};
inline constexpr std::chrono::milliseconds disowned_after{10};
inline constexpr std::uint64_t lock_contended = 1ull << 31;
inline constexpr std::uint64_t lock_owner_mask = lock_contended - 1;
/// The value that a process stores in a lock that it takes.
constexpr std::uint64_t lock_word_of(std::uint32_t process, std::uint32_t key) noexcept {
  return process | std::uint64_t{key} << 32;
}
constexpr std::uint32_t lock_key_of(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value >> 32);
}

template <class A>
bool try_lock(word& lock, std::uint64_t self) noexcept {
  std::uint64_t expected = 0;
  // [L1] acquire: pairs with the release in unlock.
  return A::compare_exchange(lock, expected, self, std::memory_order_acquire, edge::lock);
}

/// True: a process waits and must be woken.
template <class A>
bool unlock_word(word& lock) noexcept {
  // relaxed: invariant 4
  if ((A::load(lock, std::memory_order_relaxed, edge::none) & lock_contended) == 0) {
    // [L1] release: everything done under the lock; pairs with the acquire of the next owner.
    A::store(lock, 0, std::memory_order_release, edge::lock);
    return false;
  }
  return (A::exchange(lock, 0, std::memory_order_release, edge::lock) & lock_contended) != 0;
}

/// REQUIRES: the owner in `seen` is proven dead. False: another process was faster.
template <class A>
bool take_over(word& lock, std::uint64_t seen, std::uint64_t self) noexcept {
  // [L1] acquire: the dead owner's stores are in the past by the proof; the previous owner's are
  // ordered by its release.
  return A::compare_exchange(lock, seen, self | lock_contended, std::memory_order_acquire,
                             edge::lock);
}

enum class lock_result : std::uint8_t {
  taken,
  taken_over,  // from a dead owner, or from none: repair
  busy,        // deadline reached; `holder` is alive, perhaps stopped
};

/// Slow path of a lock: spins, then sleeps on the word and on the owner's life.
lock_result wait_lock(word& lock, std::uint64_t self,
                      std::chrono::steady_clock::time_point deadline, peers& others,
                      std::uint32_t& holder) noexcept;

inline void unlock(word& lock) noexcept {
  if (unlock_word<hardware>(lock)) os::futex_wake(os::futex_half(lock), 1);
}

}  // namespace bus::sync
