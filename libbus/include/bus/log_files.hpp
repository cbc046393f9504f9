#pragma once
/// log_files: verifies and copies the log files of a stream. Needs no bus; busd may continue to
/// write meanwhile.
///
/// Threads    any
/// Cost       reads every byte of the log

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <bus/error.hpp>
#include <bus/message.hpp>

namespace bus {

/// Bytes of a log that are not what was written.
struct log_damage {
  std::string file;  ///< path; of damaged records, the directory of their lane
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t first_sequence = 0;  ///< first of the messages that are missing because of it
  std::uint64_t missing = 0;         ///< messages missing; 0: only framing or padding is damaged
  std::string why = {};              ///< description, where offsets and sequences do not suffice
};

struct lane_report {
  std::uint32_t lane = 0;
  std::uint64_t first_sequence = 0;
  std::uint64_t last_sequence = 0;
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;  ///< of records
  std::uint64_t segments = 0;
  std::vector<gap> gaps;  ///< lost messages, with the reason; `stream` is empty
  std::vector<log_damage> damages;
};

struct log_report {
  std::string directory;
  std::vector<lane_report> lanes;
  std::uint64_t subjects = 0;
  std::vector<log_damage> damages;         ///< of files that belong to no lane, and missing files
  std::optional<std::uint64_t> announced;  ///< messages according to the manifest of a backup

  std::uint64_t messages() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& lane : lanes) sum += lane.messages;
    return sum;
  }
  bool is_whole() const noexcept {
    if (!damages.empty() || (announced && *announced != messages())) return false;
    for (const auto& lane : lanes) {
      if (!lane.damages.empty()) return false;
      for (const auto& one : lane.gaps)
        if (one.reason == gap_reason::corrupt) return false;
    }
    return true;
  }
};

/// Called with the bytes done and the total bytes.
using log_progress = std::function<void(std::uint64_t, std::uint64_t)>;

/// Reads and checks every byte of the stream's log in `directory`.
/// Errors: not_found, permission, unsupported (version)
BUS_EXPORT result<log_report> verify_log(const std::string& directory,
                                         const log_progress& progress = {});

/// Copies the stream's log. Messages written meanwhile may or may not be in the copy. `to` must not
/// exist. The manifest of files and messages is written last. Returns what was found in the
/// copy: is_whole() is false if the log itself is damaged.
/// Errors: not_found, conflict, no_space, permission
BUS_EXPORT result<log_report> copy_log(const std::string& directory, const std::string& to,
                                       const log_progress& progress = {});

struct backup_counts {
  std::uint64_t announced = 0;     ///< messages according to the manifest
  std::uint64_t found = 0;         ///< messages that can be read
  std::vector<std::string> wrong;  ///< files that are missing or changed, one sentence each
};
/// Compares a copy made by copy_log with its manifest.
/// Errors: not_found (no manifest: the copy was never finished), corrupt (the manifest)
BUS_EXPORT result<backup_counts> check_backup(const std::string& directory);

}  // namespace bus
