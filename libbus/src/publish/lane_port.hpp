#pragma once
/// lane_port: a publisher's side of one lane: the turn (lock or lease), space, the write and the
/// wake-up.
///
/// Invariants
///   1  Exclusive: the lease names this process until close; the lane lock is not touched in
///      between.
///   2  Shared: between lock and unlock are loads, stores and the record. Waiting happens outside
///      (RING-5). Only the check of a lease, which is rare, makes system calls.
///   3  A publisher that finds the lock or the lease with a process that is proven dead repairs the
///      lane before it publishes.
///
/// Threads    one, the publisher's

#include <chrono>
#include <memory>

#include <bus/publisher.hpp>

#include "base/assert.hpp"
#include "registry/session_core.hpp"
#include "registry/writer_gate.hpp"
#include "ring/lane_writer.hpp"

namespace bus::publish {

struct outgoing_record {
  ring::record_head head;
  const void* payload = nullptr;
};

class lane_port {
 public:
  lane_port(session_core& session, std::shared_ptr<registry::stream_handle> stream,
            std::shared_ptr<registry::lane_map> lane, std::chrono::nanoseconds send_timeout,
            layout::slot* slot) noexcept;
  ~lane_port();
  lane_port(const lane_port&) = delete;
  lane_port& operator=(const lane_port&) = delete;

  /// Takes the lease. Status: ok, conflict (a live process has it), busy, closed, unavailable.
  publish_status take_lease();
  bool exclusive() const noexcept { return exclusive_; }

  /// True if a record without headers can take the shortest path: there is room and nothing is due.
  [[gnu::always_inline]] bool is_plain(std::uint64_t payload_bytes) const noexcept {
    return writer_.is_plain(layout::plain_record_bytes(payload_bytes));
  }
  /// Returns the sequence. Unless `settled`, finish_plain() follows.
  /// REQUIRES: is_plain, exclusive, stamps are cycles, payload_bytes <= short_copy_max_bytes
  [[gnu::always_inline]] std::uint64_t put_plain(std::uint64_t payload_bytes, std::uint64_t origin,
                                                 const void* payload, bool& settled) noexcept {
    BUS_ASSERT_HOT(exclusive_ && stamps_are_cycles(), lane_->index());
    const std::uint64_t total = layout::plain_record_bytes(payload_bytes);
    const std::uint64_t seq = writer_.publish_plain(
        payload_bytes, total, origin,
        [&](std::byte* to) { sync::hardware::copy_short_in(to, payload, payload_bytes); },
        [] { return base::cycle_counter(); });
    settled = !writer_.is_preparation_due() && !gate_.may_have_sleepers();
    return seq;
  }
  void finish_plain() noexcept;
  bool stamps_are_cycles() const noexcept { return clock_.kind() == os::clock_cycles; }

  /// The same on a shared lane, settled. 0: not published; use put().
  std::uint64_t put_plain_shared(std::uint32_t payload_bytes, std::uint64_t origin,
                                 const void* payload) noexcept;

  published put(const outgoing_record& record) noexcept {
    if (exclusive_) [[likely]] {
      const std::uint64_t total = record.head.shape.total_bytes();
      if (!writer_.has_room(total)) [[unlikely]] {
        const publish_status status = make_room(total);
        if (status != publish_status::ok) return {status, 0};
      }
      return write_one(record, total);
    }
    return put_shared(1, [&](std::size_t) -> const outgoing_record& { return record; });
  }
  /// `count` records that `at(i)` makes, all or none, in order. Calls `at` twice for each.
  template <class At>
  published put_all(std::size_t count, At&& at) noexcept {
    if (!exclusive_) return put_shared(count, at);
    const std::uint64_t total = total_of(count, at);
    const publish_status status = make_room(total);
    if (status != publish_status::ok) return {status, 0};
    const published done = write_all(count, at, total);
    gate_.wake_readers();
    return done;
  }
  /// Exclusive only: a record that is readable while it is written. `progress_offset`: of the
  /// progress word, from the start of the record.
  published put_open(const outgoing_record& record, std::size_t progress_offset) noexcept;

  /// Exclusive only: space at the tail to build a payload in place. Null: see `status`.
  std::byte* loan(const ring::record_head& head, publish_status& status) noexcept;
  std::uint64_t loan_ticket() const noexcept { return writer_.next_seq(); }
  published commit_loan(const ring::record_head& head) noexcept;

  bool would_block(std::uint64_t total_bytes) noexcept;
  std::uint64_t largest_bytes() const noexcept { return lane_->memory().largest_bytes(); }
  /// Bytes of all records of a batch: on a durable stream busd writes it to the log at once.
  std::uint64_t largest_batch_bytes() const noexcept {
    if (lane_->memory().kept != layout::storage::durable) return largest_bytes();
    const std::uint64_t said = sync::load_relaxed(lane_->header().durability.largest_batch);
    return std::min(largest_bytes(), said != 0 ? said : layout::least_largest_batch);
  }
  std::uint32_t index() const noexcept { return lane_->index(); }
  bool closed() const noexcept;
  /// After busd has stopped: marks the log, once, before more sequences are used.
  /// Errors: unavailable
  publish_status reopen_log();
  bool is_log_stopped() const noexcept {
    return sync::load_acquire(lane_->header().durability.stopped) != 0;
  }
  std::uint64_t next_seq() const noexcept { return writer_.next_seq(); }
  /// [D2] 0 if messages of the lane are never confirmed.
  std::uint64_t durable_seq() const noexcept {
    return lane_->memory().kept == layout::storage::durable
               ? sync::load_acquire(lane_->header().durability.durable_seq)
               : 0;
  }
  layout::log_health log_health() const noexcept;
  /// The error that publishers get while the log is full or failing.
  error health_error() const;
  error take_error() noexcept { return std::exchange(error_, {}); }

 private:
  using deadline = std::chrono::steady_clock::time_point;

  published write_one(const outgoing_record& record, std::uint64_t total) noexcept {
    const std::uint64_t seq = writer_.next_seq();
    writer_.write(0, record.head, 0, record.payload);
    // The clock read waits for earlier instructions. After the stores it overlaps with their way to
    // memory, so that a single message is visible sooner.
    const std::uint64_t ticks = clock_.now();
    writer_.stamp(0, ticks);
    writer_.commit(total, 1, ticks);
    gate_.wake_readers();
    sync::hardware::step(sync::failpoint::publish_woken);
    return {publish_status::ok, seq};
  }
  template <class At>
  static std::uint64_t total_of(std::size_t count, At&& at) noexcept {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < count; ++i) total += at(i).head.shape.total_bytes();
    return total;
  }
  template <class At>
  published write_all(std::size_t count, At&& at, std::uint64_t total) noexcept {
    sync::hardware::step(sync::failpoint::publish_reserved);
    const std::uint64_t seq = writer_.next_seq();
    std::uint64_t ticks = count == 1 ? 0 : clock_.now();
    if (count > 1 && lane_->memory().kept == layout::storage::durable)
      write_records<true>(count, at, ticks);
    else
      write_records<false>(count, at, ticks);
    if (count == 1) writer_.stamp(0, ticks = clock_.now());
    writer_.commit(total, count, ticks);
    return {publish_status::ok, seq};
  }
  /// The log takes all of a batch or nothing. `logged`: each record but the last is marked as
  /// continued.
  template <bool logged, class At>
  void write_records(std::size_t count, At&& at, std::uint64_t ticks) noexcept {
    std::uint64_t offset = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const outgoing_record& record = at(i);
      if constexpr (logged) {
        ring::record_head head = record.head;
        if (i + 1 < count) head.shape.flags |= layout::flag_continues;
        writer_.write(offset, head, ticks, record.payload);
      } else {
        writer_.write(offset, record.head, ticks, record.payload);
      }
      if (i != 0) writer_.mark_member(offset, i);
      offset += record.head.shape.total_bytes();
    }
  }
  template <class At>
  published put_shared(std::size_t count, At&& at) noexcept {
    const std::uint64_t total = total_of(count, at);
    for (turn_wait wait;;) {
      const publish_status status = begin_turn(total, wait);
      if (status == publish_status::ok) break;
      if (status != again) return {status, 0};
    }
    const published done = write_all(count, at, total);
    end_turn();
    return done;
  }
  struct turn_wait {
    deadline since{}, until{};
  };
  static constexpr auto again = static_cast<publish_status>(0xff);
  publish_status begin_turn(std::uint64_t total, turn_wait& wait) noexcept;
  void end_turn() noexcept;
  publish_status lock(deadline until) noexcept;
  void unlock() noexcept;
  publish_status take_over_lease(deadline until) noexcept;
  publish_status mark_reopened();
  publish_status fail_closed() noexcept;
  std::uint64_t free_lease() const noexcept;
  /// How long the owner, which is alive, has not claimed the lease; 0: it claims it, or is not
  /// alive.
  std::chrono::nanoseconds time_unclaimed(std::uint64_t lease);
  publish_status make_room(std::uint64_t total) noexcept;
  bool try_room(std::uint64_t total) noexcept;
  publish_status when_full(std::uint64_t tail, std::uint64_t total, deadline until,
                           deadline since) noexcept;
  publish_status when_out_of_sight(std::uint64_t tail, deadline until) noexcept;
  publish_status when_log_lags(std::uint64_t tail, std::uint64_t total, deadline until,
                               deadline since) noexcept;
  void note_holder(publish_status status, std::uint64_t tail);

  session_core& session_;
  std::shared_ptr<registry::stream_handle> stream_;
  std::shared_ptr<registry::lane_map> lane_;
  registry::writer_gate gate_;
  ring::lane_writer<sync::hardware> writer_;
  os::tick_clock clock_;
  std::chrono::nanoseconds send_timeout_;
  layout::slot* slot_;
  bool exclusive_ = false;
  std::uint64_t lease_ = 0;
  std::uint64_t unclaimed_ = 0;  // a lease that its owner does not claim, and since when
  deadline unclaimed_since_{};
  error error_;
};

}  // namespace bus::publish
