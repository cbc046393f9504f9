#pragma once
/// consumer: takes messages of a group, and settles them. Of all consumers of a group each message
/// goes to one, until it is settled, or given up as a dead letter.
///
/// Threads    a consumer and its leases belong to one thread; stop() from any
/// Processes  any number of consumers of one group, in any number of processes
/// Cost       claim and settle: some dozen instructions in shared memory, no system call
/// Lifetime   a message in a lease is a copy, and stays as long as the lease. A lease that outlives
///            its consumer is stale: what it held went back

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

/// The group, its rules, and what this consumer does. Rules that are set must agree with those of
/// the group when it exists; those that are not are the group's, or the defaults of group_config.
struct consumer_options {
  std::string group = {};
  std::string stream = {};  ///< empty: the one that has the subject
  std::optional<ack_policy> ack = {};
  std::optional<group_order> order = {};
  std::optional<bus::on_fail> on_fail = {};
  std::optional<group_mode> mode = {};
  std::optional<bus::start> deliver = {};  ///< only when the group is made
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

  std::uint32_t prefetch = 1;  ///< claimed ahead by next(), run() and loops; 1-1000
  wait_strategy wait = wait_strategy::adaptive;
  bool keep_alive = false;  ///< leases in hand are extended every third of ack_wait
  /// Called by next(), fetch(), run() and loops for messages that were overwritten before any
  /// consumer of the group took them: on a stream that drops the oldest, or after idle_release. Of
  /// all consumers one is told. The count is exact for the lane; with a filter it is the most that
  /// there can have been. What it throws is passed on, and no message is lost for it.
  std::function<void(const gap&)> on_gap = {};
  std::string name = {};  ///< shown by `bus group info`; default: the process's
};

enum class [[nodiscard]] settle_result : std::uint8_t{
    ok,
    stale_lease,  ///< it went back: the lease expired, its consumer is gone, or was taken for dead
    already_settled,  ///< settled or given back by this very lease, before
    busy,             ///< the group's lock is held by a process that is stopped; try again
    closed,           ///< the group, its stream, or the bus is gone: nothing was settled
};
BUS_EXPORT const char* settle_result_name(settle_result outcome) noexcept;

struct consumer_core;
namespace detail {
struct lease_entry;
}

/// One message that a consumer has. Movable. A lease that goes without being settled counts as
/// failed, as if nack() had been called.
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

  std::uint32_t acquired() const noexcept;  ///< times handed out, with this one; stops at 4095
  std::uint32_t failed() const noexcept;    ///< times it failed; stops at 1023
  bool redelivered() const noexcept { return acquired() > 1; }
  /// Rises with every lease that the group gives, of whatever message: whoever guards an effect by
  /// the highest token seen lets no old holder through.
  std::uint64_t fencing_token() const noexcept;

  /// Done. No lock, no system call.
  settle_result ack() noexcept;
  /// Failed: again after the back-off, or `delay`; a dead letter after max_deliver failures.
  /// `reason`: for the record of death, at most 256 bytes.
  settle_result nack(std::optional<std::chrono::nanoseconds> delay = {},
                     std::string_view reason = {}) noexcept;
  /// Not done, not failed: the next consumer gets it.
  settle_result release() noexcept;
  /// To the dead letters at once.
  settle_result reject(std::string_view reason = {}) noexcept;
  /// More time: ack_wait from now on, or `duration`; at most max_lease in all.
  settle_result extend(std::optional<std::chrono::nanoseconds> duration = {}) noexcept;
  /// Work begins: should this process die from now on, it counts as failed. next(), run(), loops
  /// and iterating over a batch say it by themselves.
  settle_result start() noexcept;
  /// Is it still this consumer's?
  bool held() const noexcept;

 private:
  friend class consumer;
  friend class batch;
  friend struct consumer_core;
  explicit lease(detail::lease_entry* entry) noexcept : entry_(entry) {}
  void give_up() noexcept;

  detail::lease_entry* entry_ = nullptr;
};

/// What fetch() got: a range of leases. Walking it starts each. Those that were never reached are
/// released when the batch goes.
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
  std::size_t batch = 1;                  ///< at most so many messages
  std::uint64_t max_bytes = 64ull << 20;  ///< of payload, but one message in any case
  std::chrono::nanoseconds wait = std::chrono::seconds(1);  ///< for the first one; 0: do not wait
};

struct consumer_stats {
  std::uint64_t claimed = 0, settled = 0, returned = 0, stale = 0;
  std::uint64_t lost = 0;  ///< messages that were overwritten, of which this consumer was told
  std::uint64_t gaps = 0;  ///< how often it was told
};

class BUS_EXPORT consumer {
 public:
  consumer(consumer&&) noexcept;
  consumer& operator=(consumer&&) noexcept;
  /// Messages that were claimed ahead go back, and do not count as failed.
  ~consumer();

  /// What is there, at most `batch`; waits for the first one. Empty: nothing came in time, or
  /// stop(), or failure().
  bus::batch fetch(const fetch_options& options);
  bus::batch fetch(std::size_t batch, std::chrono::nanoseconds wait) {
    return fetch({batch, 64ull << 20, wait});
  }
  /// The next message; work on it is taken to begin.
  std::optional<lease> next(std::chrono::nanoseconds wait);

  /// Calls `work(lease&)` for each message until stop(). When it returns without having settled,
  /// the message is acknowledged; when it throws, the message is nacked with what() and the
  /// exception goes on.
  void run(const std::function<void(lease&)>& work);

  /// Everything of the lane of `upto` up to it that this consumer has.
  /// Errors: none; how many.
  std::size_t ack_all(lease& upto) noexcept;

  /// Ends waits and loops, now and later. Any thread; async-signal-safe.
  void stop() noexcept;
  bool stopped() const noexcept;

  const group_config& group() const noexcept;
  /// Of exclusive and failover groups: is it this one that takes messages? The token rises with
  /// each change; 0: not active.
  std::uint64_t active_token() const noexcept;
  consumer_stats stats() const noexcept;
  /// Set when the group or a ring cannot be used on (corrupt, closed, busy).
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
  /// `for (bus::lease& l : consumer)` until stop().
  iterator begin() { return iterator(this); }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend class session;
  explicit consumer(std::unique_ptr<consumer_core> core) noexcept;
  std::unique_ptr<consumer_core> core_;
};

}  // namespace bus
