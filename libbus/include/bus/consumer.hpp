#pragma once
/// consumer: claims messages of a group and settles them. Each message is leased to one consumer of
/// the group at a time, until it is settled or becomes a dead letter.
///
/// Threads    a consumer and its leases belong to one thread; stop() from any thread
/// Processes  any number of consumers of one group, in any number of processes
/// Cost       claim and settle: a few dozen instructions in shared memory, no system call
/// Lifetime   a message in a lease is a copy and lives as long as the lease. A lease that outlives
///            its consumer is stale: its message has returned to the group

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <bus/error.hpp>
#include <bus/group.hpp>
#include <bus/message.hpp>
#include <bus/subscriber.hpp>

namespace bus {

/// The group, its rules, and this consumer's own settings. If the group exists, each rule that is
/// set must equal the group's. A rule that is not set is the group's, or the default of
/// group_config for a new group.
struct consumer_options {
  std::string group = {};
  std::string stream = {};  ///< empty: the stream that has the subject
  std::optional<ack_policy> ack = {};
  std::optional<group_order> order = {};
  std::optional<bus::on_fail> on_fail = {};
  std::optional<group_mode> mode = {};
  std::optional<bus::start> deliver = {};  ///< only when the group is created
  std::optional<std::uint32_t> max_ack_pending = {};
  std::optional<std::uint32_t> max_delayed = {};
  std::optional<std::uint32_t> max_parked = {};
  std::optional<std::chrono::nanoseconds> ack_wait = {};
  std::optional<std::chrono::nanoseconds> max_lease = {};
  std::optional<std::int32_t> max_deliver = {};
  std::optional<std::vector<std::chrono::nanoseconds>> backoff = {};
  std::optional<double> jitter = {};
  std::optional<bool> dead_letters = {};
  std::optional<std::uint64_t> hold_bytes = {};
  std::optional<std::vector<std::pair<std::string, std::string>>> headers = {};
  std::optional<bool> headers_all = {};

  std::uint32_t prefetch = 1;  ///< messages per claim of next(), run() and loops; 1-1000
  wait_strategy wait = wait_strategy::adaptive;
  bool keep_alive = false;  ///< a thread extends the claimed leases every ack_wait / 3
  /// Called by next(), fetch(), run() and loops for messages that were overwritten before any
  /// consumer of the group claimed them: on a drop_oldest stream, or after idle_release. One
  /// consumer of the group gets each gap. The count is exact for the lane; with a filter it is an
  /// upper bound. An exception from it propagates to the caller, and no message is lost.
  std::function<void(const gap&)> on_gap = {};
  std::string name = {};  ///< shown by `bus group info`; default: the process's
};

enum class [[nodiscard]] settle_result : std::uint8_t{
    ok,
    stale_lease,      ///< no longer held: it expired, or its consumer left or was presumed dead
    already_settled,  ///< this lease has already been settled or returned
    busy,             ///< the group's lock was not free within 5 s, or the group is damaged
    closed,           ///< the group, its stream or the bus was removed: nothing was settled
};
BUS_EXPORT const char* settle_result_name(settle_result outcome) noexcept;

struct consumer_core;
namespace detail {
struct lease_entry;
}

/// One message leased to a consumer. Movable. Destroying a lease that is not settled counts as a
/// failure, as if nack() had been called.
class BUS_EXPORT lease {
 public:
  lease() = default;
  lease(lease&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  lease& operator=(lease&& other) noexcept;
  ~lease() {
    if (entry_ != nullptr) give_up();
  }

  const bus::message& message() const noexcept;
  std::string_view text() const noexcept { return message().text(); }
  std::span<const std::byte> payload() const noexcept { return message().payload(); }
  std::string_view subject() const noexcept { return message().subject(); }
  std::uint64_t sequence() const noexcept { return message().sequence(); }
  std::optional<std::string_view> header(std::string_view key) const noexcept {
    return message().header(key);
  }

  std::uint32_t acquired() const noexcept;  ///< times handed out, this one included; at most 4095
  std::uint32_t failed() const noexcept;    ///< times it failed; at most 1023
  bool redelivered() const noexcept { return acquired() > 1; }
  /// Rises with every lease of the group, whatever the message. A resource that rejects tokens
  /// below the highest one it has seen keeps out every former holder.
  std::uint64_t fencing_token() const noexcept;

  /// Done. With ack_policy::all, also every earlier message of its lane that this consumer holds.
  /// Cost: no lock, no system call, except with ack_policy::all.
  settle_result ack() noexcept;
  /// Failed: retried after the back-off or after `delay`; a dead letter after max_deliver failures.
  /// `reason`: kept for the dead letter, at most 256 bytes; the rest is cut off.
  settle_result nack(std::optional<std::chrono::nanoseconds> delay = {},
                     std::string_view reason = {}) noexcept;
  /// Neither done nor failed: the next consumer that claims gets it.
  settle_result release() noexcept;
  /// Makes it a dead letter at once.
  settle_result reject(std::string_view reason = {}) noexcept;
  /// Moves the end of the lease to ack_wait or `duration` (1 ms - 12 h) from now; at most max_lease
  /// after the claim.
  settle_result extend(std::optional<std::chrono::nanoseconds> duration = {}) noexcept;
  /// Work begins: if this process dies from now on, or the lease expires, that counts as a failure.
  /// next(), run(), loops, iterating over a batch and fetch() of one message call it themselves.
  settle_result start() noexcept;
  /// True while this consumer holds the message.
  bool held() const noexcept;

 private:
  friend class consumer;
  friend class batch;
  friend struct consumer_core;
  explicit lease(detail::lease_entry* entry) noexcept : entry_(entry) {}
  void give_up() noexcept;

  detail::lease_entry* entry_ = nullptr;
};

/// The leases that fetch() returned. Iterating starts each lease. The destructor releases the
/// leases that were neither reached nor started.
class BUS_EXPORT batch {
 public:
  batch() = default;
  batch(batch&&) noexcept = default;
  batch& operator=(batch&&) noexcept = default;
  ~batch();

  std::size_t size() const noexcept { return leases_.size(); }
  bool empty() const noexcept { return leases_.empty(); }
  lease& operator[](std::size_t i) noexcept { return leases_[i]; }

  class iterator {
   public:
    iterator(batch* of, std::size_t at) noexcept : of_(of), at_(at) {}
    lease& operator*() const noexcept { return of_->reach(at_); }
    lease* operator->() const noexcept { return &of_->reach(at_); }
    iterator& operator++() noexcept {
      ++at_;
      return *this;
    }
    friend bool operator==(const iterator&, const iterator&) noexcept = default;

   private:
    batch* of_;
    std::size_t at_;
  };
  iterator begin() noexcept { return {this, 0}; }
  iterator end() noexcept { return {this, leases_.size()}; }

 private:
  friend class consumer;
  lease& reach(std::size_t at) noexcept;

  std::vector<lease> leases_;
  std::size_t reached_ = 0;
};

struct fetch_options {
  std::size_t batch = 1;                  ///< at most this many messages; up to max_ack_pending
  std::uint64_t max_bytes = 64ull << 20;  ///< of payload; the first message always fits
  std::chrono::nanoseconds wait = std::chrono::seconds(1);  ///< for the first one; 0: do not wait
};

struct consumer_stats {
  std::uint64_t claimed = 0, settled = 0, returned = 0, stale = 0;
  std::uint64_t lost = 0;  ///< overwritten messages in the gaps that this consumer got
  std::uint64_t gaps = 0;  ///< gaps that this consumer got
};

class BUS_EXPORT consumer {
 public:
  consumer(consumer&&) noexcept;
  consumer& operator=(consumer&&) noexcept;
  /// Releases the messages that were claimed ahead; they do not count as failed. Messages in leases
  /// that still exist return to the group, too; the started ones count as failed.
  ~consumer();

  /// Up to `batch` messages that are there now; waits for the first. Empty: none came in time,
  /// stop() was called, or failure() is set. First returns what next() had claimed ahead.
  bus::batch fetch(const fetch_options& options);
  bus::batch fetch(std::size_t batch, std::chrono::nanoseconds wait) {
    return fetch({batch, 64ull << 20, wait});
  }
  /// The next message, waiting at most `wait`; its lease is started. Empty: as fetch().
  std::optional<lease> next(std::chrono::nanoseconds wait);

  /// Calls `work(lease&)` for each message until stop() or failure(). If it returns without
  /// settling, the message is acknowledged. If it throws, the message is nacked with what(), and
  /// the exception propagates to the caller.
  void run(const std::function<void(lease&)>& work);

  /// Acknowledges the messages of the lane of `upto`, up to and including it, that this consumer
  /// holds. Returns how many: 0 when `upto` is stale, or the group's lock was not free within 5 s.
  /// Errors: none
  std::size_t ack_all(lease& upto) noexcept;

  /// Ends all waits and loops, current and future. Any thread; async-signal-safe.
  void stop() noexcept;
  bool stopped() const noexcept;

  const group_config& group() const noexcept;
  /// Of an exclusive or failover group: the token of the active consumer, if that is this one, else
  /// 0. It rises with each change of the active consumer. Of a shared group: 0.
  std::uint64_t active_token() const noexcept;
  consumer_stats stats() const noexcept;
  /// Set when the group or a ring can no longer be used (corrupt, closed, busy, forked).
  const std::optional<error>& failure() const noexcept;

  class iterator {
   public:
    using value_type = lease;
    using difference_type = std::ptrdiff_t;
    lease& operator*() const noexcept { return *current_; }
    iterator& operator++() {
      current_ = owner_->next(std::chrono::hours(24 * 365));
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& it, std::default_sentinel_t) noexcept {
      return !it.current_;
    }

   private:
    friend class consumer;
    explicit iterator(consumer* owner) : owner_(owner) { ++*this; }
    consumer* owner_;
    mutable std::optional<lease> current_;
  };
  /// `for (bus::lease& l : consumer)` until stop() or failure().
  iterator begin() { return iterator(this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend class session;
  explicit consumer(std::unique_ptr<consumer_core> core) noexcept;
  std::unique_ptr<consumer_core> core_;
};

}  // namespace bus
