// Files of busd other than segments: the golden `subjects` and `stream.json`, and what busd does
// with a golden log.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <nlohmann/json.hpp>

#include "golden.hpp"
#include "log/posix_disk.hpp"
#include "log/segment_file.hpp"
#include "storage/compress_segment.hpp"
#include "storage/lane_log.hpp"
#include "storage/subject_log.hpp"
#include "storage/thin_segments.hpp"
#include "streams/catalog.hpp"

namespace bus {
namespace {

using namespace test;

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class GoldenDaemon : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "bus-golden-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  const std::string golden_ = BUS_GOLDEN_DIRECTORY;
  std::string root_;
  log::posix_disk disk_;
};

TEST_F(GoldenDaemon, SubjectsAreWrittenAsTheyWere) {
  auto subjects = storage::subject_log::create(disk_, root_, golden::stream_id);
  ASSERT_TRUE(subjects);
  for (const auto& subject : golden::subjects()) ASSERT_TRUE(subjects->append({subject}));
  EXPECT_EQ(read_text(root_ + "/subjects"), read_text(golden_ + "/subjects"));
  EXPECT_EQ(read_text(root_ + "/subjects.copy"), read_text(golden_ + "/subjects"));
}

streams::definition golden_definition() {
  streams::definition made;
  made.config.name = "orders";
  made.config.subjects = {"orders.>", "fills.*"};
  made.config.overflow = overflow::block;
  made.config.mode = lane_mode::per_publisher;
  made.config.lanes = 16;
  made.config.ring_bytes = 1 << 20;
  made.config.max_message_bytes = 65'536;
  made.config.send_timeout = std::chrono::seconds(2);
  made.config.max_subjects = 1000;
  made.config.max_readers = 64;
  made.config.storage = storage_class::durable;
  made.config.fsync = fsync_policy::interval;
  made.config.fsync_interval = std::chrono::milliseconds(50);
  made.config.segment_bytes = 32u << 20;
  made.config.max_age = std::chrono::hours(24);
  made.config.max_bytes = 10ull << 30;
  made.config.max_messages = 1'000'000;
  made.config.max_messages_per_subject = 500;
  made.stream_id = golden::stream_id;
  made.epoch = golden::epoch;
  made.lanes = 3;
  made.sealed = true;
  return made;
}

TEST_F(GoldenDaemon, DefinitionIsRead) {
  std::filesystem::create_directories(root_ + "/streams/orders");
  std::filesystem::copy_file(golden_ + "/stream.json", root_ + "/streams/orders/stream.json");
  streams::catalog catalog(disk_, root_);
  std::vector<error> problems;
  auto all = catalog.load(problems);
  ASSERT_TRUE(all);
  EXPECT_TRUE(problems.empty()) << problems.front().message();
  ASSERT_EQ(all->size(), 1u);
  const streams::definition& read = all->front();
  const streams::definition wanted = golden_definition();
  EXPECT_EQ(read.stream_id, wanted.stream_id);
  EXPECT_EQ(read.epoch, wanted.epoch);
  EXPECT_EQ(read.lanes, wanted.lanes);
  EXPECT_EQ(read.sealed, wanted.sealed);
  EXPECT_EQ(read.config.name, wanted.config.name);
  EXPECT_EQ(read.config.subjects, wanted.config.subjects);
  EXPECT_EQ(read.config.overflow, wanted.config.overflow);
  EXPECT_EQ(read.config.mode, wanted.config.mode);
  EXPECT_EQ(read.config.lanes, wanted.config.lanes);
  EXPECT_EQ(read.config.ring_bytes, wanted.config.ring_bytes);
  EXPECT_EQ(read.config.max_message_bytes, wanted.config.max_message_bytes);
  EXPECT_EQ(read.config.send_timeout, wanted.config.send_timeout);
  EXPECT_EQ(read.config.max_subjects, wanted.config.max_subjects);
  EXPECT_EQ(read.config.max_readers, wanted.config.max_readers);
  EXPECT_EQ(read.config.ephemeral, wanted.config.ephemeral);
  EXPECT_EQ(read.config.storage, wanted.config.storage);
  EXPECT_EQ(read.config.fsync, wanted.config.fsync);
  EXPECT_EQ(read.config.fsync_interval, wanted.config.fsync_interval);
  EXPECT_EQ(read.config.segment_bytes, wanted.config.segment_bytes);
  EXPECT_EQ(read.config.max_age, wanted.config.max_age);
  EXPECT_EQ(read.config.max_bytes, wanted.config.max_bytes);
  EXPECT_EQ(read.config.max_messages, wanted.config.max_messages);
  EXPECT_EQ(read.config.max_messages_per_subject, wanted.config.max_messages_per_subject);
}

// New fields may be added; the existing ones keep their names and values.
TEST_F(GoldenDaemon, DefinitionIsWrittenWithTheSameFields) {
  std::filesystem::create_directories(root_ + "/streams/orders");
  streams::catalog catalog(disk_, root_);
  ASSERT_TRUE(catalog.store(golden_definition()));
  const auto object = [](const std::string& text) {
    return nlohmann::json::parse(text.substr(0, text.rfind("\ncrc32c ")));
  };
  const std::string path = root_ + "/streams/orders/stream.json";
  const auto written = object(read_text(path)),
             wanted = object(read_text(golden_ + "/stream.json"));
  for (const auto& [field, value] : wanted.items()) EXPECT_EQ(written.at(field), value) << field;
}

TEST_F(GoldenDaemon, DefinitionWithAWrongChecksumIsAProblem) {
  std::filesystem::create_directories(root_ + "/streams/orders");
  std::string text = read_text(golden_ + "/stream.json");
  text.replace(text.find("fills"), 5, "bills");
  std::ofstream(root_ + "/streams/orders/stream.json") << text;
  streams::catalog catalog(disk_, root_);
  std::vector<error> problems;
  auto all = catalog.load(problems);
  ASSERT_TRUE(all);
  EXPECT_TRUE(all->empty());
  EXPECT_EQ(problems.size(), 1u);
}

// 47 was written but is not known to be durable: it moves to its own segment. Nothing else
// changes.
TEST_F(GoldenDaemon, LogIsTakenOver) {
  std::filesystem::copy(golden_ + "/lane-2", root_ + "/lane-2");
  storage::recovery_report report;
  storage::log_options options;
  options.segment_bytes = 1 << 20;
  options.largest_frame_bytes = 64 * 1024;
  auto opened = storage::lane_log::open(
      disk_, root_ + "/lane-2", {golden::stream_id, golden::epoch, golden::lane}, options, report);
  ASSERT_TRUE(opened) << opened.error().message();
  const storage::lane_log& log = **opened;
  EXPECT_EQ(log.log_id(), golden::log_id);
  EXPECT_EQ(log.epoch(), golden::epoch);
  EXPECT_EQ(log.next_seq(), golden::last_seq + 1);
  EXPECT_EQ(log.durable_seq(), golden::last_seq);
  EXPECT_EQ(log.high_water(), golden::state().high_water);
  EXPECT_EQ(log.segments(), 2u);
  EXPECT_EQ(report.rewritten, 1u);
  EXPECT_EQ(report.cut_bytes, 0u);
  EXPECT_TRUE(report.damages.empty());
  EXPECT_FALSE(report.state_rebuilt || report.state_damaged);
}

std::string segment_name() { return "/" + log::segment_name(golden::base_seq); }

// Keeps the newest message of each of the three subjects: 43 is removed. Returns the path of the
// copy.
std::string thin_golden(log::disk& disk, const std::string& directory) {
  std::filesystem::create_directories(directory);
  std::filesystem::copy_file(BUS_GOLDEN_DIRECTORY "/lane-2" + segment_name(),
                             directory + segment_name());
  const storage::thinning what{
      directory, golden::log_id, {{golden::base_seq, golden::last_seq + 1}}, 1, 3, 0, {}, 1 << 20};
  const std::atomic<bool> stop{false};
  const auto copies = storage::thin_segments(disk, what, stop);
  return copies.outcome == storage::thin_outcome::done && copies.made.size() == 1
             ? copies.made[0].path
             : std::string();
}

TEST_F(GoldenDaemon, ThinnedSegmentIsMadeAndRead) {
  const std::string made = thin_golden(disk_, root_ + "/thin");
  ASSERT_NE(made, "");
  const std::string file = read_text(golden_ + "/thinned" + segment_name());
  EXPECT_EQ(read_text(made), file);
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes; i-- > 0;)
      value = value << 8 | static_cast<std::uint8_t>(file.at(at + i));
    return value;
  };
  EXPECT_EQ(file.size(), 8192u);
  EXPECT_EQ(file.substr(0, 8), std::string("BUSLOG1\0", 8));
  EXPECT_EQ(number(8, 2), 1u);
  EXPECT_EQ(number(10, 2), 2u);
  EXPECT_EQ(number(40, 8), golden::base_seq);
  EXPECT_EQ(number(48, 8), file.size());
  EXPECT_EQ(number(64, 8), 40u);  // the gap before the segment is still recorded
  EXPECT_EQ(number(72, 4), 1u);
  EXPECT_EQ(number(80, 4), 64u);
  EXPECT_EQ(number(84, 4), 4u);
  EXPECT_EQ(number(96, 8), 5u);
  EXPECT_EQ(number(4096 + 8, 8), 42u);
  EXPECT_EQ(number(4096 + 32, 4), 1u);
  EXPECT_EQ(number(4224 + 8, 8), 44u);  // after a head and a record of 64 bytes each
  EXPECT_EQ(number(4224 + 32, 4), 4u);
  log::segment_reader reader(disk_);
  ASSERT_EQ(reader.open(golden_ + "/thinned" + segment_name(), golden::log_id, golden::base_seq),
            0);
  EXPECT_EQ(reader.hole_reason(), layout::log_gap::superseded);
  for (const golden::message& m : golden::messages()) {
    if (m.seq == 43) continue;
    log::logged_record record;
    if (m.seq == 44) {
      ASSERT_EQ(reader.next(record), log::walk_outcome::gap);
      EXPECT_EQ(reader.gap_first(), 43u);
    }
    ASSERT_EQ(reader.next(record), log::walk_outcome::record);
    EXPECT_EQ(record.seq, m.seq);
    EXPECT_EQ(record.time_ns, m.time_ns);
    EXPECT_EQ(
        std::string(reinterpret_cast<const char*>(record.payload()), record.shape.payload_bytes),
        m.payload);
  }
  log::logged_record record;
  EXPECT_EQ(reader.next(record), log::walk_outcome::end);
  EXPECT_TRUE(reader.damages().empty());
}

#if BUS_ZSTD
storage::compressed_copy compress_golden(log::disk& disk, const std::string& to) {
  const std::atomic<bool> stop{false};
  return storage::compress_segment(disk, BUS_GOLDEN_DIRECTORY "/lane-2", golden::base_seq,
                                   golden::log_id, to, stop);
}

TEST_F(GoldenDaemon, CompressedSegmentGivesWhatWasWritten) {
  const std::string path = golden_ + "/compressed" + segment_name();
  log::segment_file file(disk_);
  ASSERT_EQ(file.open(path, golden::log_id), 0);
  EXPECT_TRUE(file.is_compressed() && file.is_whole());
  const auto wanted = golden::segment();
  ASSERT_EQ(file.bytes(), wanted.size());
  std::vector<std::byte> got(wanted.size());
  ASSERT_EQ(file.read(got, 0), static_cast<std::int64_t>(got.size()));
  constexpr std::size_t head = layout::log_header_bytes;
  EXPECT_EQ(std::memcmp(got.data() + head, wanted.data() + head, wanted.size() - head), 0);
  log::segment_reader reader(disk_);
  ASSERT_EQ(reader.open(path, golden::log_id, golden::base_seq), 0);
  for (const golden::message& m : golden::messages()) {
    log::logged_record record;
    ASSERT_EQ(reader.next(record), log::walk_outcome::record);
    EXPECT_EQ(record.seq, m.seq);
    EXPECT_EQ(
        std::string(reinterpret_cast<const char*>(record.payload()), record.shape.payload_bytes),
        m.payload);
  }
  EXPECT_TRUE(reader.damages().empty());
}

// Byte by byte, without any struct of the product. The bytes of a block are zstd's and depend on
// its version.
TEST_F(GoldenDaemon, CompressedSegmentIsWhereTheFormatSays) {
  ASSERT_EQ(compress_golden(disk_, root_ + "/copy").outcome, storage::compress_outcome::done);
  for (const std::string& path : {golden_ + "/compressed" + segment_name(), root_ + "/copy"}) {
    const std::string file = read_text(path);
    const auto number = [&](std::size_t at, std::size_t bytes) {
      std::uint64_t value = 0;
      for (std::size_t i = bytes; i-- > 0;)
        value = value << 8 | static_cast<std::uint8_t>(file.at(at + i));
      return value;
    };
    EXPECT_EQ(file.substr(0, 8), std::string("BUSLOG1\0", 8));
    EXPECT_EQ(number(8, 2), 2u);
    EXPECT_EQ(number(48, 8), golden::file_bytes);
    EXPECT_EQ(number(84, 4), 2u);
    EXPECT_EQ(file.substr(4096, 8), std::string("BUSTLB1\0", 8));
    EXPECT_EQ(number(4096 + 12, 4), 1u);
    EXPECT_EQ(number(4096 + 16, 8), golden::file_bytes);
    EXPECT_EQ(number(4096 + 24, 8), file.size());
    EXPECT_EQ(number(4096 + 32, 8), 4160u);
    EXPECT_EQ(file.substr(4160, 4), "BLCK");
    EXPECT_EQ(number(4160 + 8, 8), 4096u);
    EXPECT_EQ(number(4160 + 16, 4), 2176u);  // up to the last byte that is not 0
    EXPECT_EQ(number(4160 + 28, 4), 1u);
    EXPECT_EQ(number(4160 + 32, 4), 0xfd2fb528u);  // zstd's magic
    EXPECT_EQ((4160 + 32 + number(4160 + 20, 4) + 63) / 64 * 64, file.size());
  }
}

#endif

int write_golden_files() {
  log::posix_disk disk;
  const std::string root =
      std::filesystem::temp_directory_path() / ("bus-golden-" + std::to_string(::getpid()));
  std::filesystem::create_directories(root + "/streams/orders");
  const auto stored = streams::catalog(disk, root).store(golden_definition());
  if (!stored) std::cerr << stored.error().message() << "\n";
  std::ofstream(BUS_GOLDEN_DIRECTORY "/stream.json")
      << read_text(root + "/streams/orders/stream.json");
  std::filesystem::create_directories(BUS_GOLDEN_DIRECTORY "/thinned");
  const std::string thinned = thin_golden(disk, root + "/thin");
  std::ofstream(BUS_GOLDEN_DIRECTORY "/thinned" + segment_name()) << read_text(thinned);
  std::filesystem::remove_all(root);
  bool good = stored && !thinned.empty();
#if BUS_ZSTD
  std::filesystem::create_directories(BUS_GOLDEN_DIRECTORY "/compressed");
  const auto copy = compress_golden(disk, BUS_GOLDEN_DIRECTORY "/compressed" + segment_name());
  good = good && copy.outcome == storage::compress_outcome::done;
#endif
  return good ? 0 : 1;
}

}  // namespace
}  // namespace bus

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--write") return bus::write_golden_files();
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
