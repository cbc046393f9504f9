#pragma once
/// subscriber: a live reader of every stream whose subjects match its patterns. It has its own
/// cursors; nothing is acknowledged.
///
/// Threads    one thread per object; stop() may be called from any thread or signal handler
/// Processes  maps the rings read-only. A slow subscriber holds publishers back only on streams
///            with overflow block, reject or drop_new, and only with gate = true
/// Cost       per message: one acquire load; on overwriting streams also a copy of the record. No
///            system call while there are messages
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

/// Where a subscriber starts on streams that exist when it subscribes. It reads streams created
/// later from their beginning.
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

  static start new_messages() noexcept { return {}; }  ///< published after subscribe() returned
  static start all() noexcept {
    return {kind::from_all, 0, {}};
  }  ///< all that the ring, or the stream's log, still has
  static start last() noexcept {
    return {kind::from_last, 0, {}};
  }  ///< the last matching message of all streams and lanes, then new ones
  /// The last message of each matching subject, in order of sequence, then new ones: no gap between
  /// them, and nothing twice.
  static start last_per_subject() noexcept { return {kind::from_last_per_subject, 0, {}}; }
  /// From sequence `first` of each lane. Messages that are no longer stored are reported as a gap.
  /// Beyond the end: new messages, because a recreated stream counts from 1 again.
  static start by_sequence(std::uint64_t first) noexcept {
    return {kind::from_sequence, first, {}};
  }
  static start by_time(std::chrono::system_clock::time_point t) noexcept {
    return {kind::from_time, 0, t};
  }
};

enum class wait_strategy : std::uint8_t {
  busy_spin,  ///< lowest latency; occupies a core
  /// Spins with a pause of 2.5 us between checks: if it keeps up, it takes the cache line from the
  /// publisher less often.
  spin_pause,
  adaptive,  ///< spins for 20 us, then sleeps
  block,     ///< sleeps at once
};

struct subscriber_options {
  bus::start start = bus::start::new_messages();
  wait_strategy wait = wait_strategy::adaptive;
  /// On block, reject and drop_new streams: hold publishers back rather than lose messages.
  bool gate = true;
  /// On overwriting streams: no copy; check message::still_valid() after use.
  bool in_place = false;
  /// Deliver large messages while they are being written (message::wait_available()).
  bool early = false;
  std::string stream = {};                 ///< only this stream; empty: all with matching subjects
  std::optional<std::uint32_t> lane = {};  ///< only this lane of each stream
  std::string name = {};                   ///< shown by `bus ps`
  /// Called in order, between the messages before and after the gap. An exception from it
  /// propagates to the caller of poll() or next(); the next call delivers the messages.
  std::function<void(const gap&)> on_gap = {};
};

struct subscriber_stats {
  std::uint64_t delivered = 0;
  std::uint64_t lost = 0;  ///< sum of the gaps
  std::uint64_t gaps = 0;
  std::uint64_t aborted = 0;   ///< early messages whose publisher died before completing them
  std::size_t lanes = 0;       ///< rings being read
  std::uint64_t replayed = 0;  ///< of those delivered: from a log
};

struct subscriber_core;

class BUS_EXPORT subscriber {
 public:
  subscriber(subscriber&&) noexcept;
  subscriber& operator=(subscriber&&) noexcept;
  ~subscriber();

  /// Calls `fn(const message&)` for up to `max` messages that are there now. Returns how many.
  /// Never blocks. If fn throws, its message counts as delivered; the next call delivers the rest.
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

  /// The next message, waiting at most `wait`; valid until the next call. Empty: none came, stop()
  /// was called, or failure() is set.
  std::optional<message> next(std::chrono::nanoseconds wait);
  std::optional<message> try_next() { return next(std::chrono::nanoseconds(0)); }

  /// Waits by the wait strategy until a message may be there. False: `wait` passed, stop() was
  /// called, or failure() left no lane to read.
  bool wait(std::chrono::nanoseconds wait);

  /// Ends all waits and loops, current and future. Any thread; async-signal-safe.
  void stop() noexcept;
  bool stopped() const noexcept;

  /// For epoll. Call arm(). True: wait until fd() is readable, then drain(), and poll until nothing
  /// is left. False: there may be messages; poll first. fd() becomes readable within 50 ms in any
  /// case, so a lost wake-up is only a delay.
  /// Errors: no_space (descriptors), system
  result<int> fd();
  bool arm();
  void drain();

  subscriber_stats stats() const noexcept;
  /// Set when a ring or a subject cannot be read any further (corrupt, unsupported, type_mismatch,
  /// closed, forked). The other rings are still read.
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
  /// `for (const bus::message& m : subscriber)` until stop(), or failure() leaves no lane to read.
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
