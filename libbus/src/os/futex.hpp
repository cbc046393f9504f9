#pragma once
/// futex: sleeps on a word of shared memory, and wakes its sleepers. Every sleep is bounded.

#include <bit>
#include <chrono>
#include <cstdint>
#include <span>

#include "base/word.hpp"

namespace bus::os {

/// The half of a 64-bit word that the kernel compares.
inline const std::uint32_t* futex_half(const base::word& w) noexcept {
  static_assert(std::endian::native == std::endian::little);
  return reinterpret_cast<const std::uint32_t*>(&w);
}

/// Sleeps while *at == expected, for at most `timeout`. Returns on a wake-up, a change, a signal
/// or the timeout; the caller checks again.
void futex_wait(const std::uint32_t* at, std::uint32_t expected,
                std::chrono::nanoseconds timeout) noexcept;
/// A system call; 240 ns when no thread sleeps.
int futex_wake(const std::uint32_t* at, int count) noexcept;

struct futex_expectation {
  const std::uint32_t* at;
  std::uint32_t expected;
};
inline constexpr std::size_t futex_wait_any_max = 127;
/// Sleeps on several words at once; where the kernel lacks futex_waitv, on the first, for at most
/// 1 ms.
void futex_wait_any(std::span<const futex_expectation> words,
                    std::chrono::nanoseconds timeout) noexcept;

}  // namespace bus::os
