#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "registry/change_journal.hpp"
#include "sync/words.hpp"

namespace bus::registry {
namespace {

using layout::change_kind;
using names = std::vector<std::string>;

class ChangeJournal : public testing::Test {
 protected:
  std::unique_ptr<layout::change_entry[]> entries =
      std::make_unique<layout::change_entry[]>(layout::change_journal_entries);
  change_journal journal{entries.get()};

  layout::change_entry& entry(std::uint64_t generation) {
    return entries[generation % layout::change_journal_entries];
  }
};

TEST_F(ChangeJournal, NamesWhatChanged) {
  journal.note(11, change_kind::changed, "b");
  journal.note(12, change_kind::none, "");
  journal.note(13, change_kind::changed, "a");
  journal.note(14, change_kind::changed, "b");
  const auto some = journal.between(10, 14);
  EXPECT_FALSE(some.may_be_any);
  EXPECT_FALSE(some.some_left);
  EXPECT_EQ(some.names, (names{"a", "b"}));
  EXPECT_TRUE(some.concerns("a"));
  EXPECT_FALSE(some.concerns("c"));
  EXPECT_EQ(journal.between(12, 13).names, names{"a"});
  EXPECT_TRUE(journal.between(14, 14).names.empty());
  journal.note(15, change_kind::removed, std::string(63, 'x'));
  EXPECT_TRUE(journal.between(14, 15).some_left);
  EXPECT_EQ(journal.between(14, 15).names, names{std::string(63, 'x')});
}

TEST_F(ChangeJournal, WhatItDoesNotKnowMayBeAny) {
  for (std::uint64_t generation = 1; generation <= 300; ++generation)
    journal.note(generation, change_kind::changed, "s");
  EXPECT_FALSE(journal.between(300 - layout::change_journal_entries, 300).may_be_any);
  EXPECT_TRUE(journal.between(299 - layout::change_journal_entries, 300).may_be_any)
      << "overwritten";
  EXPECT_TRUE(journal.between(300, 301).may_be_any) << "not written yet";
  EXPECT_TRUE(journal.between(0, 300).may_be_any) << "nothing was seen";
  EXPECT_TRUE(journal.between(301, 300).may_be_any) << "it goes back";
  EXPECT_TRUE(change_journal().between(299, 300).may_be_any) << "there is none";
}

TEST_F(ChangeJournal, WhatMakesNoSenseMayBeAny) {
  journal.note(7, change_kind::any, "");
  EXPECT_TRUE(journal.between(6, 7).may_be_any);
  journal.note(7, change_kind::changed, "../../etc");
  EXPECT_TRUE(journal.between(6, 7).may_be_any);
  journal.note(7, change_kind::changed, "");
  EXPECT_TRUE(journal.between(6, 7).may_be_any);
  journal.note(7, static_cast<change_kind>(9), "s");
  EXPECT_TRUE(journal.between(6, 7).may_be_any);
  // Any single flipped bit.
  auto* bytes = reinterpret_cast<unsigned char*>(&entry(7));
  for (std::size_t bit = 0; bit < sizeof(layout::change_entry) * 8; ++bit) {
    journal.note(7, change_kind::changed, "stream-of-orders");
    ASSERT_FALSE(journal.between(6, 7).may_be_any);
    bytes[bit / 8] ^= static_cast<unsigned char>(1u << bit % 8);
    ASSERT_TRUE(journal.between(6, 7).may_be_any) << bit;
  }
}

// Two writers of generations that share an entry, and a reader of both: the reader never takes
// one name for the other.
TEST_F(ChangeJournal, IsNeverBelievedWhenTwoWriteAtOnce) {
  std::atomic<bool> over{false};
  const auto write = [&](std::uint64_t generation, std::string_view name) {
    while (!over) journal.note(generation, change_kind::changed, name);
  };
  const std::string first(60, 'a'), second(60, 'b');
  const std::uint64_t other = 5 + layout::change_journal_entries;
  std::jthread one([&] { write(5, first); }), two([&] { write(other, second); });
  std::size_t believed = 0;
  for (int i = 0; i < 200'000; ++i) {
    const auto mine = journal.between(4, 5), theirs = journal.between(other - 1, other);
    believed += !mine.may_be_any + !theirs.may_be_any;
    if (!mine.may_be_any) {
      ASSERT_EQ(mine.names, names{first});
    }
    if (!theirs.may_be_any) {
      ASSERT_EQ(theirs.names, names{second});
    }
  }
  over = true;
  EXPECT_GT(believed, 0u);
}

}  // namespace
}  // namespace bus::registry
