#include "inspect/group_view.hpp"

#include <algorithm>

#include "base/hash.hpp"
#include "group/hold_arena.hpp"
#include "inspect/texts.hpp"
#include "ring/waypoints.hpp"
#include "sync/owner_lock.hpp"

namespace bus::inspect {

using layout::slot_state;
using layout::slot_status;
using namespace std::chrono_literals;

group_view::group_view(session_core& session, std::shared_ptr<registry::stream_handle> stream,
                       std::shared_ptr<registry::group_map> map)
    : session_(session),
      stream_(std::move(stream)),
      map_(std::move(map)),
      memory_(map_->memory()),
      clock_(session.directory->clock()),
      ns_per_tick_(clock_.ns_per_tick()) {
  for (const std::string& text : config().filter) filter_.push_back(*subject::pattern::parse(text));
}

result<std::unique_ptr<group_view>> group_view::open(session_core& session, std::string_view stream,
                                                     std::string_view group) {
  auto handle = session.stream(std::string(stream));
  if (!handle) return std::move(handle.error());
  auto map = registry::group_map::open((*handle)->directory(), (*handle)->facts(), group,
                                       session.directory->clock(), false);
  if (!map) return std::move(map.error());
  std::unique_ptr<group_view> made(new group_view(session, std::move(*handle), std::move(*map)));
  if (auto opened = made->open_lanes(); !opened) return std::move(opened.error());
  if (auto opened = made->open_dead_letters(); !opened) return std::move(opened.error());
  return made;
}

result<void> group_view::open_lanes() {
  const std::uint32_t count = std::min(stream_->lane_count(), layout::group_lanes_max);
  for (std::uint32_t index = 0; index < count; ++index) {
    auto map = stream_->lane(index, false);
    if (!map) return std::move(map.error());
    lanes_.push_back({std::move(*map), {}});
  }
  return {};
}

// Most groups have no dead letters: the ring is mapped only if something was written to it.
result<void> group_view::open_dead_letters() {
  if (!config().dead_letters) return {};
  auto stream = session_.stream(dead_letter_stream(stream_->name(), config().name));
  if (!stream) return std::move(stream.error());
  dead_letter_stream_ = std::move(*stream);
  const auto header = registry::lane_map::open(dead_letter_stream_->directory(),
                                               dead_letter_stream_->facts(), 0, false, false);
  if (!header) return std::move(header.error());
  if (!ring::newest_waypoint<sync::hardware>((*header)->memory()).found()) return {};
  auto whole = dead_letter_stream_->lane(0, false);
  if (!whole) return std::move(whole.error());
  dead_letter_lane_ = std::move(*whole);
  return {};
}

void group_view::read_cursors() noexcept {
  for (std::uint32_t index = 0; index < lanes_.size(); ++index) {
    auto& lane = lanes_[index];
    lane.cursor = {};
    if (sync::load_acquire(memory_.cursors[index].attached) != 0) {
      lane.cursor = group::read_cursor(memory_.cursors[index]);
    } else if (sync::load_acquire(header().begun) != 0) {
      // Its consumers have not met the lane yet; they will read it from its beginning.
      const auto first = ring::oldest_waypoint<sync::hardware>(lane.map->memory(), 0);
      if (first.found()) lane.cursor = {first.position, first.seq, 0, 0};
    }
  }
}

// Changes whenever a message is claimed, settled, returned or dies. Loads only.
std::uint64_t group_view::fingerprint() const noexcept {
  std::uint64_t sum = sync::load_acquire(header().lock);
  const auto mix = [&](std::uint64_t value) {
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
    sum ^= sum >> 29;
  };
  const auto* lists = reinterpret_cast<const base::field32*>(&header().lists);
  for (std::size_t i = 0; i < sizeof header().lists / sizeof *lists; ++i) mix(lists[i]);
  const auto* counters = reinterpret_cast<const base::word*>(&header().counters);
  for (std::size_t i = 0; i < sizeof header().counters / sizeof *counters; ++i)
    mix(sync::load_acquire(counters[i]));
  for (const auto* word : {&header().claims, &header().unlisted, &header().move_intent,
                           &header().discarded, &header().damaged})
    mix(sync::load_acquire(*word));
  for (std::uint32_t index = 0; index < lanes_.size(); ++index) {
    const auto& cursor = memory_.cursors[index];
    mix(sync::load_acquire(cursor.which));
    for (const auto& copy : cursor.copy) mix(sync::load_acquire(copy.seq));
  }
  const auto members =
      std::min<std::uint64_t>(sync::load_acquire(header().members_used), memory_.member_count);
  for (std::uint64_t member = 0; member < members; ++member) {
    mix(sync::load_acquire(memory_.members[member].settled));
    mix(sync::load_acquire(memory_.settled[member].tail));
    mix(sync::load_acquire(memory_.settled[member].head));
  }
  return sum;
}

// The number of slots that were ever used is an index: a process that died in a repair may have
// left it half made.
std::uint32_t group_view::slots_to_read() const noexcept {
  const std::uint64_t lock = sync::load_acquire(header().lock);
  const auto holder = static_cast<std::uint32_t>(lock & sync::lock_owner_mask);
  if (lock != 0 && session_.peers->state(holder) != sync::life_state::alive)
    return memory_.slot_count;
  return std::min<std::uint32_t>(memory_.lists().slots_used, memory_.slot_count);
}

// Words of the record that say its shape, subject and time.
bool group_view::read_record(std::uint64_t origin, std::uint64_t location,
                             seen_slot& into) const noexcept {
  std::uint64_t words[4];
  const std::uint32_t lane = layout::lane_of_origin(origin);
  if ((location & layout::location_in_arena) != 0) {
    group::hold_arena(memory_).copy_out(reinterpret_cast<std::byte*>(words),
                                        static_cast<std::uint32_t>(location), 0, sizeof words);
  } else if (lane < lanes_.size()) {
    sync::hardware::copy_out(reinterpret_cast<std::byte*>(words),
                             lanes_[lane].map->memory().at(location), sizeof words);
  } else {
    return false;
  }
  into.shape = layout::record_shape::unpack(words[1]);
  into.subject_id = static_cast<std::uint32_t>(words[2]);
  into.published = words[3];
  return true;
}

// Empty: there is no pending message, or it does not stay still. LOOK-2
std::optional<group_view::seen_slot> group_view::read_slot(std::uint32_t index) const noexcept {
  constexpr int most_attempts = 8;
  const auto& slot = memory_.slots[index];
  const auto& details = memory_.details[index];
  for (int attempt = 0; attempt < most_attempts; ++attempt) {
    const std::uint64_t word = sync::load_acquire(slot.status);
    seen_slot seen;
    seen.status = slot_status::unpack(word);
    const slot_state state = seen.status.state;
    if (state == slot_state::free || state == slot_state::settled || state > slot_state::skipped)
      return std::nullopt;
    seen.origin = sync::load_relaxed(slot.origin);
    const std::uint64_t location = sync::load_acquire(slot.location);
    const std::uint32_t lane = layout::lane_of_origin(seen.origin);
    // GROUP-2: what a claim has not finished is still unclaimed.
    if (lane >= lanes_.size()) return std::nullopt;
    const std::uint64_t cursor = lanes_[lane].cursor.seq;
    if (layout::seq_of_origin(seen.origin) >= cursor) return std::nullopt;
    seen.since = sync::load_relaxed(slot.since);
    if (state == slot_state::delayed || slot.heap_index != layout::no_index) seen.due = details.due;
    if (state == slot_state::skipped) {
      const std::uint64_t skipped = details.skipped;
      // Counted by a claim that has not stored its cursor.
      seen.skipped = layout::was_counted_at(skipped, cursor) ? std::uint64_t{details.skipped_before}
                                                             : layout::count_of_skipped(skipped);
    } else if (!read_record(seen.origin, location, seen)) {
      return std::nullopt;
    }
    if (sync::is_unchanged(slot.status, word) && sync::is_unchanged(slot.origin, seen.origin) &&
        sync::is_unchanged(slot.location, location))
      return seen;
  }
  return std::nullopt;
}

namespace {

const char* state_name(slot_state state) noexcept {
  switch (state) {
    case slot_state::ready: return "ready";
    case slot_state::leased: return "leased";
    case slot_state::delayed: return "delayed";
    case slot_state::parked: return "parked";
    default: return "dying";
  }
}

}  // namespace

// The leases of a dead process go to the next consumer that claims or waits.
std::string group_view::holder_of(const layout::group_member& member) const {
  const auto process = static_cast<std::uint32_t>(sync::load_acquire(member.who) >> 32);
  const bool alive = session_.peers->state(process) == sync::life_state::alive;
  return text_of(member.name, sizeof member.name) + (alive ? "" : ", dead");
}

result<std::vector<pending_message>> group_view::pending(std::size_t max) {
  if (sync::load_acquire(header().damaged) != 0)
    return error{errc::corrupt, 0, "cannot list the messages of the group '" + config().name + "'",
                 "its state in shared memory is invalid: it was overwritten",
                 "bus group repair " + config().stream + " " + config().name};
  read_cursors();
  std::vector<pending_message> all;
  std::vector<std::uint32_t> subjects;
  const std::uint64_t at = now();
  const auto since = [&](std::uint64_t ticks) { return time(at > ticks ? at - ticks : 0); };
  const auto until = [&](std::uint64_t ticks) { return time(ticks > at ? ticks - at : 0); };
  const std::uint32_t count = slots_to_read();
  for (std::uint32_t index = 0; index < count && all.size() < max; ++index) {
    const auto seen = read_slot(index);
    if (!seen || seen->status.state == slot_state::skipped) continue;
    pending_message one;
    one.lane = layout::lane_of_origin(seen->origin);
    one.sequence = layout::seq_of_origin(seen->origin);
    one.state = state_name(seen->status.state);
    one.started = seen->status.started;
    one.acquired = seen->status.acquired;
    one.failed = seen->status.failed;
    one.bytes = seen->shape.payload_bytes;
    one.age = since(seen->published);
    if (seen->status.state == slot_state::leased) {
      if (seen->status.owner < memory_.member_count) {
        const auto& member = memory_.members[seen->status.owner];
        one.holder = holder_of(member);
        const std::uint64_t by = sync::load_relaxed(member.joined_by);
        one.pid = static_cast<std::uint32_t>(by >> 32);
        one.thread = static_cast<std::uint32_t>(by);
      }
      one.held_for = since(seen->since);
      const std::uint64_t ack_wait = memory_.rules.ack_wait;
      one.remaining = until(seen->due.value_or(ack_wait != 0 ? seen->since + ack_wait : at));
    } else if (seen->status.state == slot_state::delayed) {
      one.remaining = until(*seen->due);
    }
    subjects.push_back(seen->subject_id);
    all.push_back(std::move(one));
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (subjects[i] == layout::inline_subject_id) continue;
    if (auto text = stream_->subject_text(subjects[i])) all[i].subject = *text;
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::pair(a.lane, a.sequence) < std::pair(b.lane, b.sequence);
  });
  return all;
}

}  // namespace bus::inspect
