#pragma once
/// error: what went wrong, why, and the command that fixes it. Operating errors only: outcomes of
/// the hot path are small enums.
///
/// Threads    values
/// Cost       text is built when something failed, never before

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <bus/export.hpp>

namespace bus {

enum class errc : std::uint8_t {
  ok = 0,
  invalid_argument,  ///< a name, pattern, size or option that cannot be meant
  not_found,         ///< no such bus, stream, subject or process
  conflict,          ///< it exists already, differently; or somebody else holds it
  permission,        ///< the kernel, or the owner of a segment, said no
  timed_out,         ///< the deadline passed; the text names who was waited for
  unavailable,       ///< needs something that does not run, or that this machine lacks
  busy,              ///< a live process holds it: named in the text
  no_space,          ///< shared memory, or a fixed table, is full
  too_large,         ///< message larger than the stream allows
  type_mismatch,     ///< typed subject with another type or layout
  would_deadlock,    ///< the caller waits for space that only the caller can free
  corrupt,           ///< shared memory or a file that no library wrote like this
  unsupported,       ///< another layout version, architecture or feature
  forked,            ///< handle of the parent used in a forked child
  closed,            ///< handle or stream was closed or removed
  system,            ///< any other failure of the operating system: os_errno
};

/// Short stable name: "not_found".
BUS_EXPORT const char* errc_name(errc code) noexcept;

/// Exit status of the command line for this error (docs/man/bus.1): 1 failure, 2 usage, 3 not
/// found, 4 conflict, 5 permission, 6 timeout, 7 unavailable, 9 corruption.
BUS_EXPORT int exit_status(errc code) noexcept;

struct error {
  errc code = errc::system;
  int os_errno = 0;
  std::string what;  ///< what failed, with the name of the thing
  std::string why;   ///< the cause; who holds it
  std::string fix;   ///< what to do, a command where there is one; may be empty

  /// "what: why (fix: ...)" in one line.
  BUS_EXPORT std::string message() const;
};

/// A value or an error; a small subset of std::expected.
template <class T>
class [[nodiscard]] result {
 public:
  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(bus::error failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  explicit operator bool() const noexcept { return state_.index() == 0; }
  bool has_value() const noexcept { return state_.index() == 0; }
  /// Pre: has_value()
  T& value() noexcept { return *std::get_if<0>(&state_); }
  const T& value() const noexcept { return *std::get_if<0>(&state_); }
  T& operator*() noexcept { return value(); }
  const T& operator*() const noexcept { return value(); }
  T* operator->() noexcept { return &value(); }
  const T* operator->() const noexcept { return &value(); }
  /// Pre: !has_value()
  bus::error& error() noexcept { return *std::get_if<1>(&state_); }
  const bus::error& error() const noexcept { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, bus::error> state_;
};

template <>
class [[nodiscard]] result<void> {
 public:
  result() = default;
  result(bus::error failure) : failure_(std::move(failure)) {}

  explicit operator bool() const noexcept { return !failure_; }
  bool has_value() const noexcept { return !failure_; }
  bus::error& error() noexcept { return *failure_; }
  const bus::error& error() const noexcept { return *failure_; }

 private:
  std::optional<bus::error> failure_;
};

}  // namespace bus
