#pragma once
/// message: a view of one received message. Copies nothing.
///
/// Threads    belongs to the subscriber that delivered it
/// Lifetime   until the callback returns, or the subscriber's next call; text and payload with it
/// Cost       accessors are loads; subject() is one table look-up; publish_time() a multiplication

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <bus/export.hpp>

namespace bus {

/// A header of a message: UTF-8 or any bytes. A key has 1-255 bytes; the headers of a message have
/// at most 32 KiB together.
struct header {
  std::string_view key;
  std::string_view value;
};

namespace detail {
struct source;  // one lane of a subscriber
struct claim_feed;
}  // namespace detail

class message {
 public:
  std::span<const std::byte> payload() const noexcept { return {payload_data(), payload_bytes()}; }
  std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(payload_data()), payload_bytes()};
  }
  std::size_t size() const noexcept { return payload_bytes(); }

  /// Rises by one with each message of the lane; never used twice.
  std::uint64_t sequence() const noexcept { return sequence_; }
  BUS_EXPORT std::string_view subject() const noexcept;
  BUS_EXPORT std::string_view stream() const noexcept;
  BUS_EXPORT std::uint32_t lane() const noexcept;
  std::uint32_t publisher_id() const noexcept {
    return static_cast<std::uint32_t>(origin_ >> 32) & 0x7fffffffu;
  }

  /// Wall-clock time of publishing, ns precision. It is the same in every process, and never
  /// changes. A step of the clock shows only in messages stamped at least 3 s after it.
  BUS_EXPORT std::chrono::system_clock::time_point publish_time() const noexcept;
  /// Time since publishing, on the clock that stamped it: unaffected by clock steps. Of a message
  /// replayed from a log: by the wall clock. Spins until the bus is 10 ms old.
  BUS_EXPORT std::chrono::nanoseconds age() const noexcept;
  /// The raw stamp: cycle counter or CLOCK_BOOTTIME ns, by the clock of the bus; of a message
  /// replayed from a log: CLOCK_REALTIME ns.
  std::uint64_t publish_ticks() const noexcept { return ticks_; }

  /// The value of the first header with exactly this key.
  BUS_EXPORT std::optional<std::string_view> header(std::string_view key) const noexcept;
  BUS_EXPORT std::vector<bus::header> headers() const;
  bool has_headers() const noexcept { return (flags() & 0x40u) != 0; }

  /// False when the message was delivered in place from an overwriting ring and has since been
  /// overwritten: discard whatever was read from payload() before this call.
  BUS_EXPORT bool still_valid() const noexcept;

  /// Early reading: bytes of payload() written so far; size() when the message is complete.
  BUS_EXPORT std::size_t available() const noexcept;
  /// Waits until at least `bytes` are written: spins for 50 us without progress, then sleeps
  /// between checks. False: the publisher died, so the rest never comes; `wait` has passed; or
  /// stop() of the subscriber was called.
  BUS_EXPORT bool wait_available(
      std::size_t bytes,
      std::chrono::nanoseconds wait = std::chrono::nanoseconds::max()) const noexcept;
  bool complete() const noexcept { return (shape_ & flag_open) == 0 || available() == size(); }

 private:
  friend class subscriber;
  friend struct detail::source;
  friend struct subscriber_core;
  friend struct consumer_core;
  friend struct detail::claim_feed;

  // The words of the record as read; docs/format/ring.md.
  static constexpr unsigned header_shift = 32, flags_shift = 48;
  static constexpr std::uint64_t flag_logged = 1ull << 61,  // the stamp is wall-clock time
      flag_open = 1ull << 62,
                                 flag_in_place = 1ull << 63;  // ours, unused in records

  const std::byte* payload_data() const noexcept { return area_ + header_bytes(); }
  std::uint32_t payload_bytes() const noexcept { return static_cast<std::uint32_t>(shape_); }
  std::uint16_t header_bytes() const noexcept {
    return static_cast<std::uint16_t>(shape_ >> header_shift);
  }
  std::uint16_t flags() const noexcept { return static_cast<std::uint16_t>(shape_ >> flags_shift); }
  std::uint32_t subject_id() const noexcept { return static_cast<std::uint32_t>(origin_); }

  const std::byte* area_;  // headers, then the payload
  const detail::source* source_;
  std::uint64_t sequence_;
  std::uint64_t shape_;
  std::uint64_t origin_;
  std::uint64_t ticks_;
  std::uint64_t position_;
};

/// Why messages are missing.
enum class gap_reason : std::uint8_t {
  overwritten,  ///< overwritten in the ring before they were read
  /// Shared memory was lost (power loss, reboot) before they were on disk. None of them was
  /// confirmed `disk`; `count` is an upper bound.
  unsynced,
  corrupt,     ///< the log is damaged there; `bus stream verify` shows it
  not_logged,  ///< they could not be written to the log
  removed,     ///< removed by retention or a purge
};
BUS_EXPORT const char* gap_reason_name(gap_reason reason) noexcept;

/// Messages that a subscriber did not get.
struct gap {
  std::string_view stream;
  std::uint32_t lane = 0;
  std::uint64_t first = 0;  ///< first lost sequence
  /// Exact for the lane; with a pattern, an upper bound of the matching messages.
  std::uint64_t count = 0;
  gap_reason reason = gap_reason::overwritten;
};

}  // namespace bus
