#include "consume/group_handle.hpp"

#include <algorithm>
#include <climits>
#include <cstring>

#include "config/check.hpp"
#include "layout/validate.hpp"
#include "os/files.hpp"
#include "os/futex.hpp"
#include "registry/reader_table.hpp"
#include "sync/owner_lock.hpp"

namespace bus::consume {

namespace {

constexpr auto open_patience = std::chrono::seconds(5);
constexpr std::uint32_t low_blocks = 256;
constexpr std::uint32_t blocks_at_once = 8192;

}  // namespace

group_handle::group_handle(session_core& session, std::shared_ptr<registry::stream_handle> stream,
                           std::shared_ptr<registry::group_map> map)
    : session_(session),
      stream_(std::move(stream)),
      map_(std::move(map)),
      memory_(map_->memory()),
      clock_(session.directory->clock()),
      ns_per_tick_(clock_.ns_per_tick()),
      core_(memory_, nullptr),
      generation_(&session.directory->control().generation) {
  for (const std::string& text : map_->config().filter) {
    wish_.patterns.push_back(*subject::pattern::parse(text));
    wish_.everything = wish_.everything || wish_.patterns.back().matches_everything();
  }
  if (map_->config().filter.empty()) wish_.everything = true;
  everything_matches_ = wish_.everything && map_->config().headers.empty();
}

group_handle::~group_handle() = default;

events::group_events& group_handle::events() {
  if (!events_) events_ = std::make_unique<events::group_events>(session_.shared_from_this());
  return *events_;
}

// Whichever call noticed it: a consumer hangs, or was too slow, and the person on call wants to
// know.
void group_handle::publish_events() noexcept {
  const auto name_of = [](const char* name) {
    return std::string_view(name, ::strnlen(name, sizeof(layout::group_member::name)));
  };
  core_.drain_expired([&](const group::core::expired_lease& one) {
    events().expired(config().stream, config().name, layout::lane_of_origin(one.origin),
                     layout::seq_of_origin(one.origin), name_of(one.name));
  });
  if (const std::uint32_t member = core_.take_deposed(); member < memory_.member_count)
    events().failover(config().stream, config().name, name_of(core_.deposed_name()));
}

result<std::unique_ptr<group_handle>> group_handle::open(
    session_core& session, std::shared_ptr<registry::stream_handle> stream, std::string_view name) {
  auto map = registry::group_map::open(stream->directory(), stream->facts(), name,
                                       session.directory->clock());
  if (!map) return std::move(map.error());
  stream->remember(*map);
  std::unique_ptr<group_handle> made(new group_handle(session, std::move(stream), std::move(*map)));
  if (made->config().dead_letters) {
    auto opened = made->open_dead_letters();
    if (!opened) return std::move(opened.error());
  }
  if (!made->may_lock()) {
    if (auto learned = made->learn_lanes(); !learned) return std::move(learned.error());
    return made;
  }
  auto ready = made->refresh();
  if (!ready) return std::move(ready.error());
  made->keep_arena_backed();
  return made;
}

result<void> group_handle::open_dead_letters() {
  auto dead_letters = session_.stream(dead_letter_stream(stream_->name(), config().name));
  if (!dead_letters) return std::move(dead_letters.error());
  auto lane = (*dead_letters)->lane(0, true);
  if (!lane) return std::move(lane.error());
  dead_letter_lane_ = std::move(*lane);
  dead_letters_.emplace(memory_, dead_letter_lane_->memory(), clock_, [this](std::uint32_t id) {
    auto text = stream_->subject_text(id);
    return text ? *text : std::string_view();
  });
  dead_letter_gate_.emplace(dead_letter_lane_, *session_.peers, (*dead_letters)->directory());
  core_.use_dead_letters(&*dead_letters_);
  return {};
}

result<void> group_handle::learn_lanes() {
  const std::uint32_t count = stream_->lane_count();
  for (auto lane = static_cast<std::uint32_t>(lanes_.size());
       lane < std::min(count, layout::group_lanes_max); ++lane) {
    auto made = detail::source::observe(session_, stream_, lane, wish_);
    if (!made) return std::move(made.error());
    core_.know_lane(lane, (*made)->lane->memory());
    lanes_.push_back(std::move(*made));
  }
  return {};
}

result<void> group_handle::refresh() {
  const std::uint64_t generation = session_.directory->generation();
  if (auto learned = learn_lanes(); !learned) return learned;
  const auto is_missing = [&](std::uint32_t lane) {
    return sync::load_acquire(memory_.cursors[lane].attached) == 0;
  };
  bool missing = sync::load_acquire(header().begun) == 0;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) missing = missing || is_missing(lane);
  if (missing) {
    if (!lock(open_patience)) return *failure;
    // Lanes that come later are read from their beginning.
    const start from = sync::load_relaxed(header().begun) == 0 ? config().deliver : start::all();
    result<void> entered;
    for (std::uint32_t lane = 0; lane < lanes_.size() && entered; ++lane)
      if (is_missing(lane)) entered = attach(lane, from);
    if (entered && from.at == start::kind::from_last) entered = begin_at_last();
    sync::store_relaxed(header().last_member_ticks, now());
    if (entered) sync::store_release(header().begun, 1);
    unlock();
    if (!entered) return entered;
  }
  generation_seen_ = generation;
  return {};
}

result<void> group_handle::announce(std::uint32_t lane) {
  const auto& map = *lanes_[lane]->lane;
  sync::store_relaxed(map_->pin(lane).lane_key, map.lane_key());
  const std::uint64_t mine = map_->reader_entry();
  if (registry::is_announced(map, mine) ||
      registry::announce_reader(map, mine, [this](std::uint32_t process) {
        return session_.peers->state(process) != sync::life_state::alive;
      }))
    return {};
  return error{errc::no_space, 0, "cannot use the group '" + config().name + "'",
               "all reader entries of stream '" + stream_->name() + "' are in use",
               "recreate the stream with a larger --max-readers"};
}

// REQUIRES: the lock. Announced, entered, and only then there.
result<void> group_handle::attach(std::uint32_t lane, const start& from) {
  auto& source = *lanes_[lane];
  auto& pin = map_->pin(lane);
  if (auto announced = announce(lane); !announced) return announced;
  sync::reach(sync::failpoint::group_announced);
  auto entered = source.enter_through(pin, from);
  if (!entered) return entered;
  auto& cursor = memory_.cursors[lane];
  core_.store_cursor(lane, {source.reader.position(), source.reader.next_seq(), 0, 0});
  sync::store_relaxed(cursor.first_seq, source.reader.next_seq());
  sync::store_release(cursor.attached, 1);
  return {};
}

// REQUIRES: the lock. Each lane began at its own last message: of all lanes only the newest is it.
result<void> group_handle::begin_at_last() {
  detail::source::align_newest(lanes_);
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    const std::uint64_t passed = std::exchange(lanes_[lane]->join_seq, 0);
    if (passed == 0) continue;
    if (auto entered = attach(lane, start::by_sequence(passed + 1)); !entered) return entered;
  }
  return {};
}

bool group_handle::lock_slowly(std::chrono::nanoseconds patience) {
  std::uint32_t holder = 0;
  switch (sync::wait_lock(header().lock, session_.me->lock_word(), clock::now() + patience,
                          *session_.peers, holder)) {
    case sync::lock_result::taken: break;
    case sync::lock_result::taken_over: repair_after_death(); break;
    case sync::lock_result::busy:
      failure = error{errc::busy, 0, "cannot use the group '" + config().name + "'",
                      "it is locked by " + session_.peers->describe(holder),
                      "if that process is stopped (SIGSTOP, a debugger), continue it or end it"};
      return false;
  }
  memory_.broken = false;
  return sync::load_relaxed(header().damaged) == 0 || fail_damaged();
}

// REQUIRES: the lock, which is given back.
bool group_handle::fail_damaged() {
  sync::unlock(header().lock);
  failure = error{errc::corrupt, 0, "cannot use the group '" + config().name + "'",
                  "its state in shared memory is invalid: it was overwritten",
                  "bus group repair " + stream_->name() + " " + config().name};
  return false;
}

// What lies in a lane that is not known cannot be judged: lanes may have come since the last look.
void group_handle::repair_after_death() noexcept {
  (void)learn_lanes();
  if (dead_letters_) dead_letters_->repair();
  core_.repair();
}

// A record of that sequence is there, or the tail: found by walking from the last waypoint before.
// Or it was overwritten, where that may be.
bool group_handle::is_at_a_record(std::uint32_t lane, const group::lane_cursor& at) noexcept {
  const auto& memory = lanes_[lane]->lane->memory();
  if (at.position % layout::record_align != 0 || at.seq == 0) return false;
  struct up_to {
    std::uint64_t position;
    ring::verdict take(const ring::record_view& view) const noexcept {
      return view.position < position ? ring::verdict::taken : ring::verdict::full;
    }
    void undo() const noexcept {}
  } sink{at.position};
  const bool may_be_lapped = memory.overwriting || sync::load_relaxed(header().released_ring) != 0;
  ring::lane_reader<sync::hardware> walker(memory, nullptr, false);
  const auto was_overwritten = [&] { return may_be_lapped && walker.was_overwritten(at.position); };
  for (int attempt = 0; attempt < 64; ++attempt) {
    if (was_overwritten()) {
      // Its own waypoint may still be there: what was reserved is not written yet.
      const auto above = ring::oldest_waypoint<sync::hardware>(memory, at.position);
      return above.position == at.position ? at.seq == above.seq : at.seq < above.seq;
    }
    const std::uint64_t end = sync::load_relaxed(memory.header->limits.reserved_end);
    const auto from = ring::last_waypoint_before<sync::hardware>(
        memory, end <= memory.capacity_bytes ? 0 : end - memory.capacity_bytes,
        [&](const auto& entry) { return entry.seq <= at.seq && entry.position <= at.position; });
    const std::uint64_t word =
        at.position < end ? sync::load_relaxed(memory.word_at(at.position)) : 0;
    // It may be older than all waypoints that are left.
    if (!from.found() || from.position > at.position) {
      if (was_overwritten()) continue;
      return (word & layout::sequence_mask) == at.seq;
    }
    walker.set_position(from.position, from.seq);
    auto outcome = ring::poll_outcome::more;
    while (outcome == ring::poll_outcome::more && walker.position() < at.position)
      outcome = walker.poll(1, sink);
    // Only while nothing of it was overwritten does it tell anything.
    if (outcome == ring::poll_outcome::lapped || was_overwritten()) continue;
    // The walk may have gone on over what an aborted publisher left there.
    return walker.next_seq() == at.seq &&
           (walker.position() == at.position || word == (at.seq | layout::commit_aborted));
  }
  return false;
}

// A cursor that something wrote over: its older copy, else the oldest message that there is. Some
// may be handed out again; none is passed over.
void group_handle::mend_cursor(std::uint32_t lane) noexcept {
  auto& cursor = memory_.cursors[lane];
  if (is_at_a_record(lane, core_.cursor_of(lane))) return;
  sync::store_release(cursor.which, ~sync::load_relaxed(cursor.which) & 1);
  if (is_at_a_record(lane, core_.cursor_of(lane))) {
    const std::uint64_t dropped = core_.cursor_of(lane).dropped;
    if (sync::load_relaxed(cursor.told) > dropped) sync::store_relaxed(cursor.told, dropped);
    return;
  }
  auto& source = *lanes_[lane];
  if (!source.enter_through(map_->pin(lane), start::all())) return;
  core_.store_cursor(lane, {source.reader.position(), source.reader.next_seq(), 0, 0});
  sync::store_relaxed(cursor.first_seq, source.reader.next_seq());
  sync::store_relaxed(cursor.told, 0);
}

result<std::uint32_t> group_handle::repair_by_hand() {
  std::uint32_t holder = 0;
  if (!try_lock() &&
      sync::wait_lock(header().lock, session_.me->lock_word(), clock::now() + open_patience,
                      *session_.peers, holder) == sync::lock_result::busy)
    return error{errc::busy, 0, "cannot repair the group '" + config().name + "'",
                 "it is locked by " + session_.peers->describe(holder),
                 "if that process is stopped (SIGSTOP, a debugger), continue it or end it"};
  if (auto learned = learn_lanes(); !learned) {
    unlock();
    return std::move(learned.error());
  }
  if (dead_letters_) dead_letters_->repair();
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    if (sync::load_relaxed(memory_.cursors[lane].attached) == 0) continue;
    if (auto announced = announce(lane); !announced) {
      unlock();
      return std::move(announced.error());
    }
    mend_cursor(lane);
  }
  for (auto lane = static_cast<std::uint32_t>(lanes_.size()); lane < layout::group_lanes_max;
       // there is none
       ++lane)
    sync::store_relaxed(memory_.cursors[lane].attached, 0);
  const std::uint32_t nonsense = core_.repair([this](std::uint32_t id) {
    if (id == layout::inline_subject_id) return true;
    const auto text = stream_->subject_text(id);
    return text && !text->empty();
  });
  update_pins(true);
  unlock();
  return nonsense;
}

void group_handle::unlock() noexcept {
  if (memory_.broken) [[unlikely]]
    sync::store_relaxed(header().damaged, 1);
  const bool news = core_.take_wake_request();
  const bool dead_letters = core_.take_wrote_dead_letter();
  arena_low_ = memory_.lists().block_free < low_blocks && !arena_full_;
  sync::unlock(header().lock);
  sync::reach(sync::failpoint::claim_unlocked);
  if (news) ring_bell();
  if (dead_letters && dead_letter_gate_) dead_letter_gate_->wake_readers();
  for (const std::uint32_t lane : ticked_)
    os::futex_wake(os::futex_half(map_->pin(lane).tick), INT_MAX);
  ticked_.clear();
  if (arena_low_) [[unlikely]]
    keep_arena_backed();
  if (core_.has_expired() || core_.has_deposed()) [[unlikely]]
    publish_events();
}

void group_handle::update_pins(bool idle, std::uint32_t claims) noexcept {
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    core_.relieve(lane, claims);
    const bool rose = core_.update_pin(lane);
    if (!rose && !idle) continue;
    auto& counters = lanes_[lane]->lane->header().counters;
    // [W2] as lane_reader::tick; while there is work a late look costs a publisher 5 ms at most.
    if (idle && rose) sync::full_fence();
    if (sync::load_relaxed(counters.waiting) == 0) continue;
    sync::bump_release(map_->pin(lane).tick);
    ticked_.push_back(lane);
  }
}

void group_handle::ring_bell() noexcept {
  sync::full_fence();  // what happened before the look; pairs with the fence of a sleeper
  if (sync::load_relaxed(header().sleepers) == 0) return;
  sync::add_release(header().bell, 1);
  os::futex_wake(os::futex_half(header().bell), INT_MAX);
}

bool group_handle::let_go_if_idle() {
  return_leases_of_dead();
  if (!lock(std::chrono::milliseconds(100))) return false;
  bool idle = config().idle_release.count() != 0 &&
              sync::load_relaxed(header().last_member_ticks) + ticks(config().idle_release) < now();
  for (std::uint32_t member = 0; member < memory_.member_count && idle; ++member)
    idle = sync::load_acquire(memory_.members[member].who) == 0;
  for (std::uint32_t lane = 0; lane < lanes_.size() && idle; ++lane) idle = core_.empty_ring(lane);
  if (idle) {
    sync::store_relaxed(header().released_ring, 1);
    for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane)
      sync::store_release(map_->pin(lane).state, ring::pin_watching);
  }
  unlock();
  return idle;
}

result<void> group_handle::hold_publishers() {
  sync::store_relaxed(header().last_member_ticks, now());
  if (sync::load_relaxed(header().released_ring) == 0) return {};
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    auto& source = *lanes_[lane];
    auto at = core_.cursor_of(lane);
    auto entered = source.enter_through(map_->pin(lane), start::by_sequence(at.seq));
    if (!entered) return entered;
    if (source.reader.next_seq() > at.seq)
      core_.note_lost(lane, at, at.seq, source.reader.next_seq() - at.seq);
    core_.store_cursor(
        lane, {source.reader.position(), source.reader.next_seq(), at.filtered, at.dropped});
  }
  sync::store_relaxed(header().released_ring, 0);
  return {};
}

// Memory for copies is taken in pieces, so that a group that holds nothing needs none.
void group_handle::keep_arena_backed() noexcept {
  const auto from = static_cast<std::uint32_t>(sync::load_relaxed(header().blocks_reserved));
  if (from >= memory_.block_count) {
    arena_full_ = true;
    return;
  }
  const auto count = map_->reserve_blocks(from, from == 0 ? 0 : blocks_at_once);
  if (!count || *count == 0) {
    arena_full_ = true;  // no memory: what cannot be copied stays in the ring
    return;
  }
  if (!lock(std::chrono::milliseconds(100))) return;
  core_.add_blocks(from, *count);
  sync::unlock(header().lock);
}

void group_handle::return_leases_of_dead() {
  const auto used = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(sync::load_acquire(header().members_used), memory_.member_count));
  for (std::uint32_t member = 0; member < used; ++member) {
    auto& who = memory_.members[member].who;
    const std::uint64_t seen = sync::load_acquire(who);
    const auto process = static_cast<std::uint32_t>(seen >> 32);
    if (seen == 0 || process == session_.me->id()) continue;
    const auto* life = session_.peers->life_of(process);
    if (life != nullptr && sync::read_life(*life) == sync::life_state::alive) continue;
    if (life == nullptr && session_.peers->state(process) == sync::life_state::alive) continue;
    const bool gone = session_.peers->proven_dead(process);
    if (!lock(std::chrono::milliseconds(100))) return;
    if (sync::load_relaxed(who) == seen) {
      core_.member_died(member, now());
      if (gone) {
        core_.member_left(member);
        sync::store_release(who, 0);
      }
      update_pins(true);
    }
    unlock();
  }
}

}  // namespace bus::consume
