/// consumer_core, claiming: what a fetch does under the group's lock, and after it. The path of a
/// message is compiled as one function (flatten, always_inline): a call costs as much as most of
/// its steps.

#include <algorithm>

#include "base/bits.hpp"
#include "consume/claim_feed.hpp"
#include "consume/consumer_core.hpp"

namespace bus {

using group::nothing_because;

namespace {

using clock = std::chrono::steady_clock;

// Messages that other members settled are collected once per this many claims.
constexpr std::uint32_t claims_per_round = 16;

}  // namespace

detail::lease_entry* consumer_core::new_entry(std::size_t bytes) noexcept {
  detail::lease_entry* entry;
  if (free_entries_.empty()) {
    entry = &entries_.emplace_back();
    entry->owner = this;
  } else {
    entry = free_entries_.back();
    free_entries_.pop_back();
  }
  if (entry->memory == nullptr || entry->capacity < bytes) {  // an empty message needs memory, too
    entry->capacity = base::round_up(std::max<std::size_t>(bytes, 256), 64);
    entry->memory = std::make_unique_for_overwrite<std::byte[]>(entry->capacity + 64);
  }
  entry->settled = entry->started = entry->taken_back = false;
  return entry;
}

// Where the next record of the lane is or will be. The claim detects a position that was
// overwritten.
const base::word* consumer_core::next_word(std::uint32_t lane,
                                           const group::lane_cursor& at) const noexcept {
  return &group_->lanes()[lane]->lane->memory().word_at(
      base::round_down(at.position, layout::record_align));
}

// True if there is a record at the group's position of this lane. An open record does not count:
// its publisher may be stopped.
bool consumer_core::has_next(std::uint32_t lane) const noexcept {
  const auto at = group_->core().cursor_of(lane);
  // relaxed: only a reason to check; the claim acquires what it reads
  const std::uint64_t word = sync::load_relaxed(*next_word(lane, at));
  return word != 0 && word != (at.seq | layout::commit_open);
}

// The lane whose next message is oldest; lanes().size(): none has one.
std::uint32_t consumer_core::next_lane() noexcept {
  const auto& lanes = group_->lanes();
  auto best = static_cast<std::uint32_t>(lanes.size());
  std::uint64_t oldest = ~0ull;
  if (const std::uint32_t first = group_->core().rescan_lane(); first < lanes.size()) return first;
  for (std::uint32_t lane = 0; lane < lanes.size(); ++lane) {
    if (!has_next(lane)) continue;
    const auto at = group_->core().cursor_of(lane);
    const auto* words = next_word(lane, at);
    const std::uint64_t ticks = sync::load_relaxed(words[3]);  // only a choice
    if (best == lanes.size() || ticks < oldest) best = lane, oldest = ticks;
  }
  return best;
}

nothing_because consumer_core::claim_lanes(std::size_t max, std::uint64_t now,
                                           detail::claim_feed& feed) noexcept {
  auto& lanes = group_->lanes();
  auto& core = group_->core();
  const bool one_lane = lanes.size() == 1;
  nothing_because why = nothing_because::empty;
  std::uint32_t looks = 0;
  while (feed.count < max && looks++ < group::looked_at_once) {
    const std::uint32_t lane = one_lane ? 0 : next_lane();
    if (lane >= lanes.size()) return nothing_because::empty;
    feed.enter(lane);
    const std::size_t before = feed.count;
    const auto left = static_cast<std::uint32_t>(max - feed.count);
    why = core.claim(lane, member_, one_lane ? left : 1, now, lanes[lane]->reader, feed);
    if (why == nothing_because::rescanning) {
      core.claim_ready(member_, static_cast<std::uint32_t>(max - feed.count), now, feed);
      continue;
    }
    if (one_lane || why != nothing_because::empty) return why;
    if (feed.count == before && has_next(lane)) return why;
  }
  return why;
}

[[gnu::flatten]] void consumer_core::claim_under_lock(std::size_t max, std::uint64_t now,
                                                      std::uint64_t paused,
                                                      detail::claim_feed& feed) noexcept {
  auto& core = group_->core();
  std::size_t room = 0;
  if (paused > now) {
    why_ = nothing_because::paused;
  } else if (!may_take_part() && !(watch_active(now, paused) && may_take_part())) {
    why_ = nothing_because::standby;
  } else {
    room = group_->memory().rules.ack == group::ack_rule::none
               ? max
               : core.window(static_cast<std::uint32_t>(std::min<std::size_t>(max, UINT32_MAX)));
    why_ = room == 0 ? nothing_because::window : nothing_because::empty;
  }
  if (room == 0) return;
  feed.max = room;
  if (group_->memory().lists().ready_count != 0) [[unlikely]]
    core.claim_ready(member_, static_cast<std::uint32_t>(room), now, feed);
  if (feed.count >= room) return;
  if (group_->lanes().size() != 1 || config().order == group_order::key) {
    why_ = claim_lanes(room, now, feed);
    return;
  }
  feed.enter(0);
  why_ = core.claim(0, member_, static_cast<std::uint32_t>(room - feed.count), now,
                    group_->lanes()[0]->reader, feed);
}

// Not at every claim, because that costs time per message, but early enough that publishers have
// nearly all of the ring. A larger lag comes from a message that is held or not collected yet.
bool consumer_core::are_pins_due() noexcept {
  if (group_->memory().rules.ack != group::ack_rule::each) return true;
  auto& core = group_->core();
  const auto& lanes = group_->lanes();
  bool due = false;
  for (std::uint32_t lane = 0; lane < lanes.size(); ++lane) {
    const std::uint64_t lag = core.pin_lag(lane);
    const std::uint64_t capacity = core.lane_memory(lane).capacity_bytes;
    due = due || lag >= capacity / 32 || has_waiting_publisher(lane);
    if (lag >= capacity / 4 && claims_since_collect_ >= 4 && core.may_collect(member_))
      collect_all();
  }
  return due;
}

// True if this member waits for messages of others. They may be settled already, by a member that
// was stopped before it reported that.
bool consumer_core::is_held_up() const noexcept {
  const auto& lists = group_->memory().lists();
  return why_ == nothing_because::window || why_ == nothing_because::slots ||
         (why_ == nothing_because::empty && (lists.parked_count | lists.rescan_first) != 0);
}

void consumer_core::collect_all() noexcept {
  group_->core().collect(member_);
  claims_since_collect_ = 0;
}

[[gnu::always_inline]] inline std::size_t consumer_core::claim(std::size_t max,
                                                               std::uint64_t max_bytes,
                                                               bool start_first,
                                                               std::uint64_t seen_ticks) noexcept {
  claimed_.clear();
  ahead_ = 0;
  if (!guard_.same_process()) {
    if (!failure) failure = session->forked_error();
    return 0;
  }
  if ((group_->is_removed() || !group_->is_current()) && !refresh()) return 0;
  const std::uint64_t now = seen_ticks != 0 ? seen_ticks : group_->now();
  if (now >= next_deaths_look_) [[unlikely]] {
    next_deaths_look_ = now + look_for_deaths_every_;
    sync::store_relaxed(group_->header().last_member_ticks, now);
    group_->return_leases_of_dead();
    group_->core().look_for_losses();  // that a dead process did not report
  }
  if (!group_->lock(lock_patience)) [[unlikely]] {
    failure = group_->failure;
    return 0;
  }
  auto& core = group_->core();
  detail::claim_feed feed(*this, max_bytes, start_first);
  const std::uint64_t paused = sync::load_relaxed(group_->header().paused_until);
  core.housekeep(now, member_);
  if (++claims_since_collect_ >= claims_per_round ||
      group_->memory().rules.order != group::order_rule::none)
    collect_all();
  claim_under_lock(max, now, paused, feed);
  // Messages that other members settled make room: collected when that may help.
  if (feed.count < max && core.may_collect(member_)) {
    collect_all();
    if (feed.count == 0) claim_under_lock(max, now, paused, feed);
  }
  const bool none = feed.count == 0;
  if (core.has_lost()) [[unlikely]]
    take_losses();
  if (none) {  // the consumer may wait now
    if (why_ == nothing_because::standby && watched_active_.since != 0)
      next_event_ =
          std::min(core.next_event(), watched_active_.since + group_->memory().rules.ack_wait + 1);
    else
      next_event_ = core.next_event();
    if (paused > now) next_event_ = std::min(next_event_, paused);
    bell_seen_ = sync::load_relaxed(group_->header().bell);
  }
  if (none && now >= next_full_look_ && is_held_up()) [[unlikely]] {
    if (core.collect_unlisted() != 0) why_ = nothing_because::rescanning;
    const std::uint64_t spent = group_->now() - now;
    next_full_look_ = now + std::max(8 * look_for_deaths_every_, 33 * spent);
  }
  ++claims_since_pins_;
  if (none || are_pins_due()) {
    const auto taken = static_cast<std::uint32_t>(feed.count / 8 + 1);
    group_->update_pins(none, std::min(std::max(claims_since_pins_, taken), claims_per_round));
    claims_since_pins_ = 0;
  }
  // Messages are left, and a sleeping consumer may not have been notified.
  const bool more = group_->memory().lists().ready_count != 0;
  group_->unlock();
  if (more && sync::load_relaxed(group_->header().sleepers) != 0) group_->ring_bell();
  if (!lost_not_shown_.empty()) [[unlikely]]
    announce_losses(now);
  if (none) {
    // Where the next messages will be, unless another consumer takes them.
    watched_.clear();
    for (std::uint32_t lane = 0; lane < group_->lanes().size(); ++lane) {
      const auto at = core.cursor_of(lane);
      watched_.emplace_back(next_word(lane, at), at.seq | layout::commit_open);
    }
    if (why_ == nothing_because::unknown || why_ == nothing_because::broken_lane) feed.resolve();
    return 0;
  }
  last_activity_ = now;
  sync::bump(group_->memory().members[member_].claimed, feed.count);
  stats.claimed += feed.count;
  if (feed.is_simple) [[likely]]
    return claimed_.size();
  if (finish_copies()) return claimed_.size();
  why_ = nothing_because::rescanning;  // all were lost meanwhile
  return 0;
}

// REQUIRES: the lock.
void consumer_core::take_losses() noexcept {
  auto& core = group_->core();
  for (std::uint32_t lane = 0; lane < group_->lanes().size(); ++lane) {
    const auto lost = core.take_loss(lane);
    if (lost.count == 0) continue;
    const gap one{config().stream, lane, lost.first, lost.count, gap_reason::overwritten};
    stats.lost += lost.count;
    ++stats.gaps;
    if (options.on_gap) gaps_.push_back(one);
    lost_not_shown_.push_back(one);
  }
  core.clear_losses();
}

// At most ten events a second: a group may also lose its own events.
void consumer_core::announce_losses(std::uint64_t now) noexcept {
  if (now < next_loss_event_) return;
  next_loss_event_ = now + group_->ticks(std::chrono::milliseconds(100));
  for (std::uint32_t lane = 0; lane < group_->lanes().size(); ++lane) {
    std::uint64_t first = 0, count = 0;
    for (const gap& one : lost_not_shown_) {
      if (one.lane != lane) continue;
      if (count == 0) first = one.first;
      count += one.count;
    }
    if (count != 0) group_->events().lost(config().stream, config().name, lane, first, count);
  }
  lost_not_shown_.clear();
}

void consumer_core::report_gaps() {
  while (!gaps_.empty()) {
    const gap one = gaps_.front();
    gaps_.erase(gaps_.begin());
    options.on_gap(one);
  }
}

// Large messages are copied outside the lock; their leases protect them meanwhile.
bool consumer_core::finish_copies() noexcept {
  std::erase_if(claimed_, [&](detail::lease_entry* entry) {
    if (!entry->copied && !copy_outside_lock(*entry)) {
      free_entry(entry);
      return true;
    }
    learn(*entry);
    if (keeper_) keeper_->hold(entry->token);
    return false;
  });
  return !claimed_.empty();
}

// False: the lease was lost meanwhile.
bool consumer_core::copy_outside_lock(detail::lease_entry& entry) noexcept {
  const auto& slot = group_->memory().slots[entry.token.slot];
  const auto& memory = group_->lanes()[entry.lane]->lane->memory();
  const std::size_t bytes = entry.message.header_bytes() + entry.message.payload_bytes();
  std::byte* to = entry.memory.get();
  for (int attempt = 0; attempt < 8; ++attempt) {
    // [Q5] acquire: the copy in the arena that `location` names.
    const std::uint64_t location = sync::load_acquire(slot.location);
    if ((location & layout::location_in_arena) != 0)
      group::hold_arena(group_->memory())
          .copy_out(to, static_cast<std::uint32_t>(location), layout::record_header_bytes, bytes);
    else
      sync::hardware::copy_out(to, memory.at(location) + layout::record_header_bytes, bytes);
    if (!sync::is_unchanged(slot.location, location)) continue;  // moved during the copy
    return group_->core().is_held(entry.token);
  }
  return false;
}

// Learns the text of the subject for the user. May make a system call.
void consumer_core::learn(detail::lease_entry& entry) noexcept {
  auto& source = *group_->lanes()[entry.lane];
  const auto id = static_cast<std::uint32_t>(entry.message.origin_);
  if (id == layout::inline_subject_id || !source.subject_of(id).empty()) return;
  const ring::record_view view{entry.message.area_ - layout::record_header_bytes,
                               0,
                               entry.message.sequence_,
                               layout::record_shape::unpack(entry.message.shape_),
                               entry.message.origin_,
                               entry.message.ticks_,
                               false};
  (void)source.match_of(view);
  if (source.failed) failure = std::move(source.failed);
}

bool consumer_core::is_gone() noexcept {
  return group_->is_removed() || group_->map()->is_lost() || session->directory->removed() ||
         std::all_of(group_->lanes().begin(), group_->lanes().end(),
                     [](const auto& lane) { return lane->closed(); });
}

bool consumer_core::refresh() noexcept {
  if (session->directory->removed()) {
    failure = session->directory->removed_error();
    return false;
  }
  if (group_->stream().is_lost()) {
    failure = group_->stream().lost_error();
    return false;
  }
  if (is_gone()) {
    failure = error{errc::closed, 0, "cannot use the group '" + config().name + "'",
                    "it or its stream was removed", "bus group ls"};
    return false;
  }
  auto refreshed = group_->refresh();
  if (!refreshed) failure = std::move(refreshed.error());
  return refreshed.has_value();
}

// The number of claims that check all that the rings can hold. A bound is needed because publishers
// may be faster.
std::uint64_t consumer_core::looks_at_everything() const noexcept {
  std::uint64_t looks = 0;
  for (const auto& lane : group_->lanes())
    looks +=
        16 + lane->lane->memory().capacity_bytes / (layout::record_align * group::looked_at_once);
  return looks;
}

std::size_t consumer_core::fetch(std::size_t max, std::uint64_t max_bytes,
                                 std::chrono::nanoseconds wait_for, bool start_first) noexcept {
  max = std::min<std::size_t>(max, config().max_ack_pending);
  clock::time_point deadline{};
  std::uint64_t seen_ticks = 0;
  std::uint64_t looks = 0;
  for (;;) {
    if (stopped() || failure) {
      claimed_.clear();
      return 0;
    }
    const std::size_t count = claim(max, max_bytes, start_first, seen_ticks);
    if (count != 0) return count;
    seen_ticks = 0;
    if (wait_for.count() <= 0 || failure) {
      if (why_ == nothing_because::unknown || why_ == nothing_because::rescanning ||
          (why_ == nothing_because::more && ++looks < looks_at_everything()))
        continue;
      return 0;
    }
    const auto now = clock::now();
    if (deadline == clock::time_point{})
      deadline = now + std::min<std::chrono::nanoseconds>(wait_for, forever);
    // There may always be a reason to try again, and nothing to claim.
    if (now >= deadline || !wait(deadline, seen_ticks)) {
      claimed_.clear();
      return 0;
    }
  }
}

}  // namespace bus
