#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/hash.hpp"
#include "os/files.hpp"
#include "scratch.hpp"
#include "subject/subject_table.hpp"
#include "sync/words.hpp"

namespace bus::subject {
namespace {

// All other processes of this bus are dead, unless `all_alive`.
struct lonely : sync::peers {
  layout::life_cell cell{};
  bool all_alive = false;
  const layout::life_cell* life_of(std::uint32_t) noexcept override {
    return all_alive ? &cell : nullptr;
  }
  bool proven_dead(std::uint32_t) noexcept override { return !all_alive; }
  std::string describe(std::uint32_t id) override { return "process " + std::to_string(id); }
};

class SubjectTable : public testing::Test {
 protected:
  static constexpr std::uint32_t me = 3;

  void make(std::uint32_t limit_entries) {
    auto file = subject_table::create(scratch.root(), limit_entries, 1, 2, 0600);
    ASSERT_TRUE(file) << file.error().message();
    ASSERT_TRUE(os::give_name(file->get(), path()));
  }
  std::string path() const { return scratch.root() + "/subjects"; }
  subject_table open(bool writable = true) {
    auto made = subject_table::open(path(), writable);
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
  }
  errc error_of_open() {
    auto made = subject_table::open(path(), true);
    return made ? errc::ok : made.error().code;
  }
  std::optional<interned> intern(subject_table& table, std::string_view text) {
    auto done = table.intern(text, base::hash_bytes(text), me, peers);
    EXPECT_TRUE(done) << done.error().message();
    return *done;
  }
  template <class T>
  void scribble(std::uint64_t offset, const T& value) {
    const int file = ::open(path().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(::pwrite(file, &value, sizeof value, static_cast<off_t>(offset)),
              static_cast<ssize_t>(sizeof value));
    ::close(file);
  }

  test::scratch scratch;
  lonely peers;
};

TEST_F(SubjectTable, NumbersSubjectsInTheOrderTheyCome) {
  make(100);
  subject_table table = open();
  EXPECT_EQ(intern(table, "a")->id, 0u);
  EXPECT_EQ(intern(table, "b.c")->id, 1u);
  EXPECT_EQ(intern(table, "a")->id, 0u);
  EXPECT_EQ(table.size(), 2u);
  EXPECT_EQ(table.text(1), "b.c");
  EXPECT_EQ(table.text(2), "");
  EXPECT_EQ(table.find("b.c", base::hash_bytes("b.c"))->id, 1u);
  EXPECT_FALSE(table.find("x", base::hash_bytes("x")));
}

TEST_F(SubjectTable, TellsOthersWhenTheyRefresh) {
  make(100);
  subject_table writer = open(), reader = open(false), second = open();
  intern(writer, "a");
  EXPECT_EQ(reader.size(), 0u);
  ASSERT_TRUE(reader.refresh());
  EXPECT_EQ(reader.text(0), "a");
  EXPECT_EQ(intern(second, "b")->id, 1u) << "the other writer's entry comes first";
  EXPECT_EQ(intern(second, "a")->id, 0u);
}

TEST_F(SubjectTable, KeepsEverythingWhenItIsReopened) {
  make(5000);
  {
    subject_table table = open();
    for (int i = 0; i < 5000; ++i)
      ASSERT_EQ(intern(table, "orders." + std::to_string(i))->id, static_cast<std::uint32_t>(i));
  }
  subject_table again = open();
  ASSERT_EQ(again.size(), 5000u);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = "orders." + std::to_string(i);
    ASSERT_EQ(again.text(static_cast<std::uint32_t>(i)), text);
    ASSERT_EQ(again.find(text, base::hash_bytes(text))->id, static_cast<std::uint32_t>(i));
  }
}

TEST_F(SubjectTable, FullOfEntriesAnswersWithNothing) {
  make(2);
  subject_table table = open();
  EXPECT_TRUE(intern(table, "a"));
  EXPECT_TRUE(intern(table, "b"));
  EXPECT_FALSE(intern(table, "c"));
  EXPECT_FALSE(intern(table, "c"));
  EXPECT_EQ(intern(table, "a")->id, 0u) << "what is there is still found";
  EXPECT_EQ(table.size(), 2u);
}

TEST_F(SubjectTable, WithoutRoomForAnyTakesNone) {
  make(0);
  subject_table table = open();
  EXPECT_FALSE(intern(table, "a"));
}

TEST_F(SubjectTable, FullOfBytesAnswersWithNothing) {
  make(800);  // 64 KiB: room for 240 of the longest subjects
  subject_table table = open();
  std::uint32_t taken = 0;
  for (; taken < 800; ++taken) {
    std::string text = std::to_string(taken);
    text.append(255 - text.size(), 'x');
    if (!intern(table, text)) break;
  }
  EXPECT_EQ(taken, 65536u / (16 + 256));
  ASSERT_TRUE(open().size() == taken);
}

TEST_F(SubjectTable, FindsWhatOthersAddedBeforeItWasFull) {
  make(2);
  subject_table one = open(), two = open();
  intern(one, "a");
  intern(two, "b");
  EXPECT_FALSE(intern(one, "c"));
  EXPECT_EQ(intern(one, "b")->id, 1u);
}

TEST_F(SubjectTable, WritesOverTheHalfEntryOfADeadWriter) {
  make(100);
  subject_table table = open();
  intern(table, "before");
  // A writer died with the lock: its entry is written, used_bytes is not.
  scribble<std::uint32_t>(layout::subjects_offset + 24 + 8, 200);
  scribble<std::uint64_t>(layout::subjects_offset + 24 + 16, 0x4141414141414141u);
  scribble<std::uint64_t>(offsetof(layout::subjects_header, lock), 77);
  EXPECT_EQ(intern(table, "after")->id, 1u);
  const subject_table again = open();
  EXPECT_EQ(again.size(), 2u);
  EXPECT_EQ(again.text(1), "after");
  EXPECT_EQ(again.type(1), 0u);
}

TEST_F(SubjectTable, CallsImpossibleLengthsCorrupt) {
  make(100);
  {
    subject_table table = open();
    intern(table, "some.subject");
  }
  const std::uint64_t length_at = layout::subjects_offset + offsetof(layout::subject_entry, length);
  for (const std::uint32_t length : {0u, 256u, 255u, 0xffffffffu}) {
    scribble<std::uint32_t>(length_at, length);
    EXPECT_EQ(error_of_open(), errc::corrupt) << length;
  }
  scribble<std::uint32_t>(length_at, 12);
  EXPECT_EQ(error_of_open(), errc::ok);
}

TEST_F(SubjectTable, CallsUsedBytesBeyondItsEndCorrupt) {
  make(100);
  const std::uint64_t used_at = offsetof(layout::subjects_header, used_bytes);
  for (const std::uint64_t used : {1ull << 20, ~0ull}) {
    scribble<std::uint64_t>(used_at, used);
    EXPECT_EQ(error_of_open(), errc::corrupt) << used;
  }
}

TEST_F(SubjectTable, NoticesCorruptionAlsoWhenItRefreshes) {
  make(100);
  subject_table table = open(), reader = open(false);
  intern(table, "some.subject");
  scribble<std::uint32_t>(layout::subjects_offset + offsetof(layout::subject_entry, length), 4000);
  EXPECT_EQ(reader.refresh().error().code, errc::corrupt);
}

TEST_F(SubjectTable, RefusesAFileThatWasCutOff) {
  make(100);
  ASSERT_EQ(::truncate(path().c_str(), 100), 0);
  EXPECT_EQ(error_of_open(), errc::corrupt);
  ASSERT_EQ(::truncate(path().c_str(), 2 * layout::subjects_offset), 0);
  EXPECT_EQ(error_of_open(), errc::corrupt);
  EXPECT_EQ(subject_table::open(path() + ".missing", true).error().code, errc::not_found);
}

TEST_F(SubjectTable, TheFirstTypeOfASubjectStays) {
  make(100);
  subject_table table = open(), other = open();
  const auto id = intern(table, "typed")->id;
  EXPECT_EQ(table.type(id), 0u);
  EXPECT_EQ(table.claim_type(id, 111), 111u);
  ASSERT_TRUE(other.refresh());
  EXPECT_EQ(other.claim_type(id, 222), 111u);
  EXPECT_EQ(other.type(id), 111u);
}

TEST_F(SubjectTable, NamesTheLiveProcessThatHoldsIt) {
  make(100);
  subject_table table = open();
  intern(table, "known");
  peers.all_alive = true;
  peers.cell.word = 1234;
  scribble<std::uint64_t>(offsetof(layout::subjects_header, lock), 77);
  EXPECT_EQ(intern(table, "known")->id, 0u) << "known subjects need no lock";
  const auto answer = table.intern("new", base::hash_bytes("new"), me, peers);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::busy);
  EXPECT_NE(answer.error().why.find("process 77"), std::string::npos) << answer.error().why;
}

}  // namespace
}  // namespace bus::subject
