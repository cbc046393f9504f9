#pragma once
/// seed: the seed of a random test. It is printed; BUS_TEST_SEED repeats a run.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace test {

inline std::uint64_t seed() {
  const char* given = std::getenv("BUS_TEST_SEED");
  const std::uint64_t value =
      given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("BUS_TEST_SEED=%llu\n", static_cast<unsigned long long>(value));
  return value;
}

}  // namespace test
