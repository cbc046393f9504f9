#pragma once
/// dead_letters: the writing side of a group's dead-letter stream. Its lane has one writer, the
/// holder of the group's lock; the lane's own lock is never taken.
///
/// A dead letter is the message as it was, with the record of its death as headers. Only dead
/// letters that were dropped by hand are overwritten: those above `dead_letters_floor` stay.
///
/// REQUIRES the group's lock for everything.

#include <functional>
#include <string>
#include <vector>

#include "group/core.hpp"
#include "layout/header_area.hpp"
#include "os/clock.hpp"
#include "ring/lane_writer.hpp"

namespace bus::group {

class dead_letters final : public dead_letter_sink {
 public:
  /// Text of a subject of the stream; empty: not known.
  using subject_text = std::function<std::string_view(std::uint32_t id)>;

  dead_letters(const group_memory& memory, const ring::lane_memory& lane,
               const os::tick_clock& clock, subject_text text);

  std::uint64_t next_seq() noexcept override;
  bool has_room(std::uint64_t record_bytes) noexcept override;
  void append(const dead_letter& l) noexcept override;
  std::byte* scratch(std::uint64_t bytes) noexcept override;

  /// Call it after a holder of the lock died.
  void repair() noexcept { writer_.repair(); }
  /// Position above every dead letter.
  std::uint64_t tail() noexcept;

 private:
  const group_memory& memory_;
  const os::tick_clock clock_;
  const subject_text text_;
  ring::lane_writer<sync::hardware> writer_;
  std::vector<std::byte> scratch_;
  std::vector<std::byte> area_;
};

const char* death_name(death why) noexcept;

}  // namespace bus::group
