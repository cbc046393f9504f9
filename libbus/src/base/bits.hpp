#pragma once
/// bits: rounding to powers of two.

#include <bit>
#include <cstdint>

namespace bus::base {

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t power_of_two) noexcept {
  return (value + power_of_two - 1) & ~(power_of_two - 1);
}

constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t power_of_two) noexcept {
  return value & ~(power_of_two - 1);
}

constexpr bool is_power_of_two(std::uint64_t value) noexcept { return std::has_single_bit(value); }

}  // namespace bus::base
