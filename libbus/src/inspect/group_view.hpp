#pragma once
/// group_view: one group as an observer sees it. Consumers do not notice the observer.
///
/// Invariants
///   LOOK-1  Nothing shared is written and no lock is taken: the group's file is mapped for reading
///           only.
///   LOOK-2  A message is reported only if its slot did not change while it was read.
///   LOOK-3  Counts are taken between two equal fingerprints of the group where that is possible.
///           A group that is too busy for it gives a blurred picture: `is_consistent` is false.
///
/// Threads    one
/// Cost       open: maps the group's file. A look: one load per slot that was ever used, and one
///            record header per pending message.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include <bus/group.hpp>

#include "group/group_memory.hpp"
#include "layout/header_area.hpp"
#include "layout/record.hpp"
#include "os/clock.hpp"
#include "registry/group_files.hpp"
#include "registry/session_core.hpp"
#include "ring/lane_reader.hpp"
#include "subject/subject.hpp"

namespace bus::inspect {

class group_view {
 public:
  /// Errors: not_found, corrupt, unsupported, permission, no_space
  static result<std::unique_ptr<group_view>> open(session_core& session, std::string_view stream,
                                                  std::string_view group);

  group_info describe();
  /// Ordered by lane and sequence.
  /// Errors: corrupt (the group is damaged)
  result<std::vector<pending_message>> pending(std::size_t max);
  /// The next unclaimed messages, in the order in which they are claimed.
  std::vector<peeked_message> peek(std::size_t max);
  /// Errors: corrupt
  result<std::vector<dead_letter>> dead_letters(std::uint64_t from, std::size_t max);

 private:
  struct seen_slot {
    layout::slot_status status;
    std::uint64_t origin = 0, since = 0;
    std::optional<std::uint64_t> due;
    std::uint64_t skipped = 0;  // messages that a skipped key stands for
    layout::record_shape shape{};
    std::uint32_t subject_id = 0;
    std::uint64_t published = 0;  // ticks
  };
  struct entered_lane {
    std::shared_ptr<registry::lane_map> map;
    group::lane_cursor cursor;  // as it was when the look began; seq 0: the lane is not entered
  };

  group_view(session_core& session, std::shared_ptr<registry::stream_handle> stream,
             std::shared_ptr<registry::group_map> map);
  result<void> open_lanes();
  result<void> open_dead_letters();

  void read_cursors() noexcept;
  std::uint64_t fingerprint() const noexcept;
  std::uint32_t slots_to_read() const noexcept;
  std::optional<seen_slot> read_slot(std::uint32_t index) const noexcept;
  bool read_record(std::uint64_t origin, std::uint64_t location, seen_slot& into) const noexcept;

  void count(group_info& info);
  void count_slots(group_info& info, std::uint64_t& oldest_ticks) const;
  std::uint64_t count_lanes(group_info& info, std::uint64_t& oldest_ticks);
  void describe_consumers(group_info& info) const;
  std::string holder_of(const layout::group_member& member) const;

  bool matches(const ring::record_view& view, const layout::header_area& area,
               std::string& subject) const;
  bool headers_match(
      const std::vector<std::pair<std::string, std::string>>& headers) const noexcept;
  void peek_lane(std::uint32_t index, std::size_t max, std::uint64_t looked_at,
                 std::vector<std::pair<std::uint64_t, peeked_message>>& into) const;

  std::uint64_t now() const noexcept { return clock_.now(); }
  std::chrono::nanoseconds time(std::uint64_t ticks) const noexcept {
    return std::chrono::nanoseconds(
        static_cast<std::int64_t>(static_cast<double>(ticks) * ns_per_tick_));
  }
  const group_config& config() const noexcept { return map_->config(); }
  const layout::group_header& header() const noexcept { return map_->header(); }

  session_core& session_;
  std::shared_ptr<registry::stream_handle> stream_;
  std::shared_ptr<registry::group_map> map_;
  group::group_memory memory_;
  os::tick_clock clock_;
  const double ns_per_tick_;  // taken once: times that are compared must not differ by it
  std::vector<subject::pattern> filter_;
  std::vector<entered_lane> lanes_;
  std::shared_ptr<registry::stream_handle> dead_letter_stream_;
  std::shared_ptr<registry::lane_map> dead_letter_lane_;  // null: nothing was ever written there
};

}  // namespace bus::inspect
