#pragma once
/// publisher: writes messages to the stream that captures its subject. Not a queue: what a full
/// ring means is the stream's overflow policy.
///
/// Threads    one thread per object; distinct objects are independent
/// Processes  shared (default): any number per stream; exclusive: the sole writer of a lane
/// Cost       exclusive publish: no system call, no lock, no read-modify-write, no allocation,
///            O(payload). shared: the same inside a short critical section
/// Blocks     only on a stream with overflow=block, at most send_timeout; and for a lock holder
/// that is stopped
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
  dropped,         ///< overflow=drop_new and the ring was full; counted
  rejected,        ///< overflow=reject and the ring was full
  timed_out,       ///< overflow=block and send_timeout passed; last_error() names the reader
  would_deadlock,  ///< full because of a subscriber of this very thread
  too_large,
  busy,      ///< the lock is held by a live process that does not move: last_error() names it
  conflict,  ///< an exclusive publisher has the lane
  invalid,   ///< bad subject or headers
  type_mismatch,
  closed,  ///< the stream was removed, and no stream takes the subject now
  forked,
  unavailable,  ///< a log is behind, and no busd runs to write it
  no_space,     ///< the disk of the stream's log is full, or fails: last_error()
  unconfirmed,  ///< published, but its confirm did not come in time: it may still
  failed,       ///< anything else: last_error()
};

BUS_EXPORT const char* publish_status_name(publish_status status) noexcept;

struct [[nodiscard]] published {
  publish_status status = publish_status::ok;
  std::uint64_t sequence = 0;  ///< of the message, or the first of a batch; 0 unless ok

  explicit operator bool() const noexcept { return status == publish_status::ok; }
};

enum class publish_mode : std::uint8_t { shared, exclusive };

/// What a message has reached. Never claimed before it is true.
enum class confirm : std::uint8_t {
  none,    ///< nothing is waited for
  memory,  ///< in the ring: survives the death of any process. What every `ok` means
  disk,    ///< synced: survives power loss
};

/// A message to ask about later.
struct receipt {
  std::uint32_t lane = 0;
  std::uint64_t sequence = 0;
};

struct publisher_options {
  publish_mode mode = publish_mode::shared;
  std::string name = {};  ///< shown by `bus ps`
  /// of a stream with several fixed lanes; default: by key, else spread by publisher
  std::optional<std::uint32_t> lane = {};
  std::optional<std::chrono::nanoseconds> send_timeout = {};  ///< instead of the stream's
  /// Payloads of at least this many bytes may be read while they are being written. 0: never.
  /// Exclusive publishers only.
  std::size_t early_bytes = 0;
  /// `disk`: publish answers when the message is on disk, or after send_timeout `unconfirmed`.
  bus::confirm confirm = bus::confirm::memory;
};

/// One message of a batch.
struct outgoing {
  std::string_view subject;  ///< empty: the publisher's own subject
  std::span<const std::byte> payload;
  std::span<const header> headers = {};
};

struct publisher_core;

/// A subject, and what a publisher found out about it: publishing to it again needs no look-up, how
/// many there are beside it. Keep one beside each instrument, sensor, order book.
/// Threads    those of the publisher
class known_subject {
 public:
  explicit known_subject(std::string text) : text_(std::move(text)) {}
  std::string_view text() const noexcept { return text_; }

 private:
  friend struct publisher_core;
  std::string text_;
  std::uint64_t acquaintance_ = 0;  // of the publisher that met it last; 0: nobody
  std::uint32_t id_ = 0;
};

/// Space in the ring (exclusive) or in a private buffer (shared) to build a payload in place.
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
  /// Publishes all of it. A loan is spent after one commit; anything published since it was made
  /// spends it, too.
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

  /// Publishes to any subject of the same stream; one of another stream is `invalid`.
  /// Cost: one more hash look-up.
  published publish_to(std::string_view subject, std::span<const std::byte> payload,
                       std::span<const header> headers = {}) noexcept;
  published publish_to(std::string_view subject, std::string_view text,
                       std::span<const header> headers = {}) noexcept {
    return publish_to(subject, std::as_bytes(std::span(text.data(), text.size())), headers);
  }

  /// The same; an exclusive publisher needs no look-up from the second time on.
  published publish_to(known_subject& subject, std::span<const std::byte> payload) noexcept;
  published publish_to(known_subject& subject, std::string_view text) noexcept {
    return publish_to(subject, std::as_bytes(std::span(text.data(), text.size())));
  }

  /// All of them, in order, visible at once, or none. At most 1000 messages and a quarter of the
  /// ring.
  published publish_batch(std::span<const outgoing> messages) noexcept;
  /// The same for payloads to the publisher's own subject.
  published publish_batch(std::span<const std::span<const std::byte>> payloads) noexcept;

  /// Space for `bytes` of payload. Status and error as of publish.
  result<bus::loan> loan(std::size_t bytes) noexcept;

  /// Non-blocking: would a message of this size go through now?
  bool would_block(std::size_t bytes) noexcept;

  /// Of the last message that was published; of a batch the last one.
  receipt last_receipt() const noexcept;
  /// Cost: one load.
  bool is_confirmed(const receipt& of, confirm level = confirm::disk) const noexcept;
  /// Waits until it is on disk.
  /// Errors: timed_out, unavailable (no busd), no_space (the disk is full, or fails),
  /// invalid_argument (the stream's messages are never confirmed as `disk`)
  result<void> wait_confirmed(const receipt& of, std::chrono::nanoseconds wait);
  /// `fn` is called by poll_confirms() when the message is on disk. Receipts of one lane in order.
  void when_confirmed(const receipt& of, std::function<void(const receipt&)> fn);
  /// Calls what is due. Returns how many; never blocks.
  std::size_t poll_confirms();

  /// Why the last call did not answer ok: for people.
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
