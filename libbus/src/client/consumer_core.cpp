#include "client/consumer_core.hpp"

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/bits.hpp"
#include "base/cycles.hpp"
#include "base/hash.hpp"
#include "client/claim_feed.hpp"
#include "layout/validate.hpp"
#include "os/futex.hpp"
#include "os/process.hpp"

namespace bus {

using group::nothing_because;
using namespace std::chrono_literals;

namespace {

using clock = std::chrono::steady_clock;

constexpr auto lock_patience = 5s;
constexpr auto adaptive_spin = 20us;
constexpr auto deaths_look = 1ms;
constexpr auto lately_active = 2s;
constexpr auto lately_active_bound = 8ms;  // a publisher killed between commit and wake-up
constexpr auto idle_bound = 50ms;
constexpr auto waited_for_bound = 1ms;
// What others settled is collected, and publishers are told of the room, not at every claim.
constexpr std::uint32_t claims_per_round = 16;
constexpr std::uint64_t pins_per_ring = 32;
constexpr int tries_with_full_queue = 1000;
constexpr auto forever = std::chrono::hours(24 * 365);

}  // namespace

// ---------------------------------------------------------------- membership

consumer_core::~consumer_core() {
  end_keeper();
  if (session && group_ && joined_ && guard_.same_process()) leave();
}

void consumer_core::end_keeper() noexcept {
  if (guard_.same_process())
    keeper_.reset();
  else
    (void)keeper_.release();  // a forked child has no thread that could be waited for
}

void consumer_core::retire(std::unique_ptr<consumer_core> core) noexcept {
  core->end_keeper();
  if (core->joined_ && core->guard_.same_process()) core->leave();
  core->joined_ = false;
  core->retired_ = true;
  for (auto& entry : core->entries_) entry.settled = true;
  if (core->in_hand_ != 0) (void)core.release();
}

result<void> consumer_core::join() {
  auto& header = group_->header();
  const auto& m = group_->memory();
  group_->return_leases_of_dead();
  const std::uint64_t me = std::uint64_t{session->me->id()} << 32 | session->next_object_id();
  if (!group_->lock(lock_patience)) return *group_->failure;
  error why{errc::no_space, 0, "cannot join the group '" + config().name + "'",
            "it has " + std::to_string(m.member_count) + " consumers already",
            "make the group anew with more --max-consumers"};
  std::uint32_t member = 0;
  while (member < m.member_count && sync::load_acquire(m.members[member].who) != 0) ++member;
  const std::uint64_t active = sync::load_relaxed(header.active);
  const auto holder = static_cast<std::uint32_t>(active >> 32);
  const bool is_taken =
      holder != 0 && holder <= m.member_count && sync::load_acquire(m.members[holder - 1].who) != 0;
  bool admitted = member < m.member_count;
  if (admitted && config().mode == group_mode::exclusive && is_taken) {
    admitted = false;
    why = {errc::busy, 0, "cannot join the group '" + config().name + "'",
           "it is exclusive, and " +
               session->peers->describe(static_cast<std::uint32_t>(
                   sync::load_relaxed(m.members[holder - 1].who) >> 32)) +
               " is its consumer",
           "end that one, or use mode failover"};
  }
  if (admitted) {
    auto held = group_->take_hold();
    if (!held) {
      admitted = false;
      why = std::move(held.error());
    }
  }
  if (admitted) {
    auto& entry = m.members[member];
    const std::string name = (options.name.empty() ? session->address.process_name : options.name) +
                             " (pid " + std::to_string(session->me->who().pid) + ")";
    std::memset(entry.name, 0, sizeof entry.name);
    // The pid is what people look for: the name gives way.
    const std::size_t most = sizeof entry.name - 1;
    const std::string shown =
        name.size() <= most ? name : name.substr(0, most - 14) + name.substr(name.size() - 14);
    std::memcpy(entry.name, shown.data(), shown.size());
    sync::store_relaxed(entry.claimed, 0);
    sync::store_relaxed(entry.settled, 0);
    group_->core().member_joins(member);
    sync::store_relaxed(entry.joined_by, static_cast<std::uint64_t>(session->me->who().pid) << 32 |
                                             static_cast<std::uint32_t>(os::thread_id()));
    sync::store_release(entry.who, me);
    sync::reach(sync::failpoint::member_joined);
    if (sync::load_relaxed(header.members_used) <= member)
      sync::store_release(header.members_used, std::uint64_t{member} + 1);
    member_ = member;
    joined_ = true;
    (void)take_part();
  }
  group_->unlock();
  if (!admitted) return why;
  return {};
}

// REQUIRES: the lock. Is it this one that takes messages?
bool consumer_core::take_part() noexcept {
  if (group_->memory().rules.mode == group::mode_rule::shared) [[likely]]
    return true;
  auto& header = group_->header();
  const std::uint64_t active = sync::load_relaxed(header.active);
  const auto holder = static_cast<std::uint32_t>(active >> 32);
  if (holder == member_ + 1) return true;
  const auto& m = group_->memory();
  if (holder != 0 && holder <= m.member_count && sync::load_acquire(m.members[holder - 1].who) != 0)
    return false;
  const std::uint64_t token = sync::load_relaxed(header.tokens) + 1;
  sync::store_relaxed(header.tokens, token);
  sync::store_release(header.active, (std::uint64_t{member_} + 1) << 32 | (token & 0xffffffffu));
  return true;
}

std::uint64_t consumer_core::active_token() const noexcept {
  if (config().mode == group_mode::shared) return 0;
  const std::uint64_t active = sync::load_acquire(group_->header().active);
  return active >> 32 == member_ + 1 ? active & 0xffffffffu : 0;
}

void consumer_core::leave() noexcept {
  for (std::size_t i = ahead_; i < claimed_.size(); ++i)
    if (!claimed_[i]->settled) (void)release(*claimed_[i]);
  auto& header = group_->header();
  if (group_->is_removed() || !group_->lock(lock_patience))
    return;  // whoever finds this process gone returns what is left
  group_->core().housekeep(group_->now());
  // What its user kept beyond its end goes back, too.
  (void)group_->core().member_died(member_, group_->now());
  group_->core().member_gone(member_);
  if (sync::load_relaxed(header.active) >> 32 == member_ + 1) sync::store_relaxed(header.active, 0);
  sync::store_release(group_->memory().members[member_].who, 0);
  sync::store_relaxed(header.last_member_ticks, group_->now());
  group_->update_pins(true);
  group_->unlock();
  group_->ring_bell();
}

// ---------------------------------------------------------------- claiming

detail::lease_entry* consumer_core::new_entry(std::size_t bytes) noexcept {
  detail::lease_entry* entry;
  if (free_entries_.empty()) {
    entry = &entries_.emplace_back();
    entry->owner = this;
  } else {
    entry = free_entries_.back();
    free_entries_.pop_back();
  }
  if (entry->memory == nullptr || entry->capacity < bytes) {  // an empty message has a place, too
    entry->capacity = base::round_up(std::max<std::size_t>(bytes, 256), 64);
    entry->memory = std::make_unique_for_overwrite<std::byte[]>(entry->capacity + 64);
  }
  entry->settled = entry->started = false;
  return entry;
}

void consumer_core::free_entry(detail::lease_entry* entry) noexcept {
  free_entries_.push_back(entry);
}

// Where the next record of the lane is, or will be. A position that something wrote over is found
// out by the claim.
const base::word* consumer_core::next_word(std::uint32_t lane,
                                           const group::core::stand& at) const noexcept {
  return &group_->lanes()[lane]->lane->memory().word_at(
      base::round_down(at.position, layout::record_align));
}

// Is there something at the group's position of this lane? A record that is being written is not:
// its publisher may be stopped.
bool consumer_core::has_next(std::uint32_t lane) const noexcept {
  const auto at = group_->core().stand_of(lane);
  // relaxed: a reason to look; the claim acquires what it reads
  const std::uint64_t word = sync::load_relaxed(*next_word(lane, at));
  return word != 0 && word != (at.seq | layout::commit_open);
}

// By time: the lane whose next message is oldest. lanes().size(): none has any.
std::uint32_t consumer_core::next_lane() noexcept {
  const auto& lanes = group_->lanes();
  auto best = static_cast<std::uint32_t>(lanes.size());
  std::uint64_t oldest = ~0ull;
  if (const std::uint32_t first = group_->core().rescan_lane(); first < lanes.size()) return first;
  for (std::uint32_t lane = 0; lane < lanes.size(); ++lane) {
    if (!has_next(lane)) continue;
    const auto at = group_->core().stand_of(lane);
    const auto* words = next_word(lane, at);
    const std::uint64_t ticks = sync::load_relaxed(words[3]);  // a choice only
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
  } else if (!take_part()) {
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

// A publisher that waits is seen at the next ack.
bool consumer_core::are_pins_due(const detail::claim_feed& feed) noexcept {
  bytes_since_pins_ += feed.bytes + feed.count * layout::record_align;
  return ++claims_since_pins_ >= claims_per_round || bytes_since_pins_ >= bytes_per_pin_ ||
         group_->memory().rules.ack != group::ack_rule::each;
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
  if (!group_->is_current() && !refresh()) return 0;
  const std::uint64_t now = seen_ticks != 0 ? seen_ticks : group_->now();
  if (now >= next_deaths_look_) [[unlikely]] {
    next_deaths_look_ = now + look_for_deaths_every_;
    sync::store_relaxed(group_->header().last_member_ticks, now);
    group_->return_leases_of_dead();
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
  // What others settled makes place: looked for when it may be missed.
  if (feed.count < max && core.may_collect(member_)) {
    collect_all();
    if (feed.count == 0) claim_under_lock(max, now, paused, feed);
  }
  const bool none = feed.count == 0;
  if (none) {  // it may wait now
    next_event_ = core.next_event();
    if (paused > now) next_event_ = std::min(next_event_, paused);
    bell_seen_ = sync::load_relaxed(group_->header().bell);
  }
  if (none || are_pins_due(feed)) {
    group_->update_pins(none, claims_since_pins_ + 1);
    claims_since_pins_ = 0;
    bytes_since_pins_ = 0;
    bytes_per_pin_ = group_->lanes().empty()
                         ? 0
                         : group_->lanes()[0]->lane->memory().capacity_bytes / pins_per_ring;
  }
  // Messages are left, and somebody may sleep who did not hear of them.
  const bool more = group_->memory().lists().ready_count != 0;
  group_->unlock();
  if (more && sync::load_relaxed(group_->header().sleepers) != 0) group_->ring_bell();
  if (core.has_expired()) [[unlikely]]
    tell_expired();
  if (none) {
    // Where the next messages will be, unless somebody else takes them.
    watched_.clear();
    for (std::uint32_t lane = 0; lane < group_->lanes().size(); ++lane) {
      const auto at = core.stand_of(lane);
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
  return finish_copies() ? claimed_.size() : 0;
}

// Somebody hangs, or was too slow: whoever watches over the host wants to know.
void consumer_core::tell_expired() noexcept {
  if (!events_) events_ = std::make_unique<client::group_events>(session);
  const auto& m = group_->memory();
  group_->core().tell_expired([&](const group::core::expired_lease& one) {
    const char* name = one.member < m.member_count ? m.members[one.member].name : "";
    events_->expired(config().stream, config().name, layout::lane_of_origin(one.origin),
                     layout::seq_of_origin(one.origin),
                     {name, ::strnlen(name, sizeof(layout::group_member::name))});
  });
}

// Large messages are copied outside the lock: the lease holds them meanwhile.
bool consumer_core::finish_copies() noexcept {
  std::erase_if(claimed_, [&](detail::lease_entry* entry) {
    if (!entry->copied && !copy_later(*entry)) {
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
bool consumer_core::copy_later(detail::lease_entry& entry) noexcept {
  const auto& slot = group_->memory().slots[entry.token.slot];
  const auto& memory = group_->lanes()[entry.lane]->lane->memory();
  const std::size_t bytes = entry.message.header_bytes() + entry.message.payload_bytes();
  std::byte* to = entry.memory.get();
  for (int attempt = 0; attempt < 8; ++attempt) {
    // [Q5] acquire: the copy in the arena that the place names.
    const std::uint64_t place = sync::load_acquire(slot.place);
    if ((place & layout::place_in_arena) != 0)
      group::hold_arena(group_->memory())
          .copy_out(to, static_cast<std::uint32_t>(place), layout::record_header_bytes, bytes);
    else
      sync::hardware::copy_out(to, memory.at(place) + layout::record_header_bytes, bytes);
    if (!sync::is_unchanged(slot.place, place)) continue;  // it moved while it was copied
    return group_->core().is_held(entry.token);
  }
  return false;
}

// The subject's text, for the user. May enter the kernel.
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

bool consumer_core::refresh() noexcept {
  if (group_->is_removed() || std::all_of(group_->lanes().begin(), group_->lanes().end(),
                                          [](const auto& lane) { return lane->closed(); })) {
    failure = error{errc::closed, 0, "cannot use the group '" + config().name + "'",
                    "it was removed, or its stream was", "bus group ls"};
    return false;
  }
  auto refreshed = group_->refresh();
  if (!refreshed) failure = std::move(refreshed.error());
  return refreshed.has_value();
}

// ---------------------------------------------------------------- settling

void consumer_core::ended(detail::lease_entry& entry) noexcept {
  entry.settled = true;
  if (keeper_) keeper_->let_go(entry.token);
}

// A publisher may wait for the space, another consumer for the place in the window.
void consumer_core::after_settle(std::uint32_t lane) noexcept {
  if (sync::load_relaxed(group_->header().settle_sleepers) != 0) [[unlikely]]
    group_->ring_bell();
  const bool is_full = group_->core().take_queue_full();
  if (is_full || is_waited_for(lane)) [[unlikely]]
    make_room(is_full);
}

void consumer_core::make_room(bool is_full) noexcept {
  // More than the queue holds is found by a look at all leases: the lock is worth a moment.
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

settle_result consumer_core::ack(detail::lease_entry& entry) noexcept {
  if (entry.settled) return settle_result::already_settled;
  if (!guard_.same_process()) return settle_result::stale_lease;
  if (group_->memory().rules.ack != group::ack_rule::each) [[unlikely]] {
    if (config().ack == ack_policy::none)
      entry.settled = true;
    else
      ack_all(entry);
    return entry.settled ? settle_result::ok : settle_result::stale_lease;
  }
  const auto outcome = group_->core().ack(entry.token, member_);
  ended(entry);
  if (outcome != group::settled::ok) {
    ++stats.stale;
    return settle_result::stale_lease;
  }
  ++stats.settled;
  sync::bump(group_->memory().members[member_].settled, 1);
  after_settle(entry.lane);
  return settle_result::ok;
}

template <class Settle>
settle_result consumer_core::under_lock(detail::lease_entry& entry, Settle&& settle,
                                        bool ends) noexcept {
  if (entry.settled) return settle_result::already_settled;
  if (!guard_.same_process()) return settle_result::stale_lease;
  if (config().ack == ack_policy::none) {
    entry.settled = ends;
    return settle_result::ok;
  }
  if (!group_->lock(lock_patience)) return settle_result::busy;
  const auto outcome = settle(group_->core());
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
  if (entry.settled) return settle_result::already_settled;
  if (entry.started || group_->memory().rules.ack == group::ack_rule::none)
    return settle_result::ok;
  if (!guard_.same_process() || group_->core().start(entry.token) != group::settled::ok)
    return settle_result::stale_lease;
  entry.started = true;
  return settle_result::ok;
}

bool consumer_core::is_held(const detail::lease_entry& entry) noexcept {
  if (entry.settled || !guard_.same_process()) return false;
  return config().ack == ack_policy::none || group_->core().is_held(entry.token);
}

std::size_t consumer_core::ack_all(detail::lease_entry& upto) noexcept {
  if (upto.settled || !guard_.same_process()) return 0;
  const std::uint64_t seq = layout::seq_of_origin(upto.token.origin);
  if (!group_->core().is_held(upto.token) || !group_->lock(lock_patience)) return 0;
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
  after_settle(upto.lane);
  return count;
}

void consumer_core::give_up(detail::lease_entry* entry) noexcept {
  if (!entry->settled && guard_.same_process() &&
      nack(*entry, std::nullopt, "its consumer let it go without settling it") ==
          settle_result::busy)
    ended(*entry);  // it comes back when its lease ends
  free_entry(entry);
  if (--in_hand_ == 0 && retired_) delete this;
}

// ---------------------------------------------------------------- waiting

bool consumer_core::may_claim_now() noexcept {
  const auto& header = group_->header();
  if (!group_->is_current() || sync::load_relaxed(header.bell) != bell_seen_) return true;
  switch (why_) {
    case nothing_because::empty:
      for (const auto& [word, open] : watched_) {
        // relaxed: a reason to look; the claim acquires what it reads
        const std::uint64_t commit = sync::load_relaxed(*word);
        // A record that is being written is nothing yet: its publisher may be stopped.
        if (commit == 0 || commit == open) continue;
        // The rest of the record comes from the publisher's cache, too: on its way meanwhile.
        sync::hardware::prefetch(reinterpret_cast<const std::byte*>(word) + 64);
        return true;
      }
      return config().order != group_order::none && group_->core().may_collect(member_);
    case nothing_because::window:
    case nothing_because::slots: return group_->core().may_collect(member_);
    case nothing_because::unknown:
    case nothing_because::rescanning: return true;
    default: return false;
  }
}

std::size_t consumer_core::fetch(std::size_t max, std::uint64_t max_bytes,
                                 std::chrono::nanoseconds wait_for, bool start_first) noexcept {
  max = std::min<std::size_t>(max, config().max_ack_pending);
  clock::time_point deadline{};
  std::uint64_t seen_ticks = 0;
  for (;;) {
    if (stopped() || failure) {
      claimed_.clear();
      return 0;
    }
    const std::size_t count = claim(max, max_bytes, start_first, seen_ticks);
    if (count != 0) return count;
    seen_ticks = 0;
    if (wait_for.count() <= 0 || failure) {
      if (why_ == nothing_because::unknown || why_ == nothing_because::rescanning) continue;
      return 0;
    }
    const auto now = clock::now();
    if (deadline == clock::time_point{})
      deadline = now + std::min<std::chrono::nanoseconds>(wait_for, forever);
    // There may be reasons to look again and again, and nothing to get.
    if (now >= deadline || !wait(deadline, seen_ticks)) {
      claimed_.clear();
      return 0;
    }
  }
}

// False: the deadline, or stop(). `seen_ticks`: the time, when it was just looked at; else 0.
bool consumer_core::wait(clock::time_point deadline, std::uint64_t& seen_ticks) noexcept {
  seen_ticks = 0;
  const auto spin_end = options.wait == wait_strategy::adaptive ? clock::now() + adaptive_spin
                                                                : clock::time_point::min();
  const bool spins =
      options.wait == wait_strategy::busy_spin || options.wait == wait_strategy::spin_pause;
  std::uint64_t ticks = group_->now();
  for (std::uint32_t looks = 1;; ++looks) {
    if (may_claim_now()) {
      seen_ticks = ticks;
      return true;
    }
    if (looks % 64 != 0 && options.wait == wait_strategy::busy_spin) continue;
    if (options.wait != wait_strategy::busy_spin)
      for (int i = 0; i < 8; ++i) base::relax();
    if (stopped()) return false;
    const auto now = clock::now();
    if (now >= deadline) return false;
    ticks = group_->now();
    if (ticks >= next_event_) return true;
    if (ticks >= next_deaths_look_) {
      next_deaths_look_ = ticks + look_for_deaths_every_;
      group_->return_leases_of_dead();
      continue;
    }
    if (spins || now < spin_end) continue;
    sleep(deadline);
    return !stopped() && clock::now() < deadline;
  }
}

bool consumer_core::is_waited_for() const noexcept {
  for (std::uint32_t lane = 0; lane < group_->lanes().size(); ++lane)
    if (is_waited_for(lane)) return true;
  return false;
}

// Says that it sleeps, tries once more, sleeps: on its lanes, on the bell, and on the lives of
// those who have messages.
void consumer_core::sleep(clock::time_point deadline) noexcept {
  auto& header = group_->header();
  const bool for_messages = why_ == nothing_because::empty;
  const bool for_settles = !for_messages || config().order != group_order::none;
  const std::uint64_t bell = sync::load_acquire(header.bell);
  sync::add_relaxed(header.sleepers, 1);
  if (for_settles) sync::add_relaxed(header.settle_sleepers, 1);
  armed_.clear();
  if (for_messages) {
    for (const auto& lane : group_->lanes()) {
      auto& readers = lane->lane->readers();
      // [A1] relaxed: see the bounds above.
      if (sync::load_relaxed(readers.may_sleep) == 0) sync::store_relaxed(readers.may_sleep, 1);
      // [W1] armed before the last look; pairs with the publisher's exchange after its commit.
      armed_.push_back(
          static_cast<std::uint32_t>(sync::set_bits_both(readers.armed, layout::armed_futex)));
    }
  }
  sync::full_fence();  // pairs with the fence in ring_bell
  if (!may_claim_now() && !stopped() && bell == bell_seen_) {
    std::vector<os::futex_expectation> words;
    words.push_back({os::futex_half(header.bell), static_cast<std::uint32_t>(bell)});
    const auto& generation = session->directory->control().generation;
    words.push_back(
        {os::futex_half(generation), static_cast<std::uint32_t>(session->directory->generation())});
    for (std::size_t i = 0; i < armed_.size() && words.size() < os::futex_wait_any_max; ++i)
      words.push_back({os::futex_half(group_->lanes()[i]->lane->readers().armed), armed_[i]});
    const auto& m = group_->memory();
    const auto used = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(sync::load_acquire(header.members_used), m.member_count));
    for (std::uint32_t i = 0; i < used && words.size() < os::futex_wait_any_max; ++i) {
      const auto process = static_cast<std::uint32_t>(sync::load_acquire(m.members[i].who) >> 32);
      if (process == 0 || process == session->me->id()) continue;
      if (const auto* life = session->peers->life_of(process))
        words.push_back({&life->word, sync::life_value(*life)});
    }
    const std::uint64_t ticks = group_->now();
    std::chrono::nanoseconds nap = group_->time(ticks - last_activity_) < lately_active
                                       ? std::chrono::nanoseconds(lately_active_bound)
                                       : std::chrono::nanoseconds(idle_bound);
    nap = std::min<std::chrono::nanoseconds>(nap, deadline - clock::now());
    if (next_event_ != ~0ull)
      nap = std::min(nap, next_event_ > ticks ? group_->time(next_event_ - ticks) : 0ns);
    // What holds a publisher up may still have to be moved out of its way.
    if (is_waited_for()) nap = std::min<std::chrono::nanoseconds>(nap, waited_for_bound);
    if (nap.count() > 0) os::futex_wait_any(words, nap);
    next_deaths_look_ = 0;  // one of them may be why
  }
  if (for_settles) sync::add_relaxed(header.settle_sleepers, ~std::uint64_t{0});
  sync::add_relaxed(header.sleepers, ~std::uint64_t{0});
}

void consumer_core::stop() noexcept {
  stopped_.store(true);
  // From a signal handler, too: a store and a system call.
  sync::add_release(group_->header().bell, 1);
  os::futex_wake(os::futex_half(group_->header().bell), INT_MAX);
}

}  // namespace bus
