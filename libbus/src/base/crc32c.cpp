#include "base/crc32c.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#endif

namespace bus::base {

namespace {

constexpr std::uint32_t polynomial = 0x82f63b78u;  // reflected

constexpr std::array<std::uint32_t, 256> make_table() noexcept {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? polynomial : 0);
    table[i] = value;
  }
  return table;
}
constexpr auto table = make_table();

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::uint32_t seed, const void* data,
                                                               std::size_t bytes) noexcept {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint64_t sum = ~seed;
  for (; bytes >= 8; at += 8, bytes -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    sum = _mm_crc32_u64(sum, word);
  }
  auto rest = static_cast<std::uint32_t>(sum);
  for (; bytes != 0; ++at, --bytes) rest = _mm_crc32_u8(rest, *at);
  return ~rest;
}
bool has_instruction() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
std::uint32_t by_instruction(std::uint32_t seed, const void* data, std::size_t bytes) noexcept {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint32_t sum = ~seed;
  for (; bytes >= 8; at += 8, bytes -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    sum = __crc32cd(sum, word);
  }
  for (; bytes != 0; ++at, --bytes) sum = __crc32cb(sum, *at);
  return ~sum;
}
constexpr bool has_instruction() noexcept { return true; }
#else
std::uint32_t by_instruction(std::uint32_t seed, const void* data, std::size_t bytes) noexcept {
  return crc32c_by_table(seed, data, bytes);
}
constexpr bool has_instruction() noexcept { return false; }
#endif

}  // namespace

std::uint32_t crc32c_by_table(std::uint32_t seed, const void* data, std::size_t bytes) noexcept {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint32_t sum = ~seed;
  for (; bytes != 0; ++at, --bytes) sum = sum >> 8 ^ table[(sum ^ *at) & 0xffu];
  return ~sum;
}

std::uint32_t crc32c(std::uint32_t seed, const void* data, std::size_t bytes) noexcept {
  static const bool fast = has_instruction();
  return fast ? by_instruction(seed, data, bytes) : crc32c_by_table(seed, data, bytes);
}

}  // namespace bus::base
