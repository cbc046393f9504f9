#pragma once
/// words: the few operations on shared words that rooms outside sync/ and ring/ need, with their
/// order in the name.

#include <cstdint>

#include "base/shared_field.hpp"
#include "base/word.hpp"
#include "sync/access.hpp"

namespace bus::sync {

/// No order needed: statistics, hints, or words that the caller orders by other means.
inline std::uint64_t load_relaxed(const base::word& w) noexcept {
  return w.load(std::memory_order_relaxed);
}
inline void store_relaxed(base::word& w, std::uint64_t value) noexcept {
  w.store(value, std::memory_order_relaxed);
}
inline std::uint64_t load_acquire(const base::word& w) noexcept {
  return w.load(std::memory_order_acquire);
}
inline void store_release(base::word& w, std::uint64_t value) noexcept {
  w.store(value, std::memory_order_release);
}

/// For a statistic that several processes add to.
inline std::uint64_t add_relaxed(base::word& w, std::uint64_t value) noexcept {
  return w.fetch_add(value, std::memory_order_relaxed);
}
/// For a rising number that also publishes what was done before: generation, ids.
inline std::uint64_t add_release(base::word& w, std::uint64_t value) noexcept {
  return w.fetch_add(value, std::memory_order_acq_rel);
}
/// Takes the bits that were set and leaves `value`; ordered both ways [W1].
inline std::uint64_t exchange_both(base::word& w, std::uint64_t value) noexcept {
  return w.exchange(value, std::memory_order_acq_rel);
}
inline std::uint64_t set_bits_both(base::word& w, std::uint64_t bits) noexcept {
  return w.fetch_or(bits, std::memory_order_acq_rel) | bits;
}
inline std::uint64_t keep_bits_both(base::word& w, std::uint64_t bits) noexcept {
  return w.fetch_and(bits, std::memory_order_acq_rel);
}
inline bool replace(base::word& w, std::uint64_t expected, std::uint64_t value) noexcept {
  return w.compare_exchange_strong(expected, value, std::memory_order_acq_rel,
                                   std::memory_order_relaxed);
}
/// Stores `value` if the word is 0. Returns the word's value afterwards.
inline std::uint64_t set_once(base::word& w, std::uint64_t value) noexcept {
  std::uint64_t expected = 0;
  return w.compare_exchange_strong(expected, value, std::memory_order_acq_rel,
                                   std::memory_order_acquire)
             ? value
             : expected;
}
/// For a counter with one writer, which others may read.
inline void bump(base::word& w, std::uint64_t by) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  // One instruction, not locked. Compilers make three of a load and a store.
  asm("addq %1, %0" : "+m"(reinterpret_cast<std::uint64_t&>(w)) : "er"(by));
#else
  w.store(w.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
#endif
}
/// The same, and publishes what was done before.
inline void bump_release(base::word& w) noexcept {
  w.store(w.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}
/// For a plain number that its owner raises now and then.
inline std::uint32_t load_acquire32(const std::uint32_t& number) noexcept {
  return std::atomic_ref(const_cast<std::uint32_t&>(number)).load(std::memory_order_acquire);
}
inline void store_release32(std::uint32_t& number, std::uint32_t value) noexcept {
  std::atomic_ref(number).store(value, std::memory_order_release);
}
/// [W2] [G1] A store before it and a load after it are not swapped.
inline void full_fence() noexcept { hardware::fence(std::memory_order_seq_cst, edge::waiting); }

/// [Q3] The same, after one of the read-modify-write operations above. It costs nothing where that
/// is already a full fence.
inline void full_fence_after_swap() noexcept {
#if defined(__x86_64__)
  std::atomic_signal_fence(std::memory_order_seq_cst);
#else
  full_fence();
#endif
}

/// For a plain number under a lock whose holder may die: what was stored before it is seen with it.
inline void store_release(base::field64& to, std::uint64_t value) noexcept {
  std::atomic_ref<unsigned long>(to.raw()).store(value, std::memory_order_release);
}

/// [Q5] True when the word still had this value after everything that was read before this call.
inline bool is_unchanged(const base::word& w, std::uint64_t value) noexcept {
  hardware::fence(std::memory_order_acquire, edge::none);
  return w.load(std::memory_order_relaxed) == value;
}

/// [R2] True when bytes at `position` may have been overwritten before they were read.
template <class A>
bool overwritten(const base::word& reserved_end, std::uint64_t position,
                 std::uint64_t capacity_bytes) noexcept {
  A::fence(std::memory_order_acquire, edge::reserve);
  return A::load(reserved_end, std::memory_order_relaxed, edge::reserve) >
         position + capacity_bytes;
}

}  // namespace bus::sync
