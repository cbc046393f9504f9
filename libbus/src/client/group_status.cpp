#include "client/group_status.hpp"

#include <algorithm>
#include <cstring>

#include "layout/header_area.hpp"
#include "sync/owner_lock.hpp"

namespace bus::client {

using layout::slot_state;
using layout::slot_status;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 5s;

const char* state_name(slot_state state) noexcept {
  switch (state) {
    case slot_state::ready: return "ready";
    case slot_state::leased: return "leased";
    case slot_state::delayed: return "delayed";
    case slot_state::parked: return "parked";
    case slot_state::dying:
    case slot_state::moving: return "dying";
    default: return "settled";
  }
}

std::chrono::system_clock::time_point wall(std::uint64_t ns) {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::nanoseconds(static_cast<std::int64_t>(ns))));
}

std::string text_of(const char* from, std::size_t size) {
  return std::string(from, ::strnlen(from, size));
}

/// What was published to a lane, as far as one reader can see now.
std::uint64_t last_seq(detail::source& source) {
  ring::lane_reader<sync::hardware> walker(source.lane->memory(), nullptr, false);
  for (int attempt = 0; attempt < 100; ++attempt) {
    if (!walker.enter([&](std::uint64_t) {
          return ring::newest_waypoint<sync::hardware>(source.lane->memory());
        }))
      continue;
    if (walker.walk([](const ring::record_view&) { return false; }) != ring::poll_outcome::lapped)
      break;
  }
  return walker.next_seq() - 1;
}

// Slots are looked at one by one while others work: a picture, not a moment.
void count_slots(group_handle& group, group_counts& counts) {
  const auto& m = group.memory();
  for (std::uint32_t index = 0; index < m.slot_count; ++index) {
    switch (slot_status::unpack(sync::load_acquire(m.slots[index].status)).state) {
      case slot_state::ready: ++counts.ready; break;
      case slot_state::leased: ++counts.leased; break;
      case slot_state::delayed: ++counts.delayed; break;
      case slot_state::parked: ++counts.parked; break;
      case slot_state::dying:
      case slot_state::moving: ++counts.dying; break;
      case slot_state::skipped:
        counts.parked += layout::count_of_skipped(m.details[index].skipped);
        break;
      default: break;
    }
  }
  counts.pending = counts.ready + counts.leased + counts.delayed + counts.parked + counts.dying;
}

void count_lanes(group_handle& group, group_counts& counts, std::uint64_t& passed) {
  for (std::uint32_t lane = 0; lane < group.lanes().size(); ++lane) {
    auto at = group.core().cursor_of(lane);
    const auto& memory = group.lanes()[lane]->lane->memory();
    // What the ring has lost already is not unclaimed: no claim will find it.
    if (memory.overwriting) {
      const auto oldest = ring::oldest_waypoint<sync::hardware>(memory, at.position);
      if (oldest.found() && oldest.position > at.position && oldest.seq > at.seq) {
        at.dropped += oldest.seq - at.seq;
        at.seq = oldest.seq;
      }
    }
    const std::uint64_t first = sync::load_relaxed(group.memory().cursors[lane].first_seq);
    passed += at.seq - first;
    counts.filtered += at.filtered;
    counts.dropped += at.dropped;
    const std::uint64_t last = last_seq(*group.lanes()[lane]);
    counts.unclaimed += last + 1 > at.seq ? last + 1 - at.seq : 0;
  }
}

std::string seconds(std::chrono::nanoseconds time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  return ms < 10'000 ? std::to_string(ms) + " ms" : std::to_string(ms / 1000) + " s";
}

// What stands between a message and a consumer, most important first.
void explain(group_info& info) {
  const auto& c = info.counts;
  const auto& rules = info.config;
  auto& why = info.why;
  const std::string name = rules.stream + " " + rules.name;
  if (info.damaged) why.push_back("its state is damaged: bus group repair " + name);
  if (info.paused)
    why.push_back("it is paused" +
                  (info.paused_for ? " for another " + seconds(*info.paused_for) : std::string()) +
                  ": bus group resume " + name);
  const auto living = static_cast<std::size_t>(std::count_if(
      info.consumers.begin(), info.consumers.end(), [](const auto& one) { return one.alive; }));
  if (c.dropped != 0)
    why.push_back(std::to_string(c.dropped) +
                  " messages were overwritten before they were taken: use more consumers, a larger "
                  "ring, or a stream with --overflow block");
  if (info.hold_full)
    why.push_back(
        "hold_bytes is used up: messages that are out cannot be copied, so no more are "
        "handed out; settle some, or make the group with a larger --hold-bytes");
  if (rules.mode == group_mode::failover && living != 0 && c.unclaimed + c.ready != 0)
    for (const auto& one : info.consumers)
      if (one.active)
        why.push_back("mode=failover: only its active consumer " + one.name + " takes messages" +
                      (rules.ack_wait.count() != 0
                           ? "; should it take none for ack_wait, another one takes over"
                           : "; ack_wait=0: it is replaced only when it ends"));
  if (living == 0)
    why.push_back("no consumer takes from it: start a worker (bus group next " + name + ")");
  if (rules.order == group_order::total && c.pending != 0)
    why.push_back(
        "order=total: one message is out, the next comes when it is settled (bus group "
        "pending " +
        name + ")");
  if (c.leased >= rules.max_ack_pending)
    why.push_back("max_ack_pending: " + std::to_string(c.leased) +
                  " messages are out and not settled; settle them (bus group pending " + name +
                  "), add consumers that do, or raise it");
  if (c.delayed > rules.max_delayed)
    why.push_back("max_delayed: " + std::to_string(c.delayed) +
                  " messages wait for a retry; those beyond it count as out");
  if (rules.order == group_order::key && c.parked != 0)
    why.push_back(
        "order=key: " + std::to_string(c.parked) +
        " messages wait for their key, whose message is out or waits for a retry" +
        (living > 1 && c.leased < living ? "; more consumers than busy keys do not help" : ""));
  if (c.dying != 0)
    why.push_back("the dead letters are full: " + std::to_string(c.dying) +
                  " messages wait for room (bus dlq drop " + name + ")");
  if (c.delayed != 0)
    why.push_back(std::to_string(c.delayed) + " messages wait for their retry (back-off)");
  if (c.unclaimed == 0 && c.pending == 0) why.push_back("there is nothing to deliver");
}

void describe_consumers(group_handle& group, group_info& info) {
  const auto& m = group.memory();
  const std::uint64_t active = sync::load_acquire(group.header().active);
  const auto used =
      std::min<std::uint64_t>(sync::load_acquire(group.header().members_used), m.member_count);
  for (std::uint32_t i = 0; i < used; ++i) {
    const auto& member = m.members[i];
    const std::uint64_t who = sync::load_acquire(member.who);
    if (who == 0) continue;
    group_info::consumer one;
    one.name = text_of(member.name, sizeof member.name);
    one.process_id = static_cast<std::uint32_t>(who >> 32);
    one.alive = group.session().peers->state(one.process_id) == sync::life_state::alive;
    one.active = info.config.mode == group_mode::shared || active >> 32 == i + 1;
    one.claimed = sync::load_relaxed(member.claimed);
    one.settled = sync::load_relaxed(member.settled);
    info.consumers.push_back(std::move(one));
  }
}

}  // namespace

result<group_info> describe_group(group_handle& group) {
  group_info info;
  info.config = group.config();
  auto& header = group.header();
  const auto& counters = header.counters;
  // Under the lock nothing but a settlement moves: the parts add up.
  const bool locked = group.may_lock() && group.lock(100ms);
  if (locked) group.core().housekeep(group.now());
  std::uint64_t passed = 0;
  count_lanes(group, info.counts, passed);
  count_slots(group, info.counts);
  info.counts.dead = group.dead_letters_written() + sync::load_relaxed(header.discarded);
  info.hold_used_bytes =
      (sync::load_relaxed(header.blocks_reserved) - group.memory().lists().block_free) *
      layout::group_block_bytes;
  info.hold_full = info.hold_used_bytes + layout::group_block_bytes > info.config.hold_bytes ||
                   (sync::load_relaxed(header.blocks_reserved) >= group.memory().block_count &&
                    group.memory().lists().block_free == 0);
  if (locked) group.unlock();
  const std::uint64_t other =
      info.counts.filtered + info.counts.dropped + info.counts.dead + info.counts.pending;
  info.counts.settled = passed > other ? passed - other : 0;
  info.redelivered = sync::load_relaxed(counters.redelivered);
  info.expired = sync::load_relaxed(counters.expired);
  info.nacked = sync::load_relaxed(counters.nacked);
  info.released = sync::load_relaxed(counters.released);
  info.returned_by_death =
      sync::load_relaxed(counters.died) + sync::load_relaxed(counters.returned_unstarted);
  info.repaired = sync::load_relaxed(counters.repaired);
  info.damaged = sync::load_relaxed(header.damaged) != 0;
  const std::uint64_t paused = sync::load_relaxed(header.paused_until), now = group.now();
  info.paused = paused > now;
  if (info.paused && paused != ~0ull) info.paused_for = group.time(paused - now);
  if (group.dead_letter_lane())
    info.dead_letters_kept =
        group.dead_letters_written() + 1 -
        std::max<std::uint64_t>(sync::load_relaxed(header.dead_letters_floor_seq), 1);
  auto oldest = peek_group(group, 1);
  if (oldest && !oldest->empty()) info.oldest_age = oldest->front().age;
  auto waiting = list_pending(group, 1'000'000);
  if (waiting)
    for (const auto& one : *waiting)
      info.oldest_age = std::max(info.oldest_age.value_or(0ns), one.age);
  describe_consumers(group, info);
  explain(info);
  return info;
}

namespace {

// What a dead one had goes to the next consumer that claims or waits.
std::string holder_of(group_handle& group, const layout::group_member& member) {
  const auto process = static_cast<std::uint32_t>(sync::load_acquire(member.who) >> 32);
  const bool alive = group.session().peers->state(process) == sync::life_state::alive;
  return text_of(member.name, sizeof member.name) + (alive ? "" : ", dead");
}

}  // namespace

result<std::vector<pending_message>> list_pending(group_handle& group, std::size_t max) {
  std::vector<pending_message> all;
  // Numbers that something wrote over must not be followed.
  if (!group.may_lock() && sync::load_relaxed(group.header().damaged) != 0)
    return error{errc::corrupt, 0, "cannot look into the group '" + group.config().name + "'",
                 "its state in shared memory is impossible: something wrote over it",
                 "bus group repair " + group.config().stream + " " + group.config().name};
  const bool locked = group.may_lock() && group.lock(patience);
  if (group.failure && group.failure->code != errc::busy) return *group.failure;
  group.failure.reset();
  const auto& m = group.memory();
  auto& core = group.core();
  const std::uint64_t now = group.now();
  const auto since = [&](std::uint64_t ticks) { return group.time(now > ticks ? now - ticks : 0); };
  std::vector<std::pair<std::uint32_t, std::uint32_t>> subjects;
  for (std::uint32_t index = 0; index < m.slot_count && all.size() < max; ++index) {
    const auto& slot = m.slots[index];
    const auto t = slot_status::unpack(sync::load_acquire(slot.status));
    if (t.state == slot_state::free || t.state == slot_state::settled ||
        t.state >= slot_state::skipped)
      continue;
    pending_message one;
    const std::uint64_t origin = sync::load_relaxed(slot.origin);
    one.lane = layout::lane_of_origin(origin);
    one.sequence = layout::seq_of_origin(origin);
    one.state = state_name(t.state);
    one.started = t.started;
    one.acquired = t.acquired;
    one.failed = t.failed;
    if (!core.knows_lane(one.lane)) continue;
    std::uint64_t words[4];
    core.read_record(slot, 0, reinterpret_cast<std::byte*>(words), sizeof words);
    one.bytes = layout::record_shape::unpack(words[1]).payload_bytes;
    one.age = since(words[3]);
    if (t.state == slot_state::leased) {
      if (t.owner < m.member_count) {
        const auto& member = m.members[t.owner];
        one.holder = holder_of(group, member);
        const std::uint64_t by = sync::load_relaxed(member.joined_by);
        one.pid = static_cast<std::uint32_t>(by >> 32);
        one.thread = static_cast<std::uint32_t>(by);
      }
      const std::uint64_t begin = sync::load_relaxed(slot.since);
      one.held_for = since(begin);
      const std::uint64_t due = slot.heap_index != layout::no_index
                                    ? std::uint64_t{m.details[index].due}
                                : m.rules.ack_wait != 0 ? begin + m.rules.ack_wait
                                                        : now;
      one.remaining = group.time(due > now ? due - now : 0);
    } else if (t.state == slot_state::delayed) {
      const std::uint64_t due = m.details[index].due;
      one.remaining = group.time(due > now ? due - now : 0);
    }
    subjects.emplace_back(static_cast<std::uint32_t>(all.size()),
                          static_cast<std::uint32_t>(words[2]));
    all.push_back(std::move(one));
  }
  if (locked) group.unlock();
  for (const auto& [at, id] : subjects) {
    if (id == layout::inline_subject_id) continue;
    auto text = group.stream().subject_text(id);
    if (text) all[at].subject = *text;
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::pair(a.lane, a.sequence) < std::pair(b.lane, b.sequence);
  });
  return all;
}

namespace {

void copy_headers(const layout::header_area& area,
                  std::vector<std::pair<std::string, std::string>>& to) {
  area.each_user_header([&](std::string_view key, std::string_view value) {
    to.emplace_back(key, value);
    return true;
  });
}

}  // namespace

namespace {

bool headers_match(const group_config& rules, const peeked_message& one) {
  const auto has = [&](const auto& header) {
    return std::find(one.headers.begin(), one.headers.end(), header) != one.headers.end();
  };
  if (rules.headers.empty()) return true;
  return rules.headers_all ? std::all_of(rules.headers.begin(), rules.headers.end(), has)
                           : std::any_of(rules.headers.begin(), rules.headers.end(), has);
}

}  // namespace

result<std::vector<peeked_message>> peek_group(group_handle& group, std::size_t max) {
  struct found {
    std::uint64_t due;  // its stamp; never below one before it in its lane
    peeked_message message;
  };
  std::vector<found> all;
  // Ages are of one moment, or the one that is looked at last would be the oldest.
  const os::tick_clock clock = group.session().directory->clock();
  const double ns_per_tick = clock.ns_per_tick();
  const std::uint64_t now = clock.now();
  for (std::uint32_t lane = 0; lane < group.lanes().size(); ++lane) {
    auto& source = *group.lanes()[lane];
    const auto at = group.core().cursor_of(lane);
    ring::lane_reader<sync::hardware> reader(source.lane->memory(), nullptr, false);
    reader.set_position(at.position, at.seq);
    struct sink_type {
      std::vector<found>& all;
      detail::source& source;
      const group_config& rules;
      stream_handle& stream;
      std::uint64_t now;
      double ns_per_tick;
      std::uint32_t lane;
      std::size_t left;
      std::size_t begin;  // of its lane, in `all`
      ring::verdict take(const ring::record_view& view) {
        if (left == 0) return ring::verdict::full;
        if (source.match_of(view) != detail::source::match::yes) return ring::verdict::skipped;
        std::vector<std::byte> copy(view.shape.header_bytes +
                                    std::size_t{view.shape.payload_bytes});
        sync::hardware::copy_out(copy.data(), view.header(), copy.size());
        peeked_message one;
        one.lane = lane;
        one.sequence = view.seq;
        const layout::header_area area(copy.data(), view.shape.header_bytes, view.shape.flags);
        copy_headers(area, one.headers);
        if (!headers_match(rules, one)) return ring::verdict::skipped;
        if (view.subject_id() == layout::inline_subject_id) {
          one.subject = area.subject();
        } else if (auto text = stream.subject_text(view.subject_id())) {
          one.subject = *text;
        }
        one.age = std::chrono::nanoseconds(static_cast<std::int64_t>(
            now > view.ticks ? static_cast<double>(now - view.ticks) * ns_per_tick : 0));
        one.payload.assign(copy.begin() + view.shape.header_bytes, copy.end());
        const std::uint64_t before = all.size() > begin ? all.back().due : 0;
        all.push_back({std::max(before, view.ticks), std::move(one)});
        --left;
        return ring::verdict::taken;
      }
      void undo() {
        all.pop_back();
        ++left;
      }
    } sink{all, source, group.config(), group.stream(), now, ns_per_tick, lane, max, all.size()};
    while (sink.left != 0) {
      const std::uint64_t before = reader.position();
      const auto outcome = reader.poll(sink.left, sink);
      if (outcome == ring::poll_outcome::lapped) {
        std::uint64_t first = 0;
        if (!reader.resume(first)) break;
      } else if (outcome != ring::poll_outcome::more && outcome != ring::poll_outcome::aborted) {
        break;
      } else if (reader.position() == before) {
        break;
      }
    }
  }
  // As they are claimed: of several lanes the oldest first, each lane in its order.
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.due < b.due; });
  std::vector<peeked_message> next;
  for (std::size_t i = 0; i < std::min(all.size(), max); ++i)
    next.push_back(std::move(all[i].message));
  return next;
}

result<std::vector<dead_letter>> list_dead_letters(group_handle& group, std::uint64_t from,
                                                   std::size_t max) {
  std::vector<dead_letter> all;
  if (!group.dead_letter_lane()) return all;
  const auto& memory = group.dead_letter_lane()->memory();
  const os::tick_clock clock = group.session().directory->clock();
  const std::uint64_t floor = sync::load_acquire(group.header().dead_letters_floor);
  const std::uint64_t floor_seq =
      std::max<std::uint64_t>(sync::load_relaxed(group.header().dead_letters_floor_seq), 1);
  ring::lane_reader<sync::hardware> reader(memory, nullptr, false);
  reader.set_position(floor, floor_seq);
  const std::uint64_t first = std::max(from, floor_seq);
  struct sink_type {
    std::vector<dead_letter>& all;
    const os::tick_clock& clock;
    std::uint64_t first;
    std::size_t max;
    ring::verdict take(const ring::record_view& view) {
      if (all.size() >= max) return ring::verdict::full;
      if (view.seq < first) return ring::verdict::skipped;
      std::vector<std::byte> copy(view.shape.header_bytes + std::size_t{view.shape.payload_bytes});
      sync::hardware::copy_out(copy.data(), view.header(), copy.size());
      dead_letter one;
      one.sequence = view.seq;
      one.publish_time = wall(clock.to_wall_ns(view.ticks));
      const layout::header_area area(copy.data(), view.shape.header_bytes, view.shape.flags);
      area.each_user_header([&](std::string_view key, std::string_view value) {
        const std::string text(value);
        const auto number = [&] { return std::strtoull(text.c_str(), nullptr, 10); };
        if (key == "death-reason")
          one.reason = text;
        else if (key == "death-error")
          one.error = text;
        else if (key == "death-attempts")
          one.attempts = static_cast<std::uint32_t>(number());
        else if (key == "death-first-time")
          one.first_time = wall(number());
        else if (key == "death-last-time")
          one.last_time = wall(number());
        else if (key == "death-stream")
          one.stream = text;
        else if (key == "death-group")
          one.group = text;
        else if (key == "death-subject")
          one.subject = text;
        else if (key == "death-process")
          one.process = text;
        else if (key == "death-lane")
          one.origin_lane = static_cast<std::uint32_t>(number());
        else if (key == "death-sequence")
          one.origin_sequence = number();
        else
          one.headers.emplace_back(key, value);
        return true;
      });
      one.payload.assign(copy.begin() + view.shape.header_bytes, copy.end());
      all.push_back(std::move(one));
      return ring::verdict::taken;
    }
    void undo() { all.pop_back(); }
  } sink{all, clock, first, max};
  for (;;) {
    const std::uint64_t before = reader.position();
    const auto outcome = reader.poll(max, sink);
    if (outcome == ring::poll_outcome::corrupt)
      return error{errc::corrupt, 0,
                   "cannot read the dead letters of '" + group.config().name + "'",
                   "at sequence " + std::to_string(reader.next_seq()) + " there is no record", ""};
    if (all.size() >= max || reader.position() == before) return all;
  }
}

result<std::uint64_t> drop_dead_letters(group_handle& group, std::uint64_t sequence) {
  if (!group.dead_letter_lane()) return std::uint64_t{0};
  if (!group.lock(patience)) return *group.failure;
  auto& header = group.header();
  const std::uint64_t before =
      std::max<std::uint64_t>(sync::load_relaxed(header.dead_letters_floor_seq), 1);
  const std::uint64_t tail = group.dead_letters_tail();
  std::uint64_t position = sync::load_relaxed(header.dead_letters_floor), seq = before;
  const auto& memory = group.dead_letter_lane()->memory();
  if (position % layout::record_align != 0 || position + memory.capacity_bytes < tail)
    position = tail, seq = group.dead_letters_written() + 1;
  for (; position < tail && seq <= sequence; ++seq) {
    const auto* words = &memory.word_at(position);
    if (sync::load_acquire(words[0]) != seq) break;
    position += layout::record_shape::unpack(sync::load_relaxed(words[1])).total_bytes();
  }
  sync::store_relaxed(header.dead_letters_floor_seq, seq);
  sync::store_release(header.dead_letters_floor, position);
  sync::bump(header.dead_letters_dropped, seq - before);
  auto& readable = group.dead_letter_lane()->header().counters.readable_from;
  if (seq > sync::load_relaxed(readable)) sync::store_release(readable, seq);
  group.core().housekeep(group.now());  // what waited for the room
  group.update_pins(true);
  group.unlock();
  return seq - before;
}

result<void> pause_group(group_handle& group, std::optional<std::chrono::nanoseconds> time) {
  const std::uint64_t until =
      time ? group.now() + group.ticks(std::max<std::chrono::nanoseconds>(*time, 0ns)) : ~0ull;
  sync::store_release(group.header().paused_until, until);
  group.ring_bell();
  return {};
}

result<void> resume_group(group_handle& group) {
  sync::store_release(group.header().paused_until, 0);
  group.ring_bell();
  return {};
}

result<std::uint32_t> repair_group(group_handle& group) { return group.repair_by_hand(); }

}  // namespace bus::client
