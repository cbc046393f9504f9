#pragma once
/// recording: messages in one portable file, with subject, headers and time, each with a checksum.
/// It needs no bus to be read.
///
/// Threads    one thread per object
/// Format     docs/format/log.md: one segment whose records carry their subjects

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <bus/error.hpp>
#include <bus/message.hpp>

namespace bus {

/// A message of a recording; valid until the next call.
struct recorded {
  std::string_view subject;
  std::span<const std::byte> payload;
  std::vector<header> headers;
  std::chrono::system_clock::time_point time;
  std::uint64_t number = 0;  ///< in the recording, from 1

  std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

class BUS_EXPORT recording_writer {
 public:
  /// Until close() the file is PATH.part.
  /// Errors: conflict (it exists, or its .part does: another recorder writes it, or was killed),
  /// permission, no_space
  static result<recording_writer> create(const std::string& path);
  recording_writer(recording_writer&&) noexcept;
  recording_writer& operator=(recording_writer&&) noexcept;
  /// Without close() what was recorded stays in PATH.part, and recording_reader says that it has no
  /// end; a .part without any message is removed.
  ~recording_writer();

  /// Errors: no_space, too_large (above 1 GiB), system
  result<void> add(const message& from);
  result<void> add(std::string_view subject, std::span<const std::byte> payload,
                   std::span<const header> headers, std::chrono::system_clock::time_point time);
  /// What was added so far is on disk, in PATH.part: a recorder that is killed loses at most what
  /// it added since.
  result<void> flush();
  /// On disk, under its name. After a failure what there is stays in PATH.part.
  result<void> close();
  std::uint64_t count() const noexcept;    ///< messages added
  std::uint64_t flushed() const noexcept;  ///< of them written to the file

 private:
  struct state;
  explicit recording_writer(std::unique_ptr<state> made) noexcept;
  std::unique_ptr<state> state_;
};

class BUS_EXPORT recording_reader {
 public:
  /// Errors: not_found, corrupt (no recording), unsupported (version)
  static result<recording_reader> open(const std::string& path);
  recording_reader(recording_reader&&) noexcept;
  recording_reader& operator=(recording_reader&&) noexcept;
  ~recording_reader();

  /// Empty: the end, or failure(). What is damaged is passed over and counted. At the end,
  /// failure() is `corrupt` unless every message that the recording announces was handed out.
  std::optional<recorded> next();
  std::uint64_t damaged() const noexcept;  ///< messages that are missing for damage
  /// How many messages the recording says it has; known at its end. Empty: it has no end.
  std::optional<std::uint64_t> announced() const noexcept;
  const std::optional<error>& failure() const noexcept;

 private:
  struct state;
  explicit recording_reader(std::unique_ptr<state> made) noexcept;
  std::unique_ptr<state> state_;
};

}  // namespace bus
