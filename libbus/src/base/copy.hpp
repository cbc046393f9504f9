#pragma once
/// copy: memcpy that copies up to 512 bytes, the size of most messages, without a call.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/assert.hpp"

namespace bus::base {

namespace detail {

template <std::size_t Bytes>
struct chunk {
  std::byte bytes[Bytes];
};

#pragma GCC diagnostic push
#if !defined(__clang__)
// GCC 12 reports branches that are not taken for the sizes it sees when this is inlined.
#pragma GCC diagnostic ignored "-Warray-bounds"
#pragma GCC diagnostic ignored "-Wstringop-overread"
#endif

// Copies the head and the tail, which may overlap in the middle.
// REQUIRES: Bytes <= count <= 2 * Bytes
template <std::size_t Bytes>
inline void copy_ends(std::byte* to, const std::byte* from, std::size_t count) noexcept {
  chunk<Bytes> head, tail;
  std::memcpy(&head, from, Bytes);
  std::memcpy(&tail, from + count - Bytes, Bytes);
  std::memcpy(to, &head, Bytes);
  std::memcpy(to + count - Bytes, &tail, Bytes);
}

inline void copy_64(std::byte* to, const std::byte* from) noexcept {
  copy_ends<16>(to, from, 32);
  copy_ends<16>(to + 32, from + 32, 32);
}

}  // namespace detail

/// Up to this many bytes are copied without a call.
inline constexpr std::size_t short_copy_max_bytes = 512;

/// REQUIRES: count <= short_copy_max_bytes
[[gnu::always_inline]] inline void copy_short(void* target, const void* source,
                                              std::size_t count) noexcept {
  BUS_ASSERT_HOT(count <= short_copy_max_bytes, count);
  auto* to = static_cast<std::byte*>(target);
  const auto* from = static_cast<const std::byte*>(source);
  if (count <= 64) [[likely]] {
    if (count >= 32) {
      detail::copy_ends<16>(to, from, 32);
      detail::copy_ends<16>(to + count - 32, from + count - 32, 32);
    } else if (count >= 16) {
      detail::copy_ends<16>(to, from, count);
    } else if (count >= 8) {
      detail::copy_ends<8>(to, from, count);
    } else if (count >= 4) {
      detail::copy_ends<4>(to, from, count);
    } else if (count >= 2) {
      detail::copy_ends<2>(to, from, count);
    } else if (count != 0) {
      to[0] = from[0];
    }
    return;
  }
  const std::byte* const last = from + count - 64;
  std::byte* const last_to = to + count - 64;
#pragma GCC unroll 1
  for (; from < last; from += 64, to += 64) detail::copy_64(to, from);
  detail::copy_64(last_to, last);  // may overlap bytes already copied
}

inline void copy(void* target, const void* source, std::size_t count) noexcept {
  if (count <= short_copy_max_bytes)
    copy_short(target, source, count);
  else
    std::memcpy(target, source, count);
}

#pragma GCC diagnostic pop

}  // namespace bus::base
