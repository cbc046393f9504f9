#pragma once
/// access: the operations with which the lane and group code touches shared memory.
///
/// `hardware` is the product's. tests/model has another class: a model of weak memory that runs the
/// same lane code under random schedules, kills it at every step, and can weaken one edge at a
/// time. An `edge` names a pair of operations that orders something; docs/memory_model.md explains
/// what breaks without it.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/copy.hpp"
#include "base/word.hpp"
#include "sync/failpoint.hpp"

#if defined(__SANITIZE_THREAD__)
#define BUS_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BUS_THREAD_SANITIZER 1
#endif
#endif

namespace bus::sync {

using base::word;

enum class edge : std::uint8_t {
  none,       // ordered by the lock, or needs no order: the comment at the use says which
  commit,     // R1  record -> commit word -> reader
  reserve,    // R2  reserved_end -> bytes that are overwritten
  waypoint,   // P1  seqlock of a waypoint
  gate,       // G1  pin of a new reader against the publisher's scan
  cursor,     // G2  a reader's last load of a record -> the publisher's overwriting it
  armed,      // W1  armed word against commit
  waiting,    // W2  released space against a waiting publisher
  lock,       // L1  lane lock
  progress,   // O1  payload so far -> progress word -> early reader
  intern,     // T1  subject entry -> used_bytes
  attention,  // A1  may_sleep, a hint
  announce,   // N1  entry in the readers table
};

struct hardware {
  static std::uint64_t load(const word& w, std::memory_order order, edge) noexcept {
    return w.load(order);
  }
  static void store(word& w, std::uint64_t value, std::memory_order order, edge) noexcept {
    w.store(value, order);
  }
  static std::uint64_t exchange(word& w, std::uint64_t value, std::memory_order order,
                                edge) noexcept {
    return w.exchange(value, order);
  }
  static bool compare_exchange(word& w, std::uint64_t& expected, std::uint64_t value,
                               std::memory_order order, edge) noexcept {
    return w.compare_exchange_strong(expected, value, order, std::memory_order_relaxed);
  }
  static std::uint64_t add(word& w, std::uint64_t value, std::memory_order order, edge) noexcept {
    return w.fetch_add(value, order);
  }

#if defined(BUS_THREAD_SANITIZER)
  // ThreadSanitizer does not see fences. So copies are made of acquiring and releasing words, which
  // carry the same order, and the fence is for the processor only.
  static void fence(std::memory_order order, edge) noexcept {
#if defined(__x86_64__)
    if (order == std::memory_order_seq_cst) asm volatile("mfence" ::: "memory");
#else
    asm volatile("dmb ish" ::: "memory");
    (void)order;
#endif
  }
  static void copy_in(std::byte* to, const void* from, std::size_t bytes) noexcept {
    const auto* source = static_cast<const std::byte*>(from);
    for (std::size_t done = 0; done < bytes; done += 8) {
      std::uint64_t value = 0;
      std::memcpy(&value, source + done, bytes - done < 8 ? bytes - done : 8);
      reinterpret_cast<word*>(to + done)->store(value, std::memory_order_release);
    }
  }
  static void copy_short_in(std::byte* to, const void* from, std::size_t bytes) noexcept {
    copy_in(to, from, bytes);
  }
  static void copy_out(void* to, const std::byte* from, std::size_t bytes) noexcept {
    auto* target = static_cast<std::byte*>(to);
    for (std::size_t done = 0; done < bytes; done += 8) {
      const std::uint64_t value =
          reinterpret_cast<const word*>(from + done)->load(std::memory_order_acquire);
      std::memcpy(target + done, &value, bytes - done < 8 ? bytes - done : 8);
    }
  }
#else
  static void fence(std::memory_order order, edge) noexcept { std::atomic_thread_fence(order); }
  // Bytes that may be overwritten while they are copied: the copy is used only after the check that
  // follows (R2).
  static void copy_in(std::byte* to, const void* from, std::size_t bytes) noexcept {
    base::copy(to, from, bytes);
  }
  /// REQUIRES: bytes <= base::short_copy_max_bytes
  [[gnu::always_inline]] static void copy_short_in(std::byte* to, const void* from,
                                                   std::size_t bytes) noexcept {
    base::copy_short(to, from, bytes);
  }
  static void copy_out(void* to, const std::byte* from, std::size_t bytes) noexcept {
    std::memcpy(to, from, bytes);
  }
#endif

  // always_inline: GCC considers a function that only prefetches to have no effect, and drops the
  // call.
  [[gnu::always_inline]] static void prefetch(const std::byte* at) noexcept {
    __builtin_prefetch(at);
  }

  static void step(failpoint at) noexcept { reach(at); }
};

}  // namespace bus::sync
