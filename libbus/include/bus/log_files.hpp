#pragma once
/// log_files: the log of a stream as files: is it whole, what is missing, a copy of it. Needs no
/// bus; busd may go on writing meanwhile.
///
/// Threads    any
/// Cost       reads everything

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <bus/error.hpp>
#include <bus/message.hpp>

namespace bus {

/// Bytes of a file that are not what they should be.
struct log_damage {
  std::string file;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t first_sequence = 0;  ///< of the messages that are missing for it
  std::uint64_t missing = 0;         ///< 0: only framing or padding was hit
  std::string why = {};              ///< in words, when offsets and sequences do not say it
};

struct lane_report {
  std::uint32_t lane = 0;
  std::uint64_t first_sequence = 0;
  std::uint64_t last_sequence = 0;
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;  ///< of records
  std::uint64_t segments = 0;
  std::vector<gap> gaps;  ///< with their reasons
  std::vector<log_damage> damages;
};

struct log_report {
  std::string directory;
  std::vector<lane_report> lanes;
  std::uint64_t subjects = 0;
  std::vector<log_damage> damages;  ///< of files that belong to no lane, and of what is missing
  std::optional<std::uint64_t> announced;  ///< messages, by the manifest of a backup

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

/// Called with bytes done and bytes in all.
using log_progress = std::function<void(std::uint64_t, std::uint64_t)>;

/// Reads and checks every byte of the stream's log in `directory`.
/// Errors: not_found, permission, unsupported (version)
BUS_EXPORT result<log_report> verify_log(const std::string& directory,
                                         const log_progress& progress = {});

/// Copies the stream's log; what is written meanwhile may or may not be part of it. `to` must not
/// exist. The copy gets a manifest of its files and messages, last of all. Returns what was found
/// in the copy: is_whole() is false when the log itself is damaged.
/// Errors: not_found, conflict, no_space, permission
BUS_EXPORT result<log_report> copy_log(const std::string& directory, const std::string& to,
                                       const log_progress& progress = {});

struct backup_counts {
  std::uint64_t announced = 0;     ///< messages, by the manifest
  std::uint64_t found = 0;         ///< that can be read
  std::vector<std::string> wrong;  ///< files that are missing or changed, in words
};
/// Compares a copy that copy_log made with its manifest.
/// Errors: not_found (no manifest: the copy was never finished), corrupt (the manifest itself)
BUS_EXPORT result<backup_counts> check_backup(const std::string& directory);

}  // namespace bus
