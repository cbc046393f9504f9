#pragma once
/// hash: 64-bit hash of short byte strings (subjects, names). Not resistant to hostile keys: tables
/// that use it are bounded.

#include <cstdint>
#include <cstring>
#include <string_view>

namespace bus::base {

constexpr std::uint64_t mix(std::uint64_t x) noexcept {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  return x;
}

inline std::uint64_t hash_bytes(std::string_view text) noexcept {
  // The length spreads over all bits: otherwise the last bytes could cancel what distinguishes
  // strings such as "2" and "12".
  std::uint64_t h = 0x9e3779b97f4a7c15u + text.size() * 0xff51afd7ed558ccdu;
  const char* p = text.data();
  std::size_t n = text.size();
  for (; n >= 8; p += 8, n -= 8) {
    std::uint64_t chunk;
    std::memcpy(&chunk, p, 8);
    h = (h ^ chunk) * 0x9fb21c651e98df25u;
    h ^= h >> 29;
  }
  // Reads the rest as two overlapping halves, or by bytes: a copy of unknown length would loop.
  std::uint64_t last = 0;
  if (n >= 4) {
    std::uint32_t head, tail;
    std::memcpy(&head, p, 4);
    std::memcpy(&tail, p + n - 4, 4);
    last = head | std::uint64_t{tail} << 32;
  } else if (n != 0) {
    const auto byte = [p](std::size_t i) {
      return std::uint64_t{static_cast<unsigned char>(p[i])};
    };
    last = byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16;
  }
  return mix(h ^ last);
}

}  // namespace bus::base
