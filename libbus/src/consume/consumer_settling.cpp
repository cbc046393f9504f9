/// consumer_core, settling: the verbs of a lease.

#include <algorithm>

#include "base/cycles.hpp"
#include "consume/consumer_core.hpp"

namespace bus {

using namespace std::chrono_literals;

namespace {

constexpr int tries_with_full_queue = 1000;

}  // namespace

void consumer_core::ended(detail::lease_entry& entry) noexcept {
  entry.settled = true;
  if (keeper_) keeper_->let_go(entry.token);
}

// A publisher may wait for the space, another consumer for room in the window.
void consumer_core::after_ack(std::uint32_t lane) noexcept {
  if (sync::load_relaxed(group_->header().settle_sleepers) != 0) [[unlikely]]
    group_->ring_bell();
  const bool is_full = group_->core().take_queue_full();
  if (is_full || has_waiting_publisher(lane)) [[unlikely]]
    make_room(is_full);
}

void consumer_core::make_room(bool is_full) noexcept {
  // A scan of all leases finds what the full queue lost, so the lock is worth a moment.
  for (int attempts = is_full ? tries_with_full_queue : 1; attempts != 0; --attempts) {
    if (!group_->try_lock()) {
      base::relax();
      continue;
    }
    if (sync::load_relaxed(group_->header().damaged) == 0) {
      group_->core().housekeep(group_->now(), member_);
      if (!is_full) group_->core().collect(member_);
      group_->update_pins(true);
    }
    group_->unlock();
    return;
  }
}

// Why the lease can no longer be settled; empty: it can.
std::optional<settle_result> consumer_core::refusal(const detail::lease_entry& entry) noexcept {
  if (entry.taken_back) return settle_result::stale_lease;
  if (entry.settled) return settle_result::already_settled;
  if (!guard_.same_process()) return settle_result::stale_lease;
  // A removed group is still mapped: settling there would settle nothing.
  if (group_->is_removed() || (!group_->is_current() && is_gone())) [[unlikely]]
    return settle_result::closed;
  return std::nullopt;
}

settle_result consumer_core::ack(detail::lease_entry& entry) noexcept {
  if (!can_surely_settle(entry)) [[unlikely]] {
    if (const auto refused = refusal(entry)) {
      if (*refused == settle_result::closed) ended(entry);
      return *refused;
    }
  }
  if (group_->memory().rules.ack != group::ack_rule::each) [[unlikely]] {
    if (config().ack == ack_policy::none)
      entry.settled = true;
    else
      ack_all(entry);
    return entry.settled ? settle_result::ok
           : was_busy_   ? settle_result::busy
                         : settle_result::stale_lease;
  }
  const auto outcome = group_->core().ack(entry.token, member_);
  ended(entry);
  if (outcome != group::settled::ok) {
    ++stats.stale;
    return settle_result::stale_lease;
  }
  ++stats.settled;
  sync::bump(group_->memory().members[member_].settled, 1);
  after_ack(entry.lane);
  return settle_result::ok;
}

template <class Settle>
settle_result consumer_core::under_lock(detail::lease_entry& entry, Settle&& settle,
                                        bool ends) noexcept {
  if (const auto refused = refusal(entry)) {
    if (*refused == settle_result::closed) ended(entry);
    return *refused;
  }
  if (config().ack == ack_policy::none) {
    entry.settled = ends;
    return settle_result::ok;
  }
  if (!group_->lock(lock_patience)) return settle_result::busy;
  const auto outcome = settle(group_->core());
  if (has_waiting_publisher()) group_->core().collect(member_);
  group_->update_pins(false);
  group_->unlock();
  if (ends || outcome != group::settled::ok) ended(entry);
  if (outcome == group::settled::ok) {
    stats.returned += ends ? 1 : 0;
    return settle_result::ok;
  }
  ++stats.stale;
  return settle_result::stale_lease;
}

settle_result consumer_core::nack(detail::lease_entry& entry,
                                  std::optional<std::chrono::nanoseconds> delay,
                                  std::string_view reason) noexcept {
  const std::uint64_t ticks =
      delay ? group_->ticks(std::clamp<std::chrono::nanoseconds>(*delay, 0ns, forever)) : 0;
  return under_lock(
      entry,
      [&](group::core& core) {
        return core.nack(entry.token, group_->now(), delay ? &ticks : nullptr, reason);
      },
      true);
}

settle_result consumer_core::release(detail::lease_entry& entry) noexcept {
  return under_lock(
      entry, [&](group::core& core) { return core.release(entry.token); }, true);
}

settle_result consumer_core::reject(detail::lease_entry& entry, std::string_view reason) noexcept {
  return under_lock(
      entry, [&](group::core& core) { return core.reject(entry.token, reason); }, true);
}

settle_result consumer_core::extend(detail::lease_entry& entry,
                                    std::optional<std::chrono::nanoseconds> duration) noexcept {
  const std::uint64_t ticks =
      duration ? group_->ticks(std::clamp<std::chrono::nanoseconds>(*duration, 1ms, 12h)) : 0;
  return under_lock(
      entry,
      [&](group::core& core) {
        return core.extend(entry.token, group_->now(), duration ? &ticks : nullptr);
      },
      false);
}

settle_result consumer_core::start(detail::lease_entry& entry) noexcept {
  if (!can_surely_settle(entry)) [[unlikely]] {
    if (const auto refused = refusal(entry)) return *refused;
  }
  if (entry.started || group_->memory().rules.ack == group::ack_rule::none)
    return settle_result::ok;
  if (!guard_.same_process() || group_->core().start(entry.token) != group::settled::ok)
    return settle_result::stale_lease;
  entry.started = true;
  return settle_result::ok;
}

bool consumer_core::is_held(const detail::lease_entry& entry) noexcept {
  if (refusal(entry)) return false;
  return config().ack == ack_policy::none || group_->core().is_held(entry.token);
}

std::size_t consumer_core::ack_all(detail::lease_entry& upto) noexcept {
  was_busy_ = false;
  if (refusal(upto)) return 0;
  const std::uint64_t seq = layout::seq_of_origin(upto.token.origin);
  if (!group_->core().is_held(upto.token)) return 0;
  if (!group_->lock(lock_patience)) {
    was_busy_ = true;
    return 0;
  }
  const std::size_t count = group_->core().ack_all(member_, upto.lane, seq);
  group_->core().housekeep(group_->now());
  group_->update_pins(true);
  group_->unlock();
  for (auto& entry : entries_)
    if (!entry.settled && entry.lane == upto.lane &&
        layout::seq_of_origin(entry.token.origin) <= seq && !group_->core().is_held(entry.token))
      ended(entry);
  stats.settled += count;
  sync::bump(group_->memory().members[member_].settled, count);
  after_ack(upto.lane);
  return count;
}

void consumer_core::give_up(detail::lease_entry* entry) noexcept {
  // If the lock was busy, the message returns when its lease ends.
  if (!entry->settled && !entry->taken_back && guard_.same_process() &&
      nack(*entry, std::nullopt, "its consumer dropped its lease without settling it") ==
          settle_result::busy)
    ended(*entry);
  free_entry(entry);
  if (--in_hand_ == 0 && retired_) delete this;
}

}  // namespace bus
