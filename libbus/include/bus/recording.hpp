#pragma once
/// recording: messages in one portable file, with subject, headers and time, each with a checksum.
/// Reading it needs no bus.
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

/// A message of a recording; valid until the next call of next().
struct recorded {
  std::string_view subject;
  std::span<const std::byte> payload;
  std::vector<header> headers;
  std::chrono::system_clock::time_point time;
  std::uint64_t number = 0;  ///< position in the recording, from 1

  std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

class BUS_EXPORT recording_writer {
 public:
  /// Until close() the file is named PATH.part.
  /// Errors: conflict (PATH exists, or PATH.part: another recorder writes it, or was killed),
  ///         permission, no_space
  static result<recording_writer> create(const std::string& path);
  recording_writer(recording_writer&&) noexcept;
  recording_writer& operator=(recording_writer&&) noexcept;
  /// Without close(), the recorded messages stay in PATH.part, which recording_reader reports as
  /// having no end. Removes a PATH.part without any message.
  ~recording_writer();

  /// Errors: no_space, too_large (payload above 1 GiB), invalid_argument (subject, headers), system
  result<void> add(const message& from);
  result<void> add(std::string_view subject, std::span<const std::byte> payload,
                   std::span<const header> headers, std::chrono::system_clock::time_point time);
  /// Syncs all added messages to PATH.part. A recorder that is killed loses at most the messages
  /// added since.
  result<void> flush();
  /// Writes the end, syncs, and renames the file to PATH. After a failure, what was written stays
  /// in PATH.part.
  result<void> close();
  std::uint64_t count() const noexcept;    ///< messages added
  std::uint64_t flushed() const noexcept;  ///< of these, written to the file

 private:
  struct state;
  explicit recording_writer(std::unique_ptr<state> made) noexcept;
  std::unique_ptr<state> state_;
};

class BUS_EXPORT recording_reader {
 public:
  /// Errors: not_found, corrupt (not a recording), unsupported (version)
  static result<recording_reader> open(const std::string& path);
  recording_reader(recording_reader&&) noexcept;
  recording_reader& operator=(recording_reader&&) noexcept;
  ~recording_reader();

  /// The next message. Empty: the end, or failure(). Damaged messages are skipped and counted. At
  /// the end failure() is `corrupt`, unless every announced message was returned.
  std::optional<recorded> next();
  std::uint64_t damaged() const noexcept;  ///< messages that are missing because of damage
  /// The number of messages that the end of the recording announces. Empty: not yet read, or the
  /// recording has no end.
  std::optional<std::uint64_t> announced() const noexcept;
  const std::optional<error>& failure() const noexcept;

 private:
  struct state;
  explicit recording_reader(std::unique_ptr<state> made) noexcept;
  std::unique_ptr<state> state_;
};

}  // namespace bus
