#pragma once
/// group_files: the files of a stream's groups, `streams/S/groups/G`. They are created complete,
/// and checked when they are opened.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <bus/group.hpp>

#include "group/group_memory.hpp"
#include "os/clock.hpp"
#include "os/fd.hpp"
#include "os/mapping.hpp"
#include "registry/stream_files.hpp"
#include "ring/pin.hpp"

namespace bus::registry {

/// Prefix of the subjects of dead-letter streams.
inline constexpr std::string_view dead_letter_subjects = "_dlq.";

std::string groups_path(const std::string& stream_directory);
std::string group_path(const std::string& stream_directory, std::string_view name);

/// Sorted names. A failure to list is not an empty answer.
result<std::vector<std::string>> list_groups(const std::string& stream_directory);

/// REQUIRES: the bus's lock_changes() is held.
/// Errors: conflict, no_space, permission
result<void> create_group_file(const std::string& stream_directory, const stream_facts& stream,
                               const group_config& config, std::uint64_t bus_id);

/// A group's file, mapped.
class group_map {
 public:
  /// Errors: not_found, corrupt, unsupported, permission, no_space
  static result<std::shared_ptr<group_map>> open(const std::string& stream_directory,
                                                 const stream_facts& stream, std::string_view name,
                                                 const os::tick_clock& clock, bool writable = true);

  const group_config& config() const noexcept { return config_; }
  /// A copy for each user, because it also notes damage.
  group::group_memory memory() const noexcept { return memory_; }
  layout::group_header& header() const noexcept { return *memory_.header; }
  /// The group's entry in readers tables.
  std::uint64_t reader_entry() const noexcept { return reader_entry_; }
  ring::pin_words& pin(std::uint32_t lane) const noexcept {
    return reinterpret_cast<ring::pin_words*>(memory_.pins)[lane];
  }
  /// Backs at least `count` blocks of the arena with memory, from `from` on, or all that are left.
  /// Returns how many.
  /// REQUIRES: the group's lock is not held.
  /// Errors: no_space
  result<std::uint32_t> reserve_blocks(std::uint32_t from, std::uint32_t count) const;
  /// As of lane_map.
  bool has_file() const noexcept { return os::still_names(path_, id_); }
  bool is_lost() const noexcept { return lost_.load(); }
  void note_lost() noexcept { lost_.store(true); }

 private:
  static result<std::shared_ptr<group_map>> open_file(const std::string& stream_directory,
                                                      const stream_facts& stream,
                                                      std::string_view name,
                                                      const os::tick_clock& clock, bool writable);

  group_config config_;
  group::group_memory memory_;
  os::mapping map_;
  os::fd file_;
  std::uint64_t blocks_offset_ = 0;
  std::uint64_t reader_entry_ = 0;
  std::string path_;
  os::file_id id_;
  std::atomic<bool> lost_{false};
};

/// Announces a new lane for all groups of its stream, before the first message is published to it.
/// Doing so twice is harmless.
/// Errors: no_space (a descriptor, memory): not all groups were done
result<void> announce_groups(const std::string& stream_directory, const stream_facts& stream,
                             std::uint32_t lane);

}  // namespace bus::registry
