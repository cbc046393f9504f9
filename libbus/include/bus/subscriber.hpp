#pragma once
/// subscriber: a live reader of every stream whose subjects match its patterns. No acknowledgement:
/// its position is its own.
///
/// Threads    one thread per object; stop() may be called from any thread or signal handler
/// Processes  reads shared memory that it cannot write; a slow subscriber delays publishers only on
/// streams with
///            overflow block, reject or drop_new, and only with gate = true
/// Cost       per message: one acquire load; no system call while there are messages; overwriting
/// streams copy the record
/// Lifetime   the session may be destroyed first

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <bus/error.hpp>
#include <bus/message.hpp>

namespace bus {

/// Where a subscriber starts on streams that exist when it subscribes. Streams made later are read
/// from their beginning.
struct start {
  enum class kind : std::uint8_t {
    from_new,
    from_all,
    from_last,
    from_sequence,
    from_time,
    from_last_per_subject
  };
  kind at = kind::from_new;
  std::uint64_t sequence = 0;
  std::chrono::system_clock::time_point time{};

  static start new_messages() noexcept { return {}; }  ///< published after subscribe returned
  static start all() noexcept {
    return {kind::from_all, 0, {}};
  }  ///< whatever the ring, or the stream's log, still has
  static start last() noexcept {
    return {kind::from_last, 0, {}};
  }  ///< the last matching message, of all streams and lanes, then new ones
  /// The last message of each matching subject, in the order of their sequences, then new ones:
  /// without a gap, and nothing twice.
  static start last_per_subject() noexcept { return {kind::from_last_per_subject, 0, {}}; }
  /// What is gone already is reported as a gap. Beyond the end: everything new, for a stream that
  /// was made anew counts from 1 again.
  static start by_sequence(std::uint64_t first) noexcept {
    return {kind::from_sequence, first, {}};
  }
  static start by_time(std::chrono::system_clock::time_point t) noexcept {
    return {kind::from_time, 0, t};
  }
};

enum class wait_strategy : std::uint8_t {
  busy_spin,  ///< lowest latency; a core each
  /// spins with a pause between looks: kinder to the publisher's cache line when it keeps up
  spin_pause,
  adaptive,  ///< spins for some microseconds, then sleeps
  block,     ///< sleeps at once
};

struct subscriber_options {
  bus::start start = bus::start::new_messages();
  wait_strategy wait = wait_strategy::adaptive;
  /// on block, reject and drop_new streams: hold publishers back rather than lose messages
  bool gate = true;
  /// on overwriting streams: no copy; check message::still_valid() after use
  bool in_place = false;
  /// deliver large messages while they are being written (message::wait_available)
  bool early = false;
  std::string stream = {};                 ///< only this stream; empty: all that match
  std::optional<std::uint32_t> lane = {};  ///< and only this lane of it
  std::string name = {};                   ///< shown by `bus ps`
  /// Called in order, between the messages around the loss. What it throws is thrown to whoever
  /// polls; the messages come at the next call.
  std::function<void(const gap&)> on_gap = {};
};

struct subscriber_stats {
  std::uint64_t delivered = 0;
  std::uint64_t lost = 0;  ///< sum of the gaps
  std::uint64_t gaps = 0;
  std::uint64_t aborted = 0;   ///< early messages whose publisher died
  std::size_t lanes = 0;       ///< rings being read
  std::uint64_t replayed = 0;  ///< of the delivered ones: from a log
};

struct subscriber_core;

class BUS_EXPORT subscriber {
 public:
  subscriber(subscriber&&) noexcept;
  subscriber& operator=(subscriber&&) noexcept;
  ~subscriber();

  /// Calls `fn(const message&)` for up to `max` messages that are there now. Returns how many.
  /// Never blocks. If fn throws, the message counts as delivered and the rest stays for the next
  /// call.
  template <class Fn>
  std::size_t poll(std::size_t max, Fn&& fn) {
    std::size_t done = 0;
    if (batch_.next != batch_.end && !keeps_batch()) return 0;
    while (done < max) {
      if (batch_.next == batch_.end && !refill(max - done)) break;
      const message& m = *batch_.next++;
      ++done;
      fn(m);
    }
    if (done != 0) end_poll();
    return done;
  }

  /// The next message, waiting at most `wait`. Empty: none came, stop() was called, or failure().
  /// The message is valid until the next call.
  std::optional<message> next(std::chrono::nanoseconds wait);
  std::optional<message> try_next() { return next(std::chrono::nanoseconds(0)); }

  /// Waits by the wait strategy until a message may be there. False: `wait` passed, or stop().
  bool wait(std::chrono::nanoseconds wait);

  /// Ends waits and loops, now and later. Any thread; async-signal-safe.
  void stop() noexcept;
  bool stopped() const noexcept;

  /// For epoll. Protocol: `arm()`; true: wait until fd() is readable, then `drain()` and poll until
  /// nothing is left; false: there are messages, poll first. Readable at the latest after 50 ms, so
  /// a lost wake-up is a delay.
  /// Errors: no_space (descriptors), system
  result<int> fd();
  bool arm();
  void drain();

  subscriber_stats stats() const noexcept;
  /// Set when a ring could not be read on (corrupt, unsupported, type mismatch): the others are
  /// still read.
  const std::optional<error>& failure() const noexcept;

  class iterator {
   public:
    using value_type = message;
    using difference_type = std::ptrdiff_t;
    const message& operator*() const noexcept { return *current_; }
    const message* operator->() const noexcept { return &*current_; }
    iterator& operator++() {
      current_ = owner_->next(std::chrono::hours(24 * 365));
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept {
      return !it.current_;
    }

   private:
    friend class subscriber;
    explicit iterator(subscriber* owner) : owner_(owner) { ++*this; }
    subscriber* owner_;
    std::optional<message> current_;
  };
  /// `for (const bus::message& m : subscriber)` until stop().
  iterator begin() { return iterator(this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend class session;
  template <class T>
  friend class typed_subscriber;
  struct batch {
    const message* next = nullptr;
    const message* end = nullptr;
  };
  explicit subscriber(std::unique_ptr<subscriber_core> core) noexcept;
  bool refill(std::size_t max);
  bool keeps_batch();
  void end_poll() noexcept;

  batch batch_;
  std::unique_ptr<subscriber_core> core_;
};

}  // namespace bus
