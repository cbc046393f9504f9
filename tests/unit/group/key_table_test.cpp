#include "group/key_table.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace bus::group {
namespace {

struct table {
  /// `largest`: entries hold as few bits of a hash as in a table of that many keys.
  explicit table(std::uint32_t count, std::uint32_t largest = 0)
      : index(std::bit_ceil(count / 15 + 1)), keys(count) {
    memory.header = &header;
    memory.key_index = index.front().words;
    memory.keys = keys.data();
    memory.key_capacity = static_cast<std::uint32_t>(index.size()) * 16;
    memory.key_count = count;
    memory.key_number_mask = key_table::number_mask(std::max(count, largest));
  }
  struct alignas(64) line {
    base::field32 words[16] = {};
  };
  layout::group_header header{};
  std::vector<line> index;
  std::vector<layout::group_key> keys;
  group_memory memory;
  key_table busy() const { return key_table(memory); }
};

// Compared with a map, with so few slots that most keys lie after others, and past the end of the
// table.
TEST(KeyTable, FindsWhatIsThereAndNothingElse) {
  std::mt19937_64 random(5);
  // The last tables hold few bits of each hash: other keys match them and must be told apart by
  // comparison.
  for (const auto& [capacity, largest] : {std::pair{1u, 0u},
                                          {4u, 0u},
                                          {15u, 0u},
                                          {59u, 0u},
                                          {1000u, 0u},
                                          {1000u, layout::group_slots_max},
                                          {1000u, (1u << 31) - 2}}) {
    table made(capacity, largest);
    std::map<std::uint64_t, std::uint32_t> wanted;
    for (std::uint32_t step = 1; step < 20'000; ++step) {
      const std::uint64_t key = 1 + random() % (2 * capacity);
      auto* found = made.busy().find(key);
      const auto known = wanted.find(key);
      ASSERT_EQ(found != nullptr, known != wanted.end())
          << "key " << key << " of " << wanted.size();
      if (found != nullptr) {
        ASSERT_EQ(found->key, key);
        ASSERT_EQ(found->holder, known->second);
        ASSERT_EQ(found->parked, 0u);
        made.busy().remove(found);
        wanted.erase(known);
      } else if (wanted.size() < capacity) {
        found = made.busy().add(key);
        ASSERT_NE(found, nullptr);
        ASSERT_EQ(found->holder + found->parked + found->skip, 0u);
        ASSERT_FALSE(found->is_looked_at_again());
        found->holder = wanted[key] = step;
      }
      ASSERT_EQ(made.header.lists.key_count, wanted.size());
      ASSERT_FALSE(made.memory.broken);
    }
    while (!wanted.empty()) {
      made.busy().remove(made.busy().find(wanted.begin()->first));
      wanted.erase(wanted.begin());
    }
    // Otherwise searches would get longer and longer.
    for (const auto& line : made.index)
      for (const std::uint32_t word : line.words) ASSERT_EQ(word, 0u);
    EXPECT_FALSE(made.memory.broken);
  }
}

TEST(KeyTable, AnEntryStaysWhereItIsWhileOthersComeAndGo) {
  table made(64);
  std::map<std::uint64_t, layout::group_key*> places;
  for (std::uint64_t key = 1; key <= 40; ++key) places[key] = made.busy().add(key);
  for (std::uint64_t key = 2; key <= 40; key += 2) made.busy().remove(made.busy().find(key));
  for (std::uint64_t key = 1; key <= 40; key += 2) EXPECT_EQ(made.busy().find(key), places[key]);
  for (std::uint64_t key = 2; key <= 40; key += 2) EXPECT_EQ(made.busy().find(key), nullptr);
}

TEST(KeyTable, AFullOneAndImpossibleOnesAreTold) {
  table made(20);
  for (std::uint64_t key = 1; key <= 20; ++key) ASSERT_NE(made.busy().add(key), nullptr);
  EXPECT_EQ(made.busy().add(21), nullptr);
  EXPECT_TRUE(std::exchange(made.memory.broken, false));
  auto* const nine = made.busy().find(9);
  // entries with an impossible key number
  for (auto& line : made.index)
    for (std::uint32_t i = 0; i < 15; ++i)
      line.words[i] = line.words[i] | made.memory.key_number_mask;
  EXPECT_EQ(made.busy().find(7), nullptr);
  EXPECT_TRUE(std::exchange(made.memory.broken, false));
  made.busy().remove(nine);  // its entry is not where it was
  EXPECT_TRUE(std::exchange(made.memory.broken, false));
  // no free slot anywhere, and no end of the search
  for (auto& line : made.index)
    for (auto& word : line.words) word = 1;
  EXPECT_EQ(made.busy().find(7), nullptr);
  made.busy().remove(nine);
  EXPECT_TRUE(std::exchange(made.memory.broken, false));
  made.header.lists.key_free = 1;
  EXPECT_EQ(made.busy().add(21), nullptr);
  EXPECT_TRUE(std::exchange(made.memory.broken, false));
  made.header.lists.key_free = 99;
  EXPECT_EQ(made.busy().add(21), nullptr);
  EXPECT_TRUE(std::exchange(made.memory.broken, false));
}

}  // namespace
}  // namespace bus::group
