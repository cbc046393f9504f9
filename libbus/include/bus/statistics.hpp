#pragma once
/// statistics: plain snapshots of streams, lanes, publishers, subscribers and processes, for
/// monitors.
///
/// Cost       read from shared memory by the observer; the data path is not touched

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <bus/stream_config.hpp>

namespace bus {

struct lane_info {
  std::uint32_t index = 0;
  std::uint64_t first_sequence = 0;   ///< oldest that a new reader could still get
  std::uint64_t last_sequence = 0;    ///< newest; 0 = none yet
  std::uint64_t bytes_published = 0;  ///< ring bytes since the lane was made
  std::uint64_t used_bytes = 0;       ///< held by the slowest gating reader
  std::uint64_t dropped = 0;
  std::uint64_t rejected = 0;
  std::uint64_t blocked = 0;   ///< times that a publisher had to wait
  std::uint64_t repaired = 0;  ///< times that a dead publisher's lane was repaired
  std::uint64_t aborted = 0;
  std::uint32_t exclusive_process = 0;  ///< process id of the exclusive publisher, 0 = none
  std::uint64_t logged_sequence = 0;    ///< of a stream with a log: to be found there
  std::uint64_t durable_sequence = 0;   ///< and synced
  std::uint64_t skipped_sequences = 0;  ///< that no message ever had: shared memory was lost
};

struct stream_info {
  stream_config config;
  std::uint64_t stream_id = 0;
  std::uint64_t epoch = 0;  ///< rises when shared memory was lost
  bool sealed = false;
  std::string log_directory;  ///< of a stream with a log
  std::chrono::system_clock::time_point created{};
  std::uint32_t subjects_interned = 0;
  std::vector<lane_info> lanes;

  std::uint64_t messages() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& lane : lanes) sum += lane.last_sequence - lane.skipped_sequences;
    return sum;
  }
};

/// The log of one lane, as busd sees it.
struct log_info {
  std::string stream;
  std::uint32_t lane = 0;
  std::string health;  ///< good, full, failed
  std::uint64_t first_sequence = 0;
  std::uint64_t written_sequence = 0;
  std::uint64_t durable_sequence = 0;
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;          ///< on disk
  std::uint64_t bytes_written = 0;  ///< since busd was started
  std::uint64_t commits = 0;
  std::uint64_t recovery_bytes_read = 0;
  std::uint64_t recovery_rewritten = 0;
  std::uint64_t damages = 0;  ///< found at the last start
};

struct keeper_info {
  std::int64_t pid = 0;
  std::string version;
  std::string data_directory;
  std::string disk;  ///< io_uring or posix
  std::chrono::system_clock::time_point started{};
  std::chrono::nanoseconds recovery{};  ///< how long the start took
  std::uint64_t disk_total_bytes = 0;
  std::uint64_t disk_free_bytes = 0;
  std::vector<log_info> logs;
  std::vector<std::string> problems;  ///< streams that could not be opened, and why
};

struct publisher_info {
  std::uint32_t id = 0;
  std::string name;
  std::string subject;
  std::string stream;
  std::uint32_t lane = 0;
  bool exclusive = false;
  bool blocked = false;  ///< waits for space now
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  std::uint64_t refused = 0;  ///< dropped, rejected, timed out
};

/// One ring that a subscriber reads.
struct reader_info {
  std::uint32_t id = 0;  ///< of the subscriber; the same for all its rings
  std::string name;      ///< its name, else its patterns
  std::string stream;
  std::uint32_t lane = 0;
  bool gating = false;
  bool sleeping = false;
  std::uint64_t next_sequence = 0;
  std::uint64_t lag_messages = 0;
  std::uint64_t lag_bytes = 0;
  std::uint64_t delivered = 0;
  std::uint64_t lost = 0;
};

enum class process_state : std::uint8_t { running, stopped, dead };

struct process_info {
  std::uint32_t id = 0;  ///< on this bus, never used twice
  std::int64_t pid = 0;  ///< as its own pid namespace numbers it
  bool other_namespace = false;
  std::uint32_t uid = 0;
  std::string name;
  process_state state = process_state::running;
  std::chrono::system_clock::time_point joined{};
  std::vector<publisher_info> publishers;
  std::vector<reader_info> readers;
};

}  // namespace bus
