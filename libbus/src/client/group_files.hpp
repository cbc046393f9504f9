#pragma once
/// group_files: the files of a stream's groups, `streams/S/groups/G`: built complete, checked when
/// opened.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <bus/group.hpp>

#include "client/stream_files.hpp"
#include "group/group_memory.hpp"
#include "os/clock.hpp"
#include "os/fd.hpp"
#include "os/mapping.hpp"
#include "ring/pin.hpp"

namespace bus::client {

/// Subjects of dead-letter streams begin with it.
inline constexpr std::string_view dead_letter_subjects = "_dlq.";

std::string groups_path(const std::string& stream_directory);
std::string group_path(const std::string& stream_directory, std::string_view name);

/// Each field that cannot be meant, by name.
/// Errors: invalid_argument
result<void> check_group(const group_config& config, const stream_config& stream);

/// Names. A failure to look is not an empty answer.
result<std::vector<std::string>> list_groups(const std::string& stream_directory);

/// REQUIRES: the lock of changes.
/// Errors: conflict, no_space, permission
result<void> create_group_file(const std::string& stream_directory, const stream_facts& stream,
                               const group_config& config, std::uint64_t bus_id);

/// A group's file, mapped.
class group_map {
 public:
  /// Errors: not_found, corrupt, unsupported, permission, no_space
  static result<std::shared_ptr<group_map>> open(const std::string& stream_directory,
                                                 const stream_facts& stream, std::string_view name,
                                                 const os::tick_clock& clock);

  const group_config& config() const noexcept { return config_; }
  /// One per user: it notes what is broken.
  group::group_memory memory() const noexcept { return memory_; }
  layout::group_header& header() const noexcept { return *memory_.header; }
  /// As it stands in readers tables.
  std::uint64_t reader_entry() const noexcept { return reader_entry_; }
  ring::pin_words& pin(std::uint32_t lane) const noexcept {
    return reinterpret_cast<ring::pin_words*>(memory_.pins)[lane];
  }
  /// More of the arena gets memory behind it. Answers the first block that is new, and how many.
  /// REQUIRES: not under the group's lock.
  /// Errors: no_space
  result<std::uint32_t> reserve_blocks(std::uint32_t from, std::uint32_t count) const;
  /// As of a lane.
  bool has_file() const noexcept { return os::still_names(path_, id_); }
  bool is_lost() const noexcept { return lost_.load(); }
  void note_lost() noexcept { lost_.store(true); }

 private:
  static result<std::shared_ptr<group_map>> open_file(const std::string& stream_directory,
                                                      const stream_facts& stream,
                                                      std::string_view name,
                                                      const os::tick_clock& clock);

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

/// What a publisher needs to know of a group: its pins.
class group_pins {
 public:
  /// The group that stands in a readers table as `entry`. Null and no failure: there is none any
  /// more.
  static std::shared_ptr<const group_pins> find(const std::string& stream_directory,
                                                std::uint64_t entry, bool& surely_dead);
  const ring::pin_words& pin(std::uint32_t lane) const noexcept {
    return reinterpret_cast<const ring::pin_words*>(map_.data() + layout::group_pins_offset)[lane];
  }
  const std::string& name() const noexcept { return name_; }
  /// Has nobody been there for longer than the group's idle_release, as far as can be seen from
  /// here?
  bool seems_idle(const os::tick_clock& clock) const noexcept;

 private:
  os::mapping map_;
  std::string name_;
};

/// A lane that is new is announced for all groups of its stream, before anything is published to
/// it. Once is enough, twice is no harm.
/// Errors: no_space (a descriptor, memory): not for all
result<void> announce_groups(const std::string& stream_directory, const stream_facts& stream,
                             std::uint32_t lane);

}  // namespace bus::client
