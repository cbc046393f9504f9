#pragma once
/// copy: memcpy that does not leave the function for what most messages are: up to 64 bytes.

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bus::base {

namespace detail {

template <std::size_t Bytes>
struct chunk {
  std::byte bytes[Bytes];
};

// Head and tail, overlapping in the middle. REQUIRES: Bytes <= count <= 2 * Bytes
template <std::size_t Bytes>
inline void copy_ends(std::byte* to, const std::byte* from, std::size_t count) noexcept {
  chunk<Bytes> head, tail;
  std::memcpy(&head, from, Bytes);
  std::memcpy(&tail, from + count - Bytes, Bytes);
  std::memcpy(to, &head, Bytes);
  std::memcpy(to + count - Bytes, &tail, Bytes);
}

}  // namespace detail

inline void copy(void* target, const void* source, std::size_t count) noexcept {
  auto* to = static_cast<std::byte*>(target);
  const auto* from = static_cast<const std::byte*>(source);
  if (count > 64) {
    std::memcpy(to, from, count);
  } else if (count >= 32) {
    detail::copy_ends<16>(to, from, 32);
    detail::copy_ends<16>(to + count - 32, from + count - 32, 32);
  } else if (count >= 16) {
    detail::copy_ends<16>(to, from, count);
  } else if (count >= 8) {
    detail::copy_ends<8>(to, from, count);
  } else {
    for (std::size_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

}  // namespace bus::base
