#pragma once
/// statistics: snapshots of streams, lanes, publishers, subscribers and processes, for monitors.
///
/// Cost       the observer reads shared memory; the data path does no extra work

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <bus/stream_config.hpp>

namespace bus {

struct lane_info {
  std::uint32_t index = 0;
  std::uint64_t first_sequence = 0;   ///< oldest readable message in the ring; 0 = none
  std::uint64_t last_sequence = 0;    ///< newest message; 0 = none yet
  std::uint64_t bytes_published = 0;  ///< ring bytes since the lane was created
  std::uint64_t used_bytes = 0;       ///< ring bytes that the slowest gating reader still needs
  std::uint64_t dropped = 0;
  std::uint64_t rejected = 0;
  std::uint64_t blocked = 0;   ///< times a publisher waited for space
  std::uint64_t repaired = 0;  ///< times the lane was repaired after a publisher died
  std::uint64_t aborted = 0;
  std::uint32_t exclusive_process = 0;  ///< bus id of the exclusive publisher's process, 0 = none
  std::uint64_t logged_sequence = 0;    ///< stream with a log: last message in the log
  std::uint64_t durable_sequence = 0;   ///< durable stream: last message that is synced
  std::uint64_t skipped_sequences = 0;  ///< sequences no message has: shared memory was lost
};

struct stream_info {
  stream_config config;
  std::uint64_t stream_id = 0;
  std::uint64_t epoch = 0;  ///< rises each time shared memory is lost
  bool sealed = false;
  std::string log_directory;  ///< empty without a log
  std::chrono::system_clock::time_point created{};
  std::uint32_t subjects_interned = 0;
  std::vector<lane_info> lanes;

  std::uint64_t messages() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& lane : lanes) sum += lane.last_sequence - lane.skipped_sequences;
    return sum;
  }
};

/// The log of one lane, as busd reports it.
struct log_info {
  std::string stream;
  std::uint32_t lane = 0;
  std::string health;  ///< good, full, failed
  std::uint64_t first_sequence = 0;
  std::uint64_t written_sequence = 0;
  std::uint64_t durable_sequence = 0;
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;          ///< on disk
  std::uint64_t bytes_written = 0;  ///< since busd started
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
  std::chrono::nanoseconds recovery{};  ///< duration of the recovery at start
  std::uint64_t disk_total_bytes = 0;
  std::uint64_t disk_free_bytes = 0;
  std::vector<log_info> logs;
  std::vector<std::string> problems;  ///< streams that could not be opened, with the reason
};

struct publisher_info {
  std::uint32_t id = 0;
  std::string name;
  std::string subject;
  std::string stream;
  std::uint32_t lane = 0;
  bool exclusive = false;
  bool blocked = false;  ///< is waiting for space now
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  std::uint64_t refused = 0;  ///< not taken by the lane: dropped, rejected, timed out, ...
};

/// One lane that a subscriber reads.
struct reader_info {
  std::uint32_t id = 0;  ///< of the subscriber; the same for all its lanes
  std::string name;      ///< its name, if any, followed by its patterns
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
  std::uint32_t id = 0;  ///< on this bus; never used twice
  std::int64_t pid = 0;  ///< in its own pid namespace
  bool other_namespace = false;
  std::uint32_t uid = 0;
  std::string name;
  process_state state = process_state::running;
  std::chrono::system_clock::time_point joined{};
  std::vector<publisher_info> publishers;
  std::vector<reader_info> readers;
};

}  // namespace bus
