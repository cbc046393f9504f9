#pragma once
/// publisher: writes messages to the stream that captures its subject. The overflow policy of the
/// stream decides what happens when the ring is full.
///
/// Threads    one thread per object; distinct objects are independent
/// Processes  shared (default): any number per stream; exclusive: the sole writer of a lane
/// Cost       exclusive publish: no system call, no lock, no read-modify-write, no allocation,
///            O(payload). shared: the same inside a short critical section
/// Blocks     for space, only with overflow=block, at most send_timeout; for a lock holder that is
///            stopped, at most max(send_timeout, 100 ms); with confirm::disk, for the sync
/// Lifetime   the session may be destroyed first

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <bus/error.hpp>
#include <bus/message.hpp>

namespace bus {

enum class publish_status : std::uint8_t {
  ok,
  dropped,         ///< overflow=drop_new and the ring is full; counted
  rejected,        ///< overflow=reject and the ring is full
  timed_out,       ///< overflow=block and send_timeout passed; last_error() names the reader
  would_deadlock,  ///< the ring is full because of a subscriber of this thread
  too_large,
  busy,      ///< a live process holds the lane's lock; last_error() names it
  conflict,  ///< an exclusive publisher holds the lane
  invalid,   ///< bad subject or headers
  type_mismatch,
  closed,  ///< the stream was removed or is sealed: last_error()
  forked,
  unavailable,  ///< the ring is full of unlogged messages, and no busd runs
  no_space,     ///< the disk of the stream's log is full or failing: last_error()
  unconfirmed,  ///< published, but not confirmed in time; it may reach the disk yet
  failed,       ///< anything else: last_error()
};

BUS_EXPORT const char* publish_status_name(publish_status status) noexcept;

struct [[nodiscard]] published {
  publish_status status = publish_status::ok;
  std::uint64_t sequence = 0;  ///< of the message, or the first of a batch; 0 if not published

  explicit operator bool() const noexcept { return status == publish_status::ok; }
};

enum class publish_mode : std::uint8_t { shared, exclusive };

/// How safely a message is stored.
enum class confirm : std::uint8_t {
  none,    ///< do not wait
  memory,  ///< in the ring: survives the death of any process; every `ok` means this
  disk,    ///< synced: survives power loss
};

/// Identifies a published message, to ask for its confirm.
struct receipt {
  std::uint32_t lane = 0;
  std::uint64_t sequence = 0;
};

struct publisher_options {
  publish_mode mode = publish_mode::shared;
  std::string name = {};  ///< shown by `bus ps`
  /// Of a stream with several fixed lanes. Default: by the header `key`, else by publisher id.
  std::optional<std::uint32_t> lane = {};
  std::optional<std::chrono::nanoseconds> send_timeout = {};  ///< overrides the stream's
  /// Subscribers may read payloads of at least this many bytes while they are being written. 0:
  /// never. Exclusive publishers only.
  std::size_t early_bytes = 0;
  /// `disk`: publish returns when the message is on disk, or `unconfirmed` after send_timeout.
  bus::confirm confirm = bus::confirm::memory;
};

/// One message of a batch.
struct outgoing {
  std::string_view subject;  ///< empty: the publisher's own subject
  std::span<const std::byte> payload;
  std::span<const header> headers = {};
};

struct publisher_core;

/// A subject with the id that a publisher resolved for it: publishing to it again needs no look-up,
/// however many subjects there are. Keep one per instrument, sensor, order book.
/// Threads    those of the publisher
class known_subject {
 public:
  explicit known_subject(std::string text) : text_(std::move(text)) {}
  std::string_view text() const noexcept { return text_; }

 private:
  friend struct publisher_core;
  std::string text_;
  std::uint64_t acquaintance_ = 0;  // of the publisher that resolved it last; 0: none
  std::uint32_t id_ = 0;
};

/// Space in the ring (exclusive) or in a private buffer (shared) in which to build a payload.
/// Lifetime   one per publisher at a time; valid until commit() or destruction, which abandons it
class loan {
 public:
  loan(loan&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)), data_(other.data_), ticket_(other.ticket_) {}
  loan& operator=(loan&& other) noexcept {
    core_ = std::exchange(other.core_, nullptr);
    data_ = other.data_;
    ticket_ = other.ticket_;
    return *this;
  }
  ~loan() = default;

  /// Aligned to 32 bytes.
  std::span<std::byte> data() const noexcept { return data_; }
  /// Publishes all of data(). `invalid` if it was committed before, or if anything was published
  /// since it was made.
  BUS_EXPORT published commit() noexcept;

 private:
  friend struct publisher_core;
  loan(publisher_core* core, std::span<std::byte> data, std::uint64_t ticket)
      : core_(core), data_(data), ticket_(ticket) {}
  publisher_core* core_;
  std::span<std::byte> data_;
  std::uint64_t ticket_;
};

class BUS_EXPORT publisher {
 public:
  publisher(publisher&&) noexcept;
  publisher& operator=(publisher&&) noexcept;
  ~publisher();

  /// Publishes to the publisher's own subject.
  published publish(std::span<const std::byte> payload) noexcept;
  published publish(std::string_view text) noexcept {
    return publish(std::as_bytes(std::span(text.data(), text.size())));
  }
  published publish(std::span<const std::byte> payload, std::span<const header> headers) noexcept;
  published publish(std::string_view text, std::span<const header> headers) noexcept {
    return publish(std::as_bytes(std::span(text.data(), text.size())), headers);
  }

  /// Publishes to any subject of the same stream; a subject of another stream is `invalid`.
  /// Cost: one additional hash look-up.
  published publish_to(std::string_view subject, std::span<const std::byte> payload,
                       std::span<const header> headers = {}) noexcept;
  published publish_to(std::string_view subject, std::string_view text,
                       std::span<const header> headers = {}) noexcept {
    return publish_to(subject, std::as_bytes(std::span(text.data(), text.size())), headers);
  }

  /// The same, but an exclusive publisher needs no look-up from the second call on.
  published publish_to(known_subject& subject, std::span<const std::byte> payload) noexcept;
  published publish_to(known_subject& subject, std::string_view text) noexcept {
    return publish_to(subject, std::as_bytes(std::span(text.data(), text.size())));
  }

  /// Publishes all messages, in order and visible at once, or none. At most 1000 messages and a
  /// quarter of the ring; on a durable stream, also at most busd's --buffer-bytes.
  published publish_batch(std::span<const outgoing> messages) noexcept;
  /// The same for payloads to the publisher's own subject.
  published publish_batch(std::span<const std::span<const std::byte>> payloads) noexcept;

  /// Space for `bytes` of payload.
  /// Errors: those of publish, as error codes
  result<bus::loan> loan(std::size_t bytes) noexcept;

  /// True when the ring has no space for a message of this size now. Does not wait for space.
  bool would_block(std::size_t bytes) noexcept;

  /// The receipt of the last published message; of a batch, its last message.
  receipt last_receipt() const noexcept;
  /// True when the message has reached `level`.
  /// Cost: one load for the publisher's own lane
  bool is_confirmed(const receipt& of, confirm level = confirm::disk) const noexcept;
  /// Waits until the message is on disk.
  /// Errors: timed_out, unavailable (no busd), no_space (the disk is full or failing),
  ///         invalid_argument (the stream never confirms `disk`), forked
  result<void> wait_confirmed(const receipt& of, std::chrono::nanoseconds wait);
  /// poll_confirms() calls `fn` once the message is on disk; receipts of one lane in the order of
  /// registration.
  void when_confirmed(const receipt& of, std::function<void(const receipt&)> fn);
  /// Makes the calls that are due and returns how many. Never blocks.
  std::size_t poll_confirms();

  /// Why the last failed call failed, for people.
  error last_error() const;

  std::uint32_t id() const noexcept;
  std::string_view stream() const noexcept;
  std::string_view subject() const noexcept;
  std::uint32_t lane() const noexcept;

 private:
  friend class session;
  template <class T>
  friend class typed_publisher;
  explicit publisher(std::unique_ptr<publisher_core> core) noexcept;
  std::unique_ptr<publisher_core> core_;
};

}  // namespace bus
