#include <bus/recording.hpp>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace bus {
namespace {

using namespace std::chrono_literals;

class Recording : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "bus-rec-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::string file() const { return root_ + "/file.rec"; }

  static std::string payload_of(int i) {
    return std::string(static_cast<std::size_t>(i * 37 % 5000), char('a' + i % 26));
  }
  static std::chrono::system_clock::time_point time_of(int i) {
    return std::chrono::system_clock::time_point(1'700'000'000s) + std::chrono::microseconds(i);
  }
  void write(int count) {
    auto writer = recording_writer::create(file());
    ASSERT_TRUE(writer);
    for (int i = 1; i <= count; ++i) {
      const std::string payload = payload_of(i), number = std::to_string(i);
      const header headers[] = {{"number", number}, {"empty", ""}};
      ASSERT_TRUE(writer->add(
          "a.b" + std::to_string(i % 3), std::as_bytes(std::span(payload)),
          i % 2 == 0 ? std::span<const header>(headers) : std::span<const header>(), time_of(i)));
    }
    ASSERT_TRUE(writer->close());
    EXPECT_EQ(writer->count(), static_cast<std::uint64_t>(count));
  }

  std::string root_;
};

TEST_F(Recording, GivesBackSubjectPayloadHeadersAndTime) {
  write(3000);
  auto reader = recording_reader::open(file());
  ASSERT_TRUE(reader) << reader.error().message();
  int i = 0;
  while (const auto found = reader->next()) {
    ++i;
    EXPECT_EQ(found->number, static_cast<std::uint64_t>(i));
    EXPECT_EQ(found->subject, "a.b" + std::to_string(i % 3));
    EXPECT_EQ(found->text(), payload_of(i));
    EXPECT_EQ(found->time, time_of(i));
    ASSERT_EQ(found->headers.size(), i % 2 == 0 ? 2u : 0u);
    if (i % 2 == 0) {
      EXPECT_EQ(found->headers[0].value, std::to_string(i));
    }
  }
  EXPECT_EQ(i, 3000);
  EXPECT_EQ(reader->damaged(), 0u);
  EXPECT_EQ(reader->announced(), 3000u);
  EXPECT_FALSE(reader->failure());
}

TEST_F(Recording, HasNoNameBeforeItIsWhole) {
  {
    auto writer = recording_writer::create(file());
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->add("a", {}, {}, time_of(1)));
    EXPECT_FALSE(std::filesystem::exists(file()));
  }
  EXPECT_FALSE(std::filesystem::exists(file()));
}

// A recorder that ends without close(), killed or not, leaves what it wrote, and no reader takes
// the file for complete.
TEST_F(Recording, WithoutItsEndIsKeptAndToldFrom) {
  {
    auto writer = recording_writer::create(file());
    ASSERT_TRUE(writer);
    for (int i = 1; i <= 3; ++i) ASSERT_TRUE(writer->add("a", {}, {}, time_of(i)));
    ASSERT_TRUE(writer->flush());
    EXPECT_EQ(writer->flushed(), 3u);
    auto other = recording_writer::create(file());
    ASSERT_FALSE(other) << "two recorders of one file";
    EXPECT_EQ(other.error().code, errc::conflict);
  }
  auto other = recording_writer::create(file());
  ASSERT_FALSE(other) << "what is left of the first one is not removed";
  EXPECT_EQ(other.error().code, errc::conflict);
  auto reader = recording_reader::open(file() + ".part");
  ASSERT_TRUE(reader);
  int messages = 0;
  while (reader->next()) ++messages;
  EXPECT_EQ(messages, 3);
  ASSERT_TRUE(reader->failure());
  EXPECT_EQ(reader->failure()->code, errc::corrupt);
  EXPECT_FALSE(reader->announced());
}

TEST_F(Recording, WithoutAnyMessageLeavesNothing) {
  { ASSERT_TRUE(recording_writer::create(file())); }
  EXPECT_TRUE(std::filesystem::is_empty(root_));
}

// A file that is cut anywhere is not taken for complete, and what is left of it is intact.
TEST_F(Recording, CutAnywhereIsNotWhole) {
  write(60);
  const auto bytes = std::filesystem::file_size(file());
  for (std::uint64_t cut = 4096; cut < bytes; cut += 61) {
    const std::string part = root_ + "/cut.rec";
    std::filesystem::copy_file(file(), part, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(part, cut);
    auto reader = recording_reader::open(part);
    ASSERT_TRUE(reader);
    std::uint64_t number = 0;
    while (const auto found = reader->next()) {
      ASSERT_EQ(found->number, ++number);
      ASSERT_EQ(found->text(), payload_of(static_cast<int>(number)));
    }
    if (reader->failure()) continue;
    // The end mark is there: only padding of the last block is cut off.
    ASSERT_TRUE(reader->announced()) << "cut at " << cut << " of " << bytes;
    ASSERT_EQ(number, 60u);
    ASSERT_GT(cut + 4096, bytes);
  }
}

TEST_F(Recording, DoesNotWriteOverAFile) {
  write(1);
  auto again = recording_writer::create(file());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, errc::conflict);
}

TEST_F(Recording, PassesOverDamageAndCountsIt) {
  write(200);
  std::fstream bytes(file(), std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekp(100'000);
  bytes.write("damage", 6);
  bytes.close();
  auto reader = recording_reader::open(file());
  ASSERT_TRUE(reader);
  std::uint64_t intact = 0;
  while (const auto found = reader->next()) {
    EXPECT_EQ(found->text(), payload_of(static_cast<int>(found->number)));
    ++intact;
  }
  EXPECT_EQ(intact, 199u);
  EXPECT_EQ(reader->damaged(), 1u);
  EXPECT_EQ(reader->announced(), 200u);
  EXPECT_TRUE(reader->failure());
}

TEST_F(Recording, IsNotAnyFile) {
  std::ofstream(file()) << std::string(10'000, 'x');
  auto reader = recording_reader::open(file());
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().code, errc::corrupt);
  EXPECT_EQ(recording_reader::open(root_ + "/none").error().code, errc::not_found);
}

}  // namespace
}  // namespace bus
