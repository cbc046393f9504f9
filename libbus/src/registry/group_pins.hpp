#pragma once
/// group_pins: what publishers need of the groups of a stream: how far each group has read.
///
/// Threads    one

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <bus/error.hpp>

#include "layout/group.hpp"
#include "os/clock.hpp"
#include "os/mapping.hpp"
#include "ring/pin.hpp"

namespace bus::registry {

/// The part of a group that publishers need: its pins.
class group_pins {
 public:
  /// Errors: not_found, corrupt, permission, no_space
  static result<std::shared_ptr<const group_pins>> open(const std::string& stream_directory,
                                                        const std::string& name);
  std::uint64_t reader_entry() const noexcept;
  const ring::pin_words& pin(std::uint32_t lane) const noexcept {
    return reinterpret_cast<const ring::pin_words*>(map_.data() + layout::group_pins_offset)[lane];
  }
  const std::string& name() const noexcept { return name_; }
  /// True if the group seems to have had no consumer for longer than its idle_release.
  bool seems_idle(const os::tick_clock& clock) const noexcept;

 private:
  os::mapping map_;
  std::string name_;
};

/// Finds groups by their entries in readers tables. All groups of the stream are opened at the
/// first entry, and again at an entry that is not found: its group may be newer.
class group_finder {
 public:
  explicit group_finder(std::string stream_directory) : directory_(std::move(stream_directory)) {}
  /// Null: `surely_dead` if no such group exists; otherwise it cannot be read now.
  std::shared_ptr<const group_pins> find(std::uint64_t entry, bool& surely_dead);

 private:
  std::string directory_;
  std::map<std::uint64_t, std::shared_ptr<const group_pins>> groups_;  // by entry
};

}  // namespace bus::registry
