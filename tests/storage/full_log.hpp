#pragma once
/// full_log: a log on a simulated disk, with full segments.

#include "log_box.hpp"
#include "simulated_disk.hpp"

namespace bus::test {

/// A log with at least one full segment.
struct full_log {
  static constexpr std::uint64_t largest_frame = 64 * 1024;

  full_log(std::uint64_t segment_bytes, std::uint32_t record_bytes, std::uint64_t records_bytes,
           std::uint32_t frame_records = 16) {
    (void)disk.make_directory(directory);
    options.segment_bytes = segment_bytes;
    options.largest_frame_bytes = largest_frame;
    options.fast_segment = {};
    auto made = storage::lane_log::create(disk, directory, {7, 1, 0}, 1'000'000, options);
    EXPECT_TRUE(made);
    log = std::move(*made);
    for (std::uint64_t written = 0; written < records_bytes || log->segments() < 2;) {
      EXPECT_EQ(commit(*log, disk, memory, frame_records, record_bytes), 0);
      written += frame_records * record_bytes;
    }
  }
  std::uint64_t last() const { return log->written_seq(); }
  std::string first_segment() const { return log::segment_path(directory, 1); }
  std::uint64_t bytes_of_files() {
    std::vector<std::uint64_t> bases;
    EXPECT_EQ(log::list_segments(disk, directory, bases), 0);
    std::uint64_t sum = 0;
    for (const std::uint64_t base_seq : bases)
      sum += disk.contents(log::segment_path(directory, base_seq)).size();
    return sum;
  }

  const std::string directory = "/lane";
  simulated_disk disk;
  storage::log_options options;
  storage::frame_memory memory{largest_frame};
  std::unique_ptr<storage::lane_log> log;
};

}  // namespace bus::test
