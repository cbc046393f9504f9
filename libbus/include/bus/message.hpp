#pragma once
/// message: a view of one received message. Copies nothing.
///
/// Threads    belongs to the subscriber that delivered it
/// Lifetime   until the callback returns, or the subscriber's next call; text and payload die with
/// it
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

/// Headers of a message to send: key and value, both UTF-8 or bytes; 1-255 bytes of key, all
/// together at most 32 KiB.
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

  /// Rises by one per message of the lane; never used twice.
  std::uint64_t sequence() const noexcept { return sequence_; }
  BUS_EXPORT std::string_view subject() const noexcept;
  BUS_EXPORT std::string_view stream() const noexcept;
  BUS_EXPORT std::uint32_t lane() const noexcept;
  std::uint32_t publisher_id() const noexcept {
    return static_cast<std::uint32_t>(origin_ >> 32) & 0x7fffffffu;
  }

  /// Wall clock of the publisher's host, ns precision. A message has the same one in all processes,
  /// and for ever; a step of the clock shows in messages from 3 s later on.
  BUS_EXPORT std::chrono::system_clock::time_point publish_time() const noexcept;
  /// Time since it was published, on the same clock that stamped it: unaffected by clock steps.
  BUS_EXPORT std::chrono::nanoseconds age() const noexcept;
  /// The raw stamp: cycle counter or CLOCK_BOOTTIME ns, as the bus says; of a replayed message
  /// CLOCK_REALTIME ns.
  std::uint64_t publish_ticks() const noexcept { return ticks_; }

  /// The value of a header, by exact key.
  BUS_EXPORT std::optional<std::string_view> header(std::string_view key) const noexcept;
  BUS_EXPORT std::vector<bus::header> headers() const;
  bool has_headers() const noexcept { return (flags() & 0x40u) != 0; }

  /// False when the message lies in an overwriting ring, was asked for in place, and has been
  /// overwritten since: whatever was read from payload() before must be thrown away.
  BUS_EXPORT bool still_valid() const noexcept;

  /// Early reading: bytes of payload() that are there already; size() when the message is complete.
  BUS_EXPORT std::size_t available() const noexcept;
  /// Waits until at least `bytes` are there: spins for some microseconds, then sleeps in between.
  /// False: the publisher died, and the rest will never come; `wait` is over; or stop() of the
  /// subscriber was called.
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

  // The record's words as they were read; docs/format/ring.md.
  static constexpr unsigned header_shift = 32, flags_shift = 48;
  static constexpr std::uint64_t flag_logged = 1ull << 61,  // its stamp is the wall clock
      flag_open = 1ull << 62,
                                 flag_in_place = 1ull << 63;  // of our own, unused in records

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
  overwritten,  ///< the ring went on before they were read
  /// shared memory was lost (power loss, reboot) before they were on disk: none of them was
  /// confirmed `disk`, and `count` is the most that there can have been
  unsynced,
  corrupt,     ///< the log is damaged there: busd has reported it, bus stream verify shows it
  not_logged,  ///< they could not be written to disk
  removed,     ///< by retention, or a purge
};
BUS_EXPORT const char* gap_reason_name(gap_reason reason) noexcept;

/// Messages that a subscriber did not get.
struct gap {
  std::string_view stream;
  std::uint32_t lane = 0;
  std::uint64_t first = 0;  ///< first lost sequence
  /// exact for the lane; for a pattern an upper bound of what would have matched
  std::uint64_t count = 0;
  gap_reason reason = gap_reason::overwritten;
};

}  // namespace bus
