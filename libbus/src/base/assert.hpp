#pragma once
/// assert: preconditions of the library's own code, stated where the header says REQUIRES.
///
///   BUS_ASSERT(condition, value...)      in every build
///   BUS_ASSERT_HOT(condition, value...)  on the path of each message: only in builds with
///                                        failpoints or sanitizers
///
/// A violated precondition is a bug of this library. The process prints the condition, the place
/// and the values, and aborts: to the rest of the bus that is a crash, which loses nothing that was
/// confirmed; to continue could. What comes from shared memory, a file, a socket or the user is
/// validated and never asserted.

#include <array>
#include <cstdint>
#include <span>

namespace bus::base {

/// Prints and aborts. `names` is the text of the values.
[[noreturn, gnu::cold]] void assertion_failed(const char* condition, const char* file, int line,
                                              const char* names,
                                              std::span<const std::uint64_t> values) noexcept;

template <class... Value>
[[noreturn, gnu::cold, gnu::noinline]] void assertion_failed(const char* condition,
                                                             const char* file, int line,
                                                             const char* names,
                                                             Value... value) noexcept {
  const std::array<std::uint64_t, sizeof...(Value)> values{static_cast<std::uint64_t>(value)...};
  assertion_failed(condition, file, line, names, std::span<const std::uint64_t>(values));
}

}  // namespace bus::base

#define BUS_ASSERT(condition, ...)                                                  \
  ((condition) ? static_cast<void>(0)                                               \
               : ::bus::base::assertion_failed(#condition, __FILE_NAME__, __LINE__, \
                                               #__VA_ARGS__ __VA_OPT__(, ) __VA_ARGS__))

#if defined(BUS_FAILPOINTS) || defined(BUS_ASSERT_ALL)
#define BUS_ASSERT_HOT(condition, ...) BUS_ASSERT(condition __VA_OPT__(, ) __VA_ARGS__)
#else
#define BUS_ASSERT_HOT(condition, ...) static_cast<void>(0)
#endif
