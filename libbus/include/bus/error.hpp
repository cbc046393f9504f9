#pragma once
/// error: what failed, why, and the command that fixes it. For operating errors only: the hot path
/// returns small enums.
///
/// Threads    plain values
/// Cost       text is built only after a failure

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <bus/export.hpp>

namespace bus {

enum class errc : std::uint8_t {
  ok = 0,
  invalid_argument,  ///< invalid name, pattern, size or option
  not_found,         ///< no such bus, stream, subject or process
  conflict,          ///< it exists and differs, or another process holds it
  permission,        ///< denied by the kernel or by the owner of a segment
  timed_out,         ///< the deadline passed; the text names the process waited for
  unavailable,       ///< a needed process is not running, or this machine lacks a feature
  busy,              ///< a live process holds it; the text names it
  no_space,          ///< shared memory, a disk or a fixed table is full
  too_large,         ///< the message is larger than the stream allows
  type_mismatch,     ///< the typed subject has another type or layout
  would_deadlock,    ///< the caller waits for space that only the caller can free
  corrupt,           ///< shared memory or a file has contents that no library writes
  unsupported,       ///< another layout version, architecture or feature
  forked,            ///< a handle of the parent was used in a forked child
  closed,            ///< a handle or stream was closed, sealed or removed
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
  std::string what;  ///< what failed, with the name of the object
  std::string why;   ///< the cause; which process holds it
  std::string fix;   ///< the remedy, a command where there is one; may be empty

  /// "what: why (fix: ...)" on one line.
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
