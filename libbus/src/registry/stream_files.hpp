#pragma once
/// stream_files: the files of one stream. They are created complete, and checked when they are
/// opened.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <bus/stream_config.hpp>

#include "layout/bus_files.hpp"
#include "layout/lane.hpp"
#include "os/files.hpp"
#include "os/mapping.hpp"
#include "ring/lane_memory.hpp"

namespace bus::registry {

/// The content of the stream file, validated.
struct stream_facts {
  stream_config config;
  std::uint64_t stream_id = 0;
  std::uint64_t epoch = 0;
  std::uint64_t created_ns = 0;
  bool sealed = false;
  std::optional<error> held = {};  // why busd does not keep its log now
  os::file_stamp stamp;            // of the file that was read

  /// Distinguishes pins of this lane from pins of other lanes.
  std::uint64_t lane_key(std::uint32_t lane) const noexcept {
    return stream_id * 0x9e3779b97f4a7c15u + lane + 1;
  }
};

struct create_params {
  std::uint64_t bus_id = 0;
  std::uint64_t stream_id = 0;
  std::uint32_t clock_kind = 0;
  std::uint64_t epoch = 1;
  std::string log_directory = {};  // of the log that busd keeps; empty: it has none
  bool sealed = false;
  std::optional<error> held = {};
  bool without_lanes = false;                   // of a held stream whose log is unknown
  std::vector<std::uint64_t> logged_seqs = {};  // of each lane: the last in its log
  std::vector<std::uint64_t> first_seqs = {};   // of each lane; 1 for those not listed

  std::uint64_t first_seq(std::uint32_t lane) const noexcept {
    return lane < first_seqs.size() ? first_seqs[lane] : 1;
  }
};

/// Creates `directory` with all files of the stream.
/// Errors: no_space, permission; the directory may be left incomplete.
result<void> create_stream_files(const std::string& directory, const stream_config& config,
                                 const create_params& with);
/// Adds one lane. conflict: it exists.
result<void> create_lane_files(const std::string& directory, const stream_config& config,
                               std::uint32_t lane, const create_params& with);
/// Replaces the stream file: changed limits, a seal, or why it is held.
/// Errors: no_space, permission
result<void> replace_stream_file(const std::string& directory, const stream_config& config,
                                 const create_params& with);
/// Errors: not_found, corrupt, unsupported, permission
result<stream_facts> read_stream_file(const std::string& directory);

/// One mapped ring with its readers table.
class lane_map {
 public:
  /// Errors: not_found, corrupt, unsupported, permission, no_space
  static result<std::shared_ptr<lane_map>> open(const std::string& directory,
                                                const stream_facts& facts, std::uint32_t lane,
                                                bool writable, bool with_data = true);

  const ring::lane_memory& memory() const noexcept { return memory_; }
  layout::lane_header& header() const noexcept { return *memory_.header; }
  layout::readers_header& readers() const noexcept {
    return *reinterpret_cast<layout::readers_header*>(readers_map_.data());
  }
  base::word& reader_entry(std::uint32_t index) const noexcept {
    return reinterpret_cast<base::word*>(readers_map_.data() + layout::readers_offset)[index];
  }
  /// Validated on opening; the word in memory is not used.
  std::uint32_t reader_entries() const noexcept { return reader_entries_; }
  std::uint64_t lane_key() const noexcept { return lane_key_; }
  std::uint32_t index() const noexcept { return index_; }

  /// True if the names of its files still lead to the mapped files.
  /// Cost: two system calls.
  bool has_files() const noexcept {
    return os::still_names(path_, file_) && os::still_names(readers_path_, readers_file_);
  }
  /// They do not: a process that opens the lane now gets other files. Stays true.
  bool is_lost() const noexcept { return lost_.load(); }
  void note_lost() noexcept { lost_.store(true); }

 private:
  os::mapping header_map_, data_map_, readers_map_;
  ring::lane_memory memory_;
  std::uint32_t reader_entries_ = 0;
  std::uint32_t index_ = 0;
  std::uint64_t lane_key_ = 0;
  std::string path_, readers_path_;
  os::file_id file_, readers_file_;
  std::atomic<bool> lost_{false};
};

/// Lanes that are created with the stream; the others are added later.
constexpr std::uint32_t lanes_when_created(const stream_config& config) noexcept {
  return config.mode == lane_mode::fixed ? config.lanes : 1;
}
std::string lane_path(const std::string& directory, std::uint32_t lane);

}  // namespace bus::registry
