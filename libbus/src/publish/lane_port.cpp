#include "publish/lane_port.hpp"

#include <algorithm>
#include <array>
#include <thread>

#include "base/cycles.hpp"
#include "os/files.hpp"
#include "os/futex.hpp"
#include "registry/keeper_link.hpp"
#include "registry/log_tail.hpp"
#include "sync/words.hpp"

namespace bus::publish {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto spin_for_space = std::chrono::microseconds(20);
constexpr auto longest_wait = std::chrono::milliseconds(5);
constexpr auto look_again_after = std::chrono::milliseconds(1);
constexpr auto lease_patience = std::chrono::seconds(5);

}  // namespace

lane_port::lane_port(session_core& session, std::shared_ptr<registry::stream_handle> stream,
                     std::shared_ptr<registry::lane_map> lane,
                     std::chrono::nanoseconds send_timeout, layout::slot* slot) noexcept
    : session_(session),
      stream_(std::move(stream)),
      lane_(std::move(lane)),
      gate_(lane_, *session.peers, stream_->directory()),
      writer_(lane_->memory()),
      clock_(session.directory->clock()),
      send_timeout_(std::clamp<std::chrono::nanoseconds>(send_timeout, std::chrono::nanoseconds(0),
                                                         std::chrono::hours(24 * 365))),
      slot_(slot) {
  gate_.resolve();
}

lane_port::~lane_port() {
  if (!exclusive_ || !session_.guard.same_process()) return;
  // If the lock is not free, the publisher that finds this lease after our death repairs.
  if (lock(clock::now() + lease_patience) != publish_status::ok) return;
  auto& turn = lane_->header().turn;
  if (sync::load_relaxed(turn.lease) == lease_) {  // ordered by the lock
    writer_.store_turn();
    sync::store_release(turn.lease, free_lease());  // [F1]
    sync::hardware::step(sync::failpoint::lease_returned);
  }
  unlock();
}

layout::log_health lane_port::log_health() const noexcept {
  return static_cast<layout::log_health>(sync::load_acquire(lane_->header().durability.health));
}

error lane_port::health_error() const {
  if (log_health() == layout::log_health::full)
    return {errc::no_space, 0, "cannot publish to stream '" + stream_->name() + "'",
            "the disk of its log is full or nearly full",
            "free space there: publishing then resumes by itself (bus doctor shows where)"};
  return {errc::no_space, 0, "cannot publish to stream '" + stream_->name() + "'",
          "its log cannot be written", "check busd's messages and the disk (bus doctor)"};
}

bool lane_port::closed() const noexcept {
  return lane_->is_lost() || sync::load_acquire(lane_->header().counters.closed) != 0;
}

// Leaves the lane locked and usable, or returns why not.
publish_status lane_port::lock(deadline until) noexcept {
  auto& turn = lane_->header().turn;
  if (!sync::try_lock<sync::hardware>(turn.lock, session_.me->lock_word())) [[unlikely]] {
    std::uint32_t holder = 0;
    const auto outcome =
        sync::wait_lock(turn.lock, session_.me->lock_word(), until, *session_.peers, holder);
    if (outcome == sync::lock_result::busy) {
      error_ = {errc::busy, 0, "cannot publish to stream '" + stream_->name() + "'",
                "the lane is locked by " + session_.peers->describe(holder),
                "continue it (kill -CONT PID), or end it: its turn is then repaired"};
      return publish_status::busy;
    }
    // If there is a lease, the turn is its owner's, alive or dead: take_over_lease decides.
    if (outcome == sync::lock_result::taken_over && sync::load_relaxed(turn.lease) == 0)
      writer_.repair();
  }
  sync::hardware::step(sync::failpoint::publish_locked);
  return publish_status::ok;
}

void lane_port::unlock() noexcept {
  sync::unlock(lane_->header().turn.lock);
  sync::hardware::step(sync::failpoint::publish_unlocked);
}

// REQUIRES: locked. Afterwards no other process has the lease, or the lane is unlocked and the
// status is not ok.
publish_status lane_port::take_over_lease(deadline until) noexcept {
  auto& turn = lane_->header().turn;
  for (;;) {
    const std::uint64_t lease = sync::load_relaxed(turn.lease);  // ordered by the lock
    if (lease == 0 || (exclusive_ && lease == lease_)) return publish_status::ok;
    if (lease == layout::lease_closed) {
      unlock();
      return fail_closed();
    }
    if (lease == layout::lease_parked) {
      const std::uint64_t stop = sync::load_acquire(lane_->header().durability.stopped);
      unlock();
      publish_status status = mark_reopened();
      if (status == publish_status::ok) status = lock(until);
      if (status != publish_status::ok) return status;
      // Only if busd has not stopped again: the mark for an earlier stop may be removed by now.
      auto& stopped = lane_->header().durability.stopped;
      if (sync::load_relaxed(turn.lease) == layout::lease_parked &&
          sync::load_acquire(stopped) == stop) {
        sync::store_relaxed(turn.lease, 0);  // ordered by the lock
        sync::replace(stopped, stop, 0);
      }
      continue;
    }
    const std::uint32_t owner = layout::lease_owner(lease);
    if (const auto unclaimed = time_unclaimed(lease); unclaimed >= sync::disowned_after) {
      writer_.repair();
      sync::store_release(turn.lease, free_lease());  // [F1]
      continue;
    } else if (unclaimed.count() != 0) {
      unlock();
      std::this_thread::sleep_for(look_again_after);
      const publish_status status = lock(until);
      if (status != publish_status::ok) return status;
      continue;
    }
    if (session_.peers->state(owner) == sync::life_state::alive) {
      unlock();
      error_ = {
          errc::conflict, 0,
          "cannot publish to stream '" + stream_->name() + "' lane " + std::to_string(index()),
          session_.peers->describe(owner) + " publishes to it exclusively",
          "end that publisher, or give the stream more lanes (bus stream add --lanes)"};
      return publish_status::conflict;
    }
    if (session_.peers->proven_dead(owner)) {
      writer_.repair();
      sync::store_release(turn.lease, free_lease());  // [F1]
      continue;
    }
    // Dying: its last stores may still come. Waiting happens outside the lock.
    unlock();
    if (clock::now() >= until) {
      error_ = {errc::busy, 0, "cannot publish to stream '" + stream_->name() + "'",
                session_.peers->describe(owner) + " is exiting", "try again"};
      return publish_status::busy;
    }
    os::futex_wait(os::futex_half(turn.lease), static_cast<std::uint32_t>(lease),
                   std::chrono::microseconds(50));
    const publish_status status = lock(until);
    if (status != publish_status::ok) return status;
  }
}

// A lease that its live owner does not claim was written by something else.
std::chrono::nanoseconds lane_port::time_unclaimed(std::uint64_t lease) {
  const auto process = session_.peers->find(layout::lease_owner(lease));
  if (!process || sync::read_life(process->life()) != sync::life_state::alive ||
      process->claims_lane(stream_->facts().stream_id, index())) {
    unclaimed_ = 0;
    return {};
  }
  const auto now = clock::now();
  if (std::exchange(unclaimed_, lease) != lease) unclaimed_since_ = now;
  return now - unclaimed_since_ + std::chrono::nanoseconds(1);
}

// The value of a lease that no process has any more.
std::uint64_t lane_port::free_lease() const noexcept {
  return closed() ? layout::lease_closed : is_log_stopped() ? layout::lease_parked : 0;
}

publish_status lane_port::fail_closed() noexcept {
  error_ = {errc::closed, 0, "cannot publish to stream '" + stream_->name() + "'", "it was removed",
            "publish again, to the stream that now captures the subject"};
  return publish_status::closed;
}

// Marks the log between the end that busd stored and the first message above it. Without the mark,
// if shared memory is lost, the log would take that end for the end of all messages.
publish_status lane_port::mark_reopened() {
  auto told = os::leave_mark(registry::log_path(stream_->directory(), index()),
                             std::string(log::reopened_name));
  if (told) return publish_status::ok;
  error_ = {errc::unavailable, told.error().os_errno,
            "cannot publish to stream '" + stream_->name() + "'",
            "busd has stopped, and its log cannot be marked as reopened: " + told.error().why,
            registry::keeper_command(session_.address.name,
                                     os::link_target(stream_->directory() + "/log"))};
  return publish_status::unavailable;
}

publish_status lane_port::reopen_log() {
  auto& stopped = lane_->header().durability.stopped;
  for (;;) {
    const std::uint64_t stop = sync::load_acquire(stopped);
    if (stop == 0) return publish_status::ok;
    const publish_status status = mark_reopened();
    if (status != publish_status::ok || sync::replace(stopped, stop, 0)) return status;
  }
}

publish_status lane_port::take_lease() {
  const auto until = clock::now() + lease_patience;
  publish_status status = lock(until);
  if (status != publish_status::ok) return status;
  status = take_over_lease(until);
  if (status != publish_status::ok) return status;
  auto& turn = lane_->header().turn;
  const std::uint64_t generation = sync::load_relaxed(turn.generation) + 1;
  sync::store_relaxed(turn.generation, generation);
  lease_ = std::uint64_t{session_.me->id()} << 32 | (generation & 0xffffffffu);
  sync::store_relaxed(turn.lease, lease_);  // all ordered by the lock
  writer_.load_turn();
  exclusive_ = true;
  sync::hardware::step(sync::failpoint::lease_taken);
  unlock();
  return publish_status::ok;
}

bool lane_port::try_room(std::uint64_t total) noexcept {
  if (writer_.has_room(total)) return true;
  // Once per stride: while the log cannot take records, no publisher adds any to the ring.
  if (lane_->memory().has_log() && log_health() > layout::log_health::good) return false;
  return writer_.reserve(total, [this](std::uint64_t tail) { return gate_.lowest_pin(tail); });
}

publish_status lane_port::make_room(std::uint64_t total) noexcept {
  if (try_room(total)) return publish_status::ok;
  const auto since = clock::now();
  for (;;) {
    const publish_status status = when_full(writer_.tail(), total, since + send_timeout_, since);
    if (status != publish_status::ok) return status;
    if (try_room(total)) return publish_status::ok;
  }
}

void lane_port::finish_plain() noexcept {
  if (writer_.is_preparation_due()) writer_.prepare_plain();
  gate_.wake_readers();
  sync::hardware::step(sync::failpoint::publish_woken);
}

// The shortest turn: no contention, room, nothing else due. begin_turn handles the rest.
std::uint64_t lane_port::put_plain_shared(std::uint32_t payload_bytes, std::uint64_t origin,
                                          const void* payload) noexcept {
  const std::uint64_t total = layout::record_shape{payload_bytes, 0, 0}.total_bytes();
  auto& turn = lane_->header().turn;
  if (!sync::try_lock<sync::hardware>(turn.lock, session_.me->lock_word())) [[unlikely]]
    return 0;
  sync::hardware::step(sync::failpoint::publish_locked);
  std::uint64_t seq = 0;
  // While there is a lease, the turn is stale and not even loaded.
  if (sync::load_relaxed(turn.lease) == 0) [[likely]] {  // ordered by the lock
    writer_.load_turn();
    if (writer_.is_plain(total)) [[likely]] {
      seq = writer_.publish_plain(
          payload_bytes, total, origin,
          [&](std::byte* to) { sync::hardware::copy_in(to, payload, payload_bytes); },
          [&] { return clock_.now(); });
      if (writer_.is_preparation_due()) writer_.prepare_plain();
      writer_.store_plain_turn();
    }
  }
  unlock();
  if (seq != 0) [[likely]]
    gate_.wake_readers();
  return seq;
}

// ok: locked, with room for `total`. `again`: unlocked, and there may be room now.
publish_status lane_port::begin_turn(std::uint64_t total, turn_wait& wait) noexcept {
  auto& turn = lane_->header().turn;
  const auto start_waiting = [&] {
    if (wait.since != deadline{}) return;
    wait.since = clock::now();
    wait.until = wait.since + send_timeout_;
  };
  if (!sync::try_lock<sync::hardware>(turn.lock, session_.me->lock_word())) [[unlikely]] {
    start_waiting();
    // Even with send_timeout = 0, an owner gets the time of a turn.
    const publish_status status =
        lock(std::max(wait.until, wait.since + std::chrono::milliseconds(100)));
    if (status != publish_status::ok) return status;
  }
  sync::hardware::step(sync::failpoint::publish_begin);
  if (sync::load_relaxed(turn.lease) != 0) [[unlikely]] {
    start_waiting();
    const publish_status status =
        take_over_lease(std::max(wait.until, wait.since + std::chrono::milliseconds(100)));
    if (status != publish_status::ok) return status;
  }
  writer_.load_turn();
  if (try_room(total)) [[likely]]
    return publish_status::ok;
  const std::uint64_t tail = writer_.tail();
  writer_.store_turn();
  unlock();
  start_waiting();
  const publish_status status = when_full(tail, total, wait.until, wait.since);
  return status == publish_status::ok ? again : status;
}

void lane_port::end_turn() noexcept {
  writer_.store_turn();
  unlock();
  gate_.wake_readers();
  sync::hardware::step(sync::failpoint::publish_woken);
}

void lane_port::note_holder(publish_status status, std::uint64_t tail) {
  const auto& slowest = gate_.slowest();
  if (slowest.unseen) {
    const bool is_group = slowest.process_id == layout::group_reader;
    const std::string why = is_group ? "the file of one of its groups cannot be opened"
                                     : session_.peers->describe(slowest.process_id) +
                                           " reads it, but its process file cannot be read: " +
                                           session_.peers->why_unseen(slowest.process_id);
    error_ = {status == publish_status::timed_out ? errc::timed_out : errc::no_space, 0,
              "cannot publish to stream '" + stream_->name() + "'", "the ring is full, and " + why,
              "free file descriptors in this process (ulimit -n), or end that reader (bus doctor)"};
    return;
  }
  const std::string who = slowest.is_newcomer || slowest.process != nullptr
                              ? session_.peers->describe(slowest.process_id)
                          : slowest.group != nullptr ? "the group '" + slowest.group->name() + "'"
                                                     : std::string("a reader");
  const std::string lag = std::to_string(tail - std::min(tail, slowest.position));
  const std::string what = "cannot publish to stream '" + stream_->name() + "'";
  const std::string why =
      slowest.is_newcomer
          ? "the ring is full: " + who + " is subscribing and has not attached to it yet"
          : "the ring is full: " + who + " lags by " + lag + " bytes";
  const std::string fix =
      "make that reader faster or end it, or use --overflow drop_oldest (bus ps shows readers)";
  if (status == publish_status::timed_out)
    error_ = {errc::timed_out, 0, what, why + ", for longer than send_timeout", fix};
  else if (status == publish_status::would_deadlock)
    error_ = {errc::would_deadlock, 0, what, why + "; it is a subscriber of this same thread",
              "poll it before publishing, or give it a thread of its own"};
  else
    error_ = {errc::no_space, 0, what, why, fix};
}

// Holds no lock. ok: try again.
publish_status lane_port::when_full(std::uint64_t tail, std::uint64_t total, deadline until,
                                    deadline since) noexcept {
  if (gate_.has_unresolved()) {
    gate_.resolve();  // afterwards each reader is resolved or unseen
    return publish_status::ok;
  }
  if (gate_.has_unseen()) {
    gate_.resolve();
    (void)gate_.lowest_pin(tail);
    if (!gate_.has_unseen()) return publish_status::ok;
  }
  if (gate_.awaits_newcomers() && gate_.meet_newcomers(*stream_, *session_.directory))
    return publish_status::ok;
  auto& counters = lane_->header().counters;
  if (gate_.forget_dead()) return publish_status::ok;
  // Before any reader is checked, as in try_room().
  if (lane_->memory().has_log() && log_health() > layout::log_health::good) {
    sync::add_relaxed(counters.rejected, 1);
    error_ = health_error();
    return publish_status::no_space;
  }
  if (const auto* group = gate_.slowest().group;
      group != nullptr && group->seems_idle(clock_) && session_.release_idle_group != nullptr &&
      session_.release_idle_group(session_, stream_, group->name()))
    return publish_status::ok;
  if (lane_->memory().has_log()) registry::ring_keeper(session_.directory->control());
  switch (stream_->facts().config.overflow) {
    case overflow::reject:
      sync::add_relaxed(counters.rejected, 1);
      note_holder(publish_status::rejected, tail);
      return publish_status::rejected;
    case overflow::drop_new: sync::add_relaxed(counters.dropped, 1); return publish_status::dropped;
    default: break;
  }
  if (lane_->memory().has_log()) return when_log_lags(tail, total, until, since);
  if (gate_.slowest().is_newcomer && gate_.slowest().process_id == session_.me->id() &&
      gate_.slowest().thread == static_cast<std::uint64_t>(os::thread_id())) {
    note_holder(publish_status::would_deadlock, tail);
    return publish_status::would_deadlock;
  }
  if (gate_.slowest().unseen || gate_.slowest().is_newcomer) return when_out_of_sight(tail, until);
  const auto* pin = gate_.slowest().pin;
  if (pin == nullptr) return publish_status::ok;  // it moved on meanwhile
  const std::uint64_t capacity = lane_->memory().capacity_bytes;
  const std::uint64_t need = tail + total + layout::record_align;
  const auto room_now = [&] { return gate_.lowest_pin(tail) + capacity; };
  const auto go_on = [&](std::uint64_t room, deadline now) {
    return room >= need + capacity / 16 || (room >= need && now - since >= spin_for_space);
  };
  // A reader that keeps up frees space within microseconds.
  deadline now = clock::now();
  const deadline spin_end = now + spin_for_space;
  for (; now < spin_end; now = clock::now()) {
    for (int i = 0; i < 16; ++i) base::relax();
    if (go_on(room_now(), now) || gate_.has_unresolved()) return publish_status::ok;
  }
  if (gate_.slowest().process_id == session_.me->id() &&
      sync::load_relaxed(gate_.slowest().pin != nullptr
                             ? gate_.slowest().pin->thread
                             : pin->thread) == static_cast<std::uint64_t>(os::thread_id())) {
    note_holder(publish_status::would_deadlock, tail);
    return publish_status::would_deadlock;
  }
  if (now >= until) {
    sync::add_relaxed(counters.rejected, 1);
    note_holder(publish_status::timed_out, tail);
    return publish_status::timed_out;
  }
  if (closed()) return publish_status::closed;
  if (slot_ != nullptr)
    sync::store_relaxed(slot_->flags, sync::load_relaxed(slot_->flags) | layout::slot_blocked);
  sync::add_relaxed(counters.blocked, 1);
  sync::add_relaxed(counters.waiting, 1);
  pin = gate_.slowest().pin;
  if (pin != nullptr) {
    const std::uint64_t seen = sync::load_relaxed(pin->tick);
    const auto* life =
        gate_.slowest().process != nullptr ? &gate_.slowest().process->life() : nullptr;
    sync::hardware::step(sync::failpoint::full_waiting);
    // [W2] waiting before the second check; pairs with the fence in lane_reader::tick.
    sync::full_fence();
    if (!go_on(room_now(), now) && gate_.slowest().pin == pin) {
      const auto nap = std::min<std::chrono::nanoseconds>(longest_wait, until - now);
      if (life != nullptr) {
        const std::array<os::futex_expectation, 2> words{{
            {os::futex_half(pin->tick), static_cast<std::uint32_t>(seen)},
            {&life->word, sync::life_value(*life)},
        }};
        os::futex_wait_any(words, nap);
      } else {  // a group does not die
        os::futex_wait(os::futex_half(pin->tick), static_cast<std::uint32_t>(seen), nap);
      }
    }
    sync::hardware::step(sync::failpoint::full_slept);
  }
  sync::add_relaxed(
      counters.waiting,
      ~std::uint64_t{0});  // a publisher that dies here leaves its 1: readers wake for nothing
  if (slot_ != nullptr)
    sync::store_relaxed(slot_->flags,
                        sync::load_relaxed(slot_->flags) & ~std::uint64_t{layout::slot_blocked});
  return publish_status::ok;
}

// The reader has no pin that this process can see, so it cannot wake us: check again every
// millisecond.
publish_status lane_port::when_out_of_sight(std::uint64_t tail, deadline until) noexcept {
  const deadline now = clock::now();
  auto& counters = lane_->header().counters;
  if (now >= until) {
    sync::add_relaxed(counters.rejected, 1);
    note_holder(publish_status::timed_out, tail);
    return publish_status::timed_out;
  }
  if (closed()) return publish_status::closed;
  sync::add_relaxed(counters.blocked, 1);
  std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(look_again_after, until - now));
  return publish_status::ok;
}

// busd frees space by writing to the log. On a spill lane readers free space, too.
publish_status lane_port::when_log_lags(std::uint64_t tail, std::uint64_t total, deadline until,
                                        deadline since) noexcept {
  auto& header = lane_->header();
  const std::uint64_t need = tail + total + layout::record_align;
  const auto has_room = [&](deadline now) {
    const std::uint64_t room = gate_.lowest_pin(tail) + lane_->memory().capacity_bytes;
    return room >= need + lane_->memory().capacity_bytes / 16 ||
           (room >= need && now - since >= spin_for_space);
  };
  deadline now = clock::now();
  for (const deadline spin_end = now + spin_for_space; now < spin_end; now = clock::now()) {
    for (int i = 0; i < 16; ++i) base::relax();
    if (has_room(now)) return publish_status::ok;
  }
  if (now >= until) {
    sync::add_relaxed(header.counters.rejected, 1);
    const auto keeper =
        static_cast<std::uint32_t>(sync::load_acquire(session_.directory->control().keeper));
    if (keeper == 0 || session_.peers->state(keeper) != sync::life_state::alive) {
      error_ = registry::no_keeper(session_.address.name,
                                   "cannot publish to stream '" + stream_->name() + "'",
                                   os::link_target(stream_->directory() + "/log"));
      error_.why += ", and the ring is full of messages that are not in the log";
      return publish_status::unavailable;
    }
    error_ = {errc::timed_out, 0, "cannot publish to stream '" + stream_->name() + "'",
              "the ring is full of messages that busd (" + session_.peers->describe(keeper) +
                  ") has not written yet, for longer than send_timeout",
              "use a faster disk, or a larger ring_bytes (bus doctor)"};
    return publish_status::timed_out;
  }
  if (closed()) return publish_status::closed;
  sync::add_relaxed(header.counters.blocked, 1);
  sync::add_relaxed(header.counters.waiting, 1);
  const std::uint64_t seen = sync::load_relaxed(header.durability.logged_position);
  // [W2] waiting before the second check; pairs with the fence after busd's store.
  sync::full_fence();
  if (!has_room(now))
    os::futex_wait(os::futex_half(header.durability.logged_position),
                   static_cast<std::uint32_t>(seen),
                   std::min<std::chrono::nanoseconds>(longest_wait, until - now));
  sync::add_relaxed(header.counters.waiting, ~std::uint64_t{0});
  return publish_status::ok;
}

bool lane_port::would_block(std::uint64_t total_bytes) noexcept {
  if (lane_->memory().overwriting) return false;
  const auto answer = [&] {
    const bool room = try_room(total_bytes);
    return !room && !gate_.has_unresolved();
  };
  if (exclusive_) {
    if (gate_.has_unresolved()) gate_.resolve();
    return answer();
  }
  gate_.resolve();
  // A turn takes less than a microsecond. A lock that stays taken would block.
  auto& turn = lane_->header().turn;
  for (int tries = 64; !sync::try_lock<sync::hardware>(turn.lock, session_.me->lock_word());
       --tries) {
    if (tries == 0) {  // publishing takes over a dead owner's lock
      const auto owner =
          static_cast<std::uint32_t>(sync::load_relaxed(turn.lock) & sync::lock_owner_mask);
      return owner == 0 || session_.peers->state(owner) == sync::life_state::alive;
    }
    base::relax();
  }
  if (take_over_lease(clock::now()) != publish_status::ok) return true;
  writer_.load_turn();
  const bool full = answer();
  writer_.store_turn();
  unlock();
  return full;
}

std::byte* lane_port::loan(const ring::record_head& head, publish_status& status) noexcept {
  status = make_room(head.shape.total_bytes());
  if (status != publish_status::ok) return nullptr;
  writer_.forget_zeroes();  // the payload is written before any commit, perhaps without one
  return writer_.write_head(0, head, 0);
}

published lane_port::commit_loan(const ring::record_head& head) noexcept {
  const std::uint64_t ticks = clock_.now();
  const std::uint64_t seq = writer_.next_seq();
  writer_.write_head(0, head, ticks);
  writer_.commit(head.shape.total_bytes(), 1, ticks);
  gate_.wake_readers();
  return {publish_status::ok, seq};
}

published lane_port::put_open(const outgoing_record& record, std::size_t progress_offset) noexcept {
  constexpr std::size_t step_bytes = 16 * 1024;
  const std::uint64_t total = record.head.shape.total_bytes();
  const publish_status status = make_room(total);
  if (status != publish_status::ok) return {status, 0};
  const std::uint64_t ticks = clock_.now();
  const std::uint64_t seq = writer_.next_seq();
  std::byte* to = writer_.write_head(0, record.head, ticks);
  writer_.show_open(total);
  gate_.wake_readers();
  const auto* from = static_cast<const std::byte*>(record.payload);
  const std::size_t bytes = record.head.shape.payload_bytes;
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t step = std::min(step_bytes, bytes - done);
    sync::hardware::copy_in(to + done, from + done, step);
    done += step;
    writer_.show_progress(progress_offset, done);
  }
  sync::hardware::step(sync::failpoint::open_closing);
  writer_.commit(total, 1, ticks);
  gate_.wake_readers();
  return {publish_status::ok, seq};
}

}  // namespace bus::publish
