#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/bits.hpp"
#include "base/hash.hpp"

namespace bus::base {
namespace {

TEST(Bits, RoundToPowersOfTwo) {
  EXPECT_EQ(round_up(0, 64), 0u);
  EXPECT_EQ(round_up(1, 64), 64u);
  EXPECT_EQ(round_up(64, 64), 64u);
  EXPECT_EQ(round_up(65, 64), 128u);
  EXPECT_EQ(round_down(63, 64), 0u);
  EXPECT_EQ(round_down(127, 64), 64u);
  EXPECT_EQ(round_down(128, 64), 128u);
}

TEST(Bits, KnowPowersOfTwo) {
  EXPECT_FALSE(is_power_of_two(0));
  EXPECT_TRUE(is_power_of_two(1));
  EXPECT_TRUE(is_power_of_two(1ull << 36));
  EXPECT_FALSE(is_power_of_two((1ull << 36) + 1));
}

TEST(Hash, DependsOnEveryByteAndOnTheLength) {
  std::set<std::uint64_t> seen;
  std::string text(40, 'a');
  seen.insert(hash_bytes(text));
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string other = text;
    other[i] = 'b';
    EXPECT_TRUE(seen.insert(hash_bytes(other)).second) << "byte " << i << " does not count";
  }
  for (std::size_t length = 0; length < text.size(); ++length)
    EXPECT_TRUE(seen.insert(hash_bytes(std::string_view(text).substr(0, length))).second)
        << "length " << length;
}

TEST(Hash, SpreadsCountedSubjectsOverTheLowBits) {
  std::set<std::uint64_t> buckets;
  for (int i = 0; i < 256; ++i) buckets.insert(hash_bytes("orders." + std::to_string(i)) & 0xff);
  EXPECT_GT(buckets.size(), 120u);  // a random function is expected to fill 162
}

}  // namespace
}  // namespace bus::base
