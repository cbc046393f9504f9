// Logs that were written once stay readable for ever, and the builders still make the same bytes.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "golden.hpp"
#include "log/history.hpp"
#include "log/posix_disk.hpp"

namespace bus {
namespace {

using namespace test;

std::string directory() { return BUS_GOLDEN_DIRECTORY; }
std::string lane() { return directory() + "/lane-2"; }

struct golden_file {
  std::string name;
  std::vector<std::byte> bytes;
};

std::vector<golden_file> golden_files() {
  return {{"/lane-2/" + log::segment_name(golden::base_seq), golden::segment()},
          {"/lane-2/" + log::index_name(golden::base_seq), golden::index_file()},
          {"/lane-2/state", golden::state_file()},
          {"/subjects", golden::subjects_file()}};
}

std::vector<std::byte> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return golden::bytes_of(text.data(), text.size());
}

TEST(GoldenLog, BuildersMakeTheSameBytes) {
  for (const golden_file& file : golden_files()) {
    const auto there = read_file(directory() + file.name);
    ASSERT_EQ(there.size(), file.bytes.size()) << file.name;
    const auto differs = std::mismatch(there.begin(), there.end(), file.bytes.begin());
    EXPECT_EQ(differs.first, there.end())
        << file.name << " differs at " << differs.first - there.begin();
  }
}

// Byte by byte, without any struct of the product: what docs/format/log.md says.
TEST(GoldenLog, BytesAreWhereTheFormatSays) {
  const auto file = read_file(lane() + "/00000000000000000042.log");
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = bytes; i-- > 0;)
      value = value << 8 | std::to_integer<std::uint64_t>(file.at(at + i));
    return value;
  };
  EXPECT_EQ(std::memcmp(file.data(), "BUSLOG1\0", 8), 0);
  EXPECT_EQ(number(8, 2), 1u);
  EXPECT_EQ(number(16, 8), golden::log_id);
  EXPECT_EQ(number(24, 8), golden::stream_id);
  EXPECT_EQ(number(32, 8), golden::epoch);
  EXPECT_EQ(number(40, 8), golden::base_seq);
  EXPECT_EQ(number(48, 8), golden::file_bytes);
  EXPECT_EQ(number(56, 8), golden::second);
  EXPECT_EQ(number(64, 8), 40u);
  EXPECT_EQ(number(72, 4), 1u);
  EXPECT_EQ(number(76, 4), golden::lane);
  EXPECT_EQ(number(80, 4), golden::align);
  EXPECT_EQ(number(88, 8), 41u);
  EXPECT_EQ(number(104, 4), 4u);
  EXPECT_EQ(number(112, 8), 0u);
  EXPECT_EQ(std::memcmp(file.data() + 4096, "FRAM", 4), 0);
  EXPECT_EQ(number(4096 + 8, 8), 42u);
  EXPECT_EQ(number(4096 + 16, 8), 41u);
  EXPECT_EQ(number(4096 + 24, 8), golden::second + 3);
  EXPECT_EQ(number(4096 + 32, 4), 3u);
  EXPECT_EQ(number(4096 + 36, 4), 256u);
  EXPECT_EQ(number(4096 + 40, 4), 0u);
  EXPECT_EQ(number(4096 + 44, 4), 1u);
  EXPECT_EQ(number(4160, 4), 42u);      // low half of the sequence
  EXPECT_EQ(number(4160 + 8, 4), 5u);   // payload
  EXPECT_EQ(number(4160 + 12, 2), 0u);  // header area
  EXPECT_EQ(number(4160 + 16, 4), 0u);  // subject
  EXPECT_EQ(number(4160 + 20, 4), 5u);  // publisher
  EXPECT_EQ(number(4160 + 24, 8), golden::second + 1);
  EXPECT_EQ(std::memcmp(file.data() + 4160 + 32, "hello", 5), 0);
  EXPECT_EQ(number(4608 + 40, 4), number(4096 + 4, 4));  // the previous frame's checksum
  EXPECT_EQ(number(5632 + 44, 4), 2u);                   // the mark
  EXPECT_EQ(number(5632 + 32, 8), 0u);
  EXPECT_EQ(number(5632 + 16, 8), 46u);
}

void expect_message(const log::logged_record& record, const golden::message& m) {
  SCOPED_TRACE(m.seq);
  EXPECT_EQ(record.seq, m.seq);
  EXPECT_EQ(record.time_ns, m.time_ns);
  EXPECT_EQ(record.subject_id(), m.subject.empty() ? m.subject_id : layout::inline_subject_id);
  EXPECT_EQ(static_cast<std::uint32_t>(record.origin >> 32), m.publisher_id);
  ASSERT_EQ(record.shape.payload_bytes, m.payload.size());
  EXPECT_EQ(std::memcmp(record.payload(), m.payload.data(), m.payload.size()), 0);
  EXPECT_EQ(record.shape.flags & m.more_flags, m.more_flags);
  EXPECT_EQ(record.shape.header_bytes % layout::header_align, 0u);
  const layout::header_area area(record.header(), record.shape.header_bytes, record.shape.flags);
  EXPECT_TRUE(area.understood());
  EXPECT_EQ(area.subject(), m.subject);
  EXPECT_EQ(area.extension(layout::ext_type).value_or(0), m.type);
  std::vector<std::pair<std::string, std::string>> headers;
  area.each_user_header([&](std::string_view key, std::string_view value) {
    headers.emplace_back(key, value);
    return true;
  });
  ASSERT_EQ(headers.size(), m.headers.size());
  for (std::size_t i = 0; i < headers.size(); ++i) {
    EXPECT_EQ(headers[i].first, m.headers[i].first);
    EXPECT_EQ(headers[i].second, m.headers[i].second);
  }
}

TEST(GoldenLog, SegmentIsRead) {
  log::posix_disk disk;
  log::segment_reader reader(disk);
  ASSERT_EQ(reader.open(log::segment_path(lane(), golden::base_seq), 0, golden::base_seq), 0);
  const auto& header = reader.header();
  ASSERT_TRUE(header);
  const auto wanted = golden::segment_header();
  EXPECT_EQ(std::memcmp(&*header, &wanted, sizeof wanted), 0);
  EXPECT_EQ(reader.log_id(), golden::log_id);
  std::vector<std::uint64_t> offsets;
  for (const golden::message& m : golden::messages()) {
    log::logged_record record;
    ASSERT_EQ(reader.next(record), log::walk_outcome::record);
    expect_message(record, m);
    if (offsets.empty() || offsets.back() != reader.frame_offset())
      offsets.push_back(reader.frame_offset());
  }
  EXPECT_EQ(offsets, (std::vector<std::uint64_t>{golden::frame_offsets[0], golden::frame_offsets[1],
                                                 golden::frame_offsets[3]}));
  EXPECT_EQ(reader.frame().count, 1u);
  EXPECT_EQ(reader.frame().kind, layout::frame_kind::records);
  log::logged_record none;
  EXPECT_EQ(reader.next(none), log::walk_outcome::end);
  EXPECT_EQ(reader.expected(), golden::last_seq + 1);
  EXPECT_EQ(reader.clean_end(), golden::frame_offsets[4]);
  EXPECT_EQ(reader.durable_upto(), golden::last_durable);
  EXPECT_EQ(reader.time_max_ns(), golden::second + 10);
  EXPECT_TRUE(reader.damages().empty());
}

TEST(GoldenLog, HistoryIsRead) {
  log::posix_disk disk;
  log::history history(disk, lane());
  ASSERT_EQ(history.open(), 0);
  EXPECT_EQ(history.log_id(), golden::log_id);
  EXPECT_EQ(history.bases(), std::vector<std::uint64_t>{golden::base_seq});
  EXPECT_EQ(history.first_seq(), golden::base_seq);
  // 7 is the first that was kept; those up to 39 were removed; 40 and 41 were never on disk.
  history.seek(40);
  log::logged_record record;
  ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::gap);
  EXPECT_EQ(history.loss().first, 40u);
  EXPECT_EQ(history.loss().count, 2u);
  EXPECT_EQ(history.loss().reason, layout::log_gap::unsynced);
  for (const golden::message& m : golden::messages()) {
    ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
    expect_message(record, m);
  }
  EXPECT_EQ(history.next(record, ~0ull), log::walk_outcome::end);
  EXPECT_TRUE(history.take_damages().empty());
  log::history of_another(disk, lane());
  EXPECT_EQ(of_another.open({golden::stream_id, golden::lane + 1}), -ESTALE);
  EXPECT_EQ(of_another.open({golden::stream_id + 1, golden::lane}), -ESTALE);
  EXPECT_EQ(of_another.open({golden::stream_id, golden::lane}), 0);
  // By index and by time.
  history.seek(47);
  ASSERT_EQ(history.next(record, ~0ull), log::walk_outcome::record);
  EXPECT_EQ(record.seq, 47u);
  ASSERT_EQ(history.seek_time(golden::second + 9), 0);
  EXPECT_EQ(history.next_seq(), 45u);
  ASSERT_EQ(history.seek_time(golden::second + 10), 0);
  EXPECT_EQ(history.next_seq(), 47u);
}

TEST(GoldenLog, IndexIsRead) {
  log::posix_disk disk;
  std::uint64_t bytes_read = 0;
  const auto entries = log::read_index(disk, lane(), golden::base_seq, golden::log_id, bytes_read);
  const auto wanted = golden::index_entries();
  ASSERT_EQ(entries.size(), wanted.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(entries[i].seq, wanted[i].seq);
    EXPECT_EQ(entries[i].time_ns, wanted[i].time_ns);
    EXPECT_EQ(entries[i].offset, wanted[i].offset);
    EXPECT_EQ(entries[i].crc, wanted[i].crc);
    EXPECT_EQ(entries[i].reserved, 0u);
  }
  log::segment_reader reader(disk);
  ASSERT_EQ(
      reader.open(log::segment_path(lane(), golden::base_seq), golden::log_id, golden::base_seq),
      0);
  for (const auto& entry : entries) EXPECT_TRUE(reader.has_frame_at(entry.seq, entry.offset));
  EXPECT_TRUE(
      log::read_index(disk, lane(), golden::base_seq, golden::log_id + 1, bytes_read).empty());
}

TEST(GoldenLog, StateIsRead) {
  log::posix_disk disk;
  int failure = 1;
  log::state_damage damaged{true, true};
  const auto state = log::read_state(disk, lane(), failure, &damaged);
  ASSERT_TRUE(state);
  EXPECT_EQ(failure, 0);
  EXPECT_FALSE(damaged.copies || damaged.bound);
  EXPECT_EQ(state->generation, 5u);
  EXPECT_EQ(state->log_id, golden::log_id);
  EXPECT_EQ(state->epoch, golden::epoch);
  EXPECT_EQ(state->high_water, 262'186u);
  EXPECT_EQ(state->first_seq, 7u);
  EXPECT_EQ(state->stream_id, golden::stream_id);
  EXPECT_EQ(state->lane_index, golden::lane);
  EXPECT_EQ(state->skipped, 2u);
  // These come from the bound.
  EXPECT_EQ(state->last_base, golden::base_seq);
  EXPECT_EQ(state->durable_upto, golden::last_durable);
  EXPECT_EQ(state->subjects, 4u);
}

TEST(GoldenLog, StateIsWrittenOverTheOlderCopy) {
  log::posix_disk disk;
  std::string pattern = (std::filesystem::temp_directory_path() / "bus-golden-XXXXXX").string();
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  layout::log_state state = golden::state_of(0);
  ASSERT_EQ(log::create_state(disk, pattern, state), 0);
  // Generations 1 to 3 are overwritten: 4 and 5 remain.
  for (int i = 0; i < 3; ++i) ASSERT_EQ(log::write_state(disk, pattern, state), 0);
  for (const auto& wanted : {golden::older_state(), golden::state()}) {
    state.epoch = wanted.epoch;
    state.high_water = wanted.high_water;
    state.first_seq = wanted.first_seq;
    state.last_base = wanted.last_base;
    state.durable_upto = wanted.durable_upto;
    state.skipped = wanted.skipped;
    state.subjects = wanted.subjects;
    ASSERT_EQ(log::write_state(disk, pattern, state), 0);
  }
  ASSERT_EQ(log::write_bound(disk, pattern, golden::bound()), 0);
  EXPECT_EQ(read_file(pattern + "/state"), golden::state_file());
  std::filesystem::remove_all(pattern);
}

TEST(GoldenLog, SubjectsAreRead) {
  log::posix_disk disk;
  log::subjects_found found;
  ASSERT_EQ(log::read_subjects(disk, directory() + "/subjects", golden::stream_id, found), 0);
  EXPECT_EQ(found.prefix_end, golden::subjects_file().size());
  EXPECT_EQ(found.stream_id, golden::stream_id);
  EXPECT_EQ(found.bad_bytes, 0u);
  const auto wanted = golden::subjects();
  ASSERT_EQ(found.by_id.size(), wanted.size());
  EXPECT_EQ(found.prefix_count, wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(found.by_id[i], wanted[i]);
  EXPECT_EQ(log::read_subjects(disk, directory() + "/subjects", golden::stream_id + 1, found),
            -ESTALE);
}

int write_golden_files() {
  std::filesystem::create_directories(lane());
  for (const golden_file& file : golden_files()) {
    std::ofstream to(directory() + file.name, std::ios::binary | std::ios::trunc);
    to.write(reinterpret_cast<const char*>(file.bytes.data()),
             static_cast<std::streamsize>(file.bytes.size()));
    if (!to) return 1;
    std::cout << directory() + file.name << ": " << file.bytes.size() << " bytes\n";
  }
  return 0;
}

}  // namespace
}  // namespace bus

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--write") return bus::write_golden_files();
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
