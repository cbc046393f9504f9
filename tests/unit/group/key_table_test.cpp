#include "group/key_table.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace bus::group {
namespace {

struct table {
  explicit table(std::uint32_t capacity) : keys(capacity) {
    memory.header = &header;
    memory.keys = keys.data();
    memory.key_capacity = capacity;
  }
  layout::group_header header{};
  std::vector<layout::group_key> keys;
  group_memory memory;
  key_table busy{memory};
};

// Against a map, with so few places that most keys stand behind others, and over the end of the table.
TEST(KeyTable, FindsWhatIsThereAndNothingElse) {
  std::mt19937_64 random(5);
  for (const std::uint32_t capacity : {2u, 4u, 16u, 64u, 1024u}) {
    table made(capacity);
    std::map<std::uint64_t, std::uint32_t> wanted;
    for (std::uint32_t step = 1; step < 20'000; ++step) {
      const std::uint64_t key = 1 + random() % (2 * capacity);
      auto* found = made.busy.find(key);
      const auto known = wanted.find(key);
      ASSERT_EQ(found != nullptr, known != wanted.end()) << "key " << key << " of " << wanted.size();
      if (found != nullptr) {
        ASSERT_EQ(found->key, key);
        ASSERT_EQ(found->holder, known->second);
        ASSERT_EQ(found->parked, 0u);
        made.busy.remove(found);
        wanted.erase(known);
      } else if (wanted.size() + 1 < capacity) {
        found = made.busy.add(key);
        ASSERT_NE(found, nullptr);
        ASSERT_EQ(found->holder + found->parked + found->skip + found->looked_at_again, 0u);
        found->holder = wanted[key] = step;
      }
      ASSERT_EQ(made.header.lists.key_count, wanted.size());
      ASSERT_FALSE(made.memory.broken);
    }
    while (!wanted.empty()) {
      made.busy.remove(made.busy.find(wanted.begin()->first));
      wanted.erase(wanted.begin());
    }
    // Or a search would go on and on, one day.
    for (const auto& place : made.keys) ASSERT_EQ(place.passed_by, 0u);
    EXPECT_FALSE(made.memory.broken);
  }
}

TEST(KeyTable, AFullOneAndAnImpossibleOneAreTold) {
  table made(4);
  for (const std::uint64_t key : {7, 8, 9}) ASSERT_NE(made.busy.add(key), nullptr);
  EXPECT_EQ(made.busy.add(10), nullptr);
  EXPECT_TRUE(made.memory.broken);
  made.memory.broken = false;
  std::uint32_t behind = 0;
  for (auto& place : made.keys) {
    behind += place.passed_by;
    place.passed_by = 0;
  }
  ASSERT_GT(behind, 0u);  // three keys have two homes
  for (auto& place : made.keys)
    if (place.key != 0) made.busy.remove(&place);
  EXPECT_TRUE(made.memory.broken);
}

}  // namespace
}  // namespace bus::group
