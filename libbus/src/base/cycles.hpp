#pragma once
/// cycles: the processor's cycle counter, and the pause of a spinning thread.

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace bus::base {

/// Pauses a spinning thread between two checks.
inline void relax() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

/// Raw counter. Only meaningful where os::best_clock_kind() returns clock_cycles.
inline std::uint64_t cycle_counter() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  std::uint64_t ticks;
  asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#endif
}

}  // namespace bus::base
