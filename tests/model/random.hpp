#pragma once
/// random: a small seeded generator (splitmix64), the same everywhere.

#include <cstdint>
#include <initializer_list>

namespace model {

constexpr std::uint64_t mix(std::uint64_t value) noexcept {
  value += 0x9e3779b97f4a7c15ull;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

class random {
 public:
  explicit random(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept { return mix(state_++ * 0x9e3779b97f4a7c15ull); }
  std::uint32_t below(std::uint64_t limit) noexcept {
    return static_cast<std::uint32_t>(((next() >> 32) * limit) >> 32);
  }
  std::uint32_t between(std::uint32_t low, std::uint32_t high) noexcept {
    return low + below(high - low + 1);
  }
  bool percent(std::uint32_t share) noexcept { return share != 0 && below(100) < share; }
  std::uint32_t pick(std::initializer_list<std::uint32_t> from) noexcept {
    return from.begin()[below(from.size())];
  }

 private:
  std::uint64_t state_;
};

}  // namespace model
