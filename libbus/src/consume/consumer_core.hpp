#pragma once
/// consumer_core: one member of a group: it claims, hands out, settles and waits.
///
/// Threads    the consumer's; stop() from any thread; with keep_alive one of its own

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include <bus/consumer.hpp>

#include "consume/group_handle.hpp"
#include "consume/lease_keeper.hpp"

namespace bus {

namespace detail {

/// A message in hand: a copy, in memory that is reused.
struct lease_entry {
  consumer_core* owner = nullptr;
  group::lease_token token;
  bus::message message;
  std::uint32_t acquired = 0, failed = 0;
  std::uint32_t lane = 0;
  std::uint64_t number = 0;  // fencing token
  bool started = false;
  bool settled = false;
  bool taken_back = false;  // its consumer was destroyed
  bool copied = false;
  std::unique_ptr<std::byte[]> memory;
  std::size_t capacity = 0;
};

}  // namespace detail

struct consumer_core {
  static result<std::unique_ptr<consumer_core>> make(std::shared_ptr<session_core> session,
                                                     std::string_view subject,
                                                     consumer_options options);
  ~consumer_core();
  /// The consumer was destroyed: leases that remain are stale, and the last one deletes the core.
  static void retire(std::unique_ptr<consumer_core> core) noexcept;

  /// Claims up to `max`; waits for the first. They are in `claimed()`.
  std::size_t fetch(std::size_t max, std::uint64_t max_bytes, std::chrono::nanoseconds wait,
                    bool start_first) noexcept;
  std::vector<detail::lease_entry*>& claimed() noexcept { return claimed_; }
  /// The next entry that was claimed ahead, for a lease object; null: none.
  detail::lease_entry* take_ahead() noexcept {
    if (ahead_ >= claimed_.size()) return nullptr;
    ++in_hand_;
    return claimed_[ahead_++];
  }

  settle_result ack(detail::lease_entry& entry) noexcept;
  settle_result nack(detail::lease_entry& entry, std::optional<std::chrono::nanoseconds> delay,
                     std::string_view reason) noexcept;
  settle_result release(detail::lease_entry& entry) noexcept;
  settle_result reject(detail::lease_entry& entry, std::string_view reason) noexcept;
  settle_result extend(detail::lease_entry& entry,
                       std::optional<std::chrono::nanoseconds> duration) noexcept;
  settle_result start(detail::lease_entry& entry) noexcept;
  bool is_held(const detail::lease_entry& entry) noexcept;
  std::size_t ack_all(detail::lease_entry& upto) noexcept;
  /// Calls on_gap for the gaps found. An exception from it propagates; the next call reports the
  /// rest.
  void report_gaps();
  /// Called when the lease object ends: nacks the message if it is not settled.
  void give_up(detail::lease_entry* entry) noexcept;

  void stop() noexcept;
  bool stopped() const noexcept { return stopped_.load(); }
  std::uint64_t active_token() const noexcept;
  const group_config& config() const noexcept { return group_->config(); }

  std::shared_ptr<session_core> session;
  consumer_options options;
  consumer_stats stats;
  std::optional<error> failure;

 private:
  friend struct detail::claim_feed;
  static constexpr std::chrono::seconds lock_patience{5};
  static constexpr std::chrono::hours forever{24 * 365};
  enum class verb : std::uint8_t { nack, release, reject, extend };

  result<void> join();
  void end_keeper() noexcept;
  bool has_waiting_publisher(std::uint32_t lane) const noexcept {
    return group_->core().has_waiting_publisher(lane);
  }
  bool has_waiting_publisher() const noexcept;
  void leave() noexcept;
  bool may_take_part() noexcept;
  std::size_t claim(std::size_t max, std::uint64_t max_bytes, bool start_first,
                    std::uint64_t seen_ticks) noexcept;
  // REQUIRES for both: the lock.
  void claim_under_lock(std::size_t max, std::uint64_t now, std::uint64_t paused,
                        detail::claim_feed& feed) noexcept;
  void collect_all() noexcept;
  group::nothing_because claim_lanes(std::size_t max, std::uint64_t now,
                                     detail::claim_feed& feed) noexcept;
  bool has_next(std::uint32_t lane) const noexcept;
  const base::word* next_word(std::uint32_t lane, const group::lane_cursor& at) const noexcept;
  std::uint32_t next_lane() noexcept;
  void take_losses() noexcept;
  void announce_losses(std::uint64_t now) noexcept;
  bool watch_active(std::uint64_t now, std::uint64_t paused) noexcept;
  bool is_gone() noexcept;
  std::optional<settle_result> refusal(const detail::lease_entry& entry) noexcept;
  /// False: refusal() returns the reason, if there is one.
  bool can_surely_settle(const detail::lease_entry& entry) const noexcept {
    return !entry.settled && !entry.taken_back && guard_.same_process() && !group_->is_removed() &&
           group_->is_current();
  }
  bool finish_copies() noexcept;
  bool copy_outside_lock(detail::lease_entry& entry) noexcept;
  void learn(detail::lease_entry& entry) noexcept;
  detail::lease_entry* new_entry(std::size_t bytes) noexcept;
  void free_entry(detail::lease_entry* entry) noexcept { free_entries_.push_back(entry); }
  template <class Settle>
  settle_result under_lock(detail::lease_entry& entry, Settle&& settle, bool ends) noexcept;
  void after_ack(std::uint32_t lane) noexcept;
  void make_room(bool is_full) noexcept;
  bool are_pins_due() noexcept;
  bool is_held_up() const noexcept;
  std::uint64_t looks_at_everything() const noexcept;
  void ended(detail::lease_entry& entry) noexcept;
  bool may_claim_now() noexcept;
  bool wait(std::chrono::steady_clock::time_point deadline, std::uint64_t& seen_ticks) noexcept;
  void sleep(std::chrono::steady_clock::time_point deadline) noexcept;
  bool refresh() noexcept;

  std::unique_ptr<consume::group_handle> group_;
  std::uint32_t member_ = 0;
  bool joined_ = false;
  bool retired_ = false;
  std::size_t in_hand_ = 0;  // entries that lease objects hold
  sync::fork_guard guard_;
  std::deque<detail::lease_entry> entries_;
  std::vector<detail::lease_entry*> free_entries_;
  std::vector<detail::lease_entry*> claimed_;
  std::size_t ahead_ = 0;  // entries of claimed_ that take_ahead handed out
  group::nothing_because why_ = group::nothing_because::empty;
  std::uint64_t bell_seen_ = 0;
  std::uint64_t next_deaths_look_ = 0;
  std::uint64_t look_for_deaths_every_ = 0;
  std::uint32_t claims_since_collect_ = 0;
  std::uint32_t claims_since_pins_ = 0;
  std::uint64_t next_full_look_ = 0;
  std::uint64_t next_event_ = ~0ull;
  std::uint64_t last_activity_ = 0;  // ticks
  std::unique_ptr<consume::lease_keeper> keeper_;
  std::vector<gap> gaps_;            // not reported yet
  std::vector<gap> lost_not_shown_;  // not published as an event yet
  std::uint64_t next_loss_event_ = 0;
  /// Of a standby of a failover group: the progress of the active member at the last check, and
  /// since when it has made none although there was work.
  struct {
    std::uint64_t active = 0, claims = 0, extended = 0, passed = 0;
    std::uint64_t since = 0;
  } watched_active_;
  bool was_busy_ = false;  // ack_all found the lock held
  std::atomic<bool> stopped_{false};
  std::vector<std::uint32_t> armed_;
  // Commit word of each lane where nothing was found, and its value while a record is open.
  std::vector<std::pair<const base::word*, std::uint64_t>> watched_;
};

}  // namespace bus
