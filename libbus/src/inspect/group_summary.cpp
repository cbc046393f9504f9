#include <algorithm>

#include "inspect/group_view.hpp"
#include "inspect/lane_end.hpp"
#include "inspect/texts.hpp"
#include "ring/waypoints.hpp"

namespace bus::inspect {

using layout::slot_state;
using namespace std::chrono_literals;

void group_view::count_slots(group_info& info, std::uint64_t& oldest_ticks) const {
  auto& counts = info.counts;
  const std::uint32_t count = slots_to_read();
  for (std::uint32_t index = 0; index < count; ++index) {
    const auto seen = read_slot(index);
    if (!seen) continue;
    switch (seen->status.state) {
      case slot_state::ready: ++counts.ready; break;
      case slot_state::leased: ++counts.leased; break;
      case slot_state::delayed: ++counts.delayed; break;
      case slot_state::parked: ++counts.parked; break;
      case slot_state::skipped: counts.parked += seen->skipped; continue;
      default: ++counts.dying; break;
    }
    oldest_ticks = std::min(oldest_ticks, seen->published);
  }
  counts.pending = counts.ready + counts.leased + counts.delayed + counts.parked + counts.dying;
}

// Returns how many messages lie below the cursors.
std::uint64_t group_view::count_lanes(group_info& info, std::uint64_t& oldest_ticks) {
  auto& counts = info.counts;
  std::uint64_t passed = 0;
  for (std::uint32_t index = 0; index < lanes_.size(); ++index) {
    const auto& cursor = memory_.cursors[index];
    auto at = lanes_[index].cursor;
    if (at.seq == 0) continue;
    const auto& memory = lanes_[index].map->memory();
    // Messages that the ring has lost are not unclaimed: no claim will find them.
    if (memory.overwriting) {
      const auto oldest = ring::oldest_waypoint<sync::hardware>(memory, at.position);
      if (oldest.found() && oldest.position > at.position && oldest.seq > at.seq) {
        at.dropped += oldest.seq - at.seq;
        at.seq = oldest.seq;
      }
    }
    if (const std::uint64_t first = sync::load_relaxed(cursor.first_seq); first != 0)
      passed += at.seq - std::min(at.seq, first);
    counts.filtered += at.filtered;
    counts.dropped += at.dropped;
    const std::uint64_t next = find_end(memory).next_seq;
    counts.unclaimed += next > at.seq ? next - at.seq : 0;
    std::vector<std::pair<std::uint64_t, peeked_message>> first;
    peek_lane(index, 1, now(), first);
    if (!first.empty()) oldest_ticks = std::min(oldest_ticks, first.front().first);
  }
  return passed;
}

void group_view::count(group_info& info) {
  constexpr int most_attempts = 3;
  for (int attempt = 0; attempt < most_attempts && !info.is_consistent; ++attempt) {
    const std::uint64_t before = fingerprint();
    const bool was_free = sync::load_acquire(header().lock) == 0;
    info.counts = {};
    read_cursors();
    std::uint64_t oldest_ticks = ~0ull;
    const std::uint64_t passed = count_lanes(info, oldest_ticks);
    count_slots(info, oldest_ticks);
    const std::uint64_t written =
        dead_letter_lane_ ? find_end(dead_letter_lane_->memory()).next_seq - 1 : 0;
    info.counts.dead = written + sync::load_relaxed(header().discarded);
    info.dead_letters_kept =
        written + 1 -
        std::clamp<std::uint64_t>(sync::load_relaxed(header().dead_letters_floor_seq), 1,
                                  written + 1);
    const std::uint64_t other =
        info.counts.filtered + info.counts.dropped + info.counts.dead + info.counts.pending;
    info.counts.settled = passed > other ? passed - other : 0;
    const std::uint64_t at = now();
    info.oldest_age.reset();
    if (oldest_ticks != ~0ull) info.oldest_age = time(at > oldest_ticks ? at - oldest_ticks : 0);
    info.is_consistent = was_free && fingerprint() == before;
  }
}

void group_view::describe_consumers(group_info& info) const {
  const std::uint64_t active = sync::load_acquire(header().active);
  const auto used =
      std::min<std::uint64_t>(sync::load_acquire(header().members_used), memory_.member_count);
  for (std::uint32_t i = 0; i < used; ++i) {
    const auto& member = memory_.members[i];
    const std::uint64_t who = sync::load_acquire(member.who);
    if (who == 0) continue;
    group_info::consumer one;
    one.name = text_of(member.name, sizeof member.name);
    one.process_id = static_cast<std::uint32_t>(who >> 32);
    one.alive = session_.peers->state(one.process_id) == sync::life_state::alive;
    one.active = info.config.mode == group_mode::shared || active >> 32 == i + 1;
    one.claimed = sync::load_relaxed(member.claimed);
    one.settled = sync::load_relaxed(member.settled);
    info.consumers.push_back(std::move(one));
  }
}

namespace {

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
        "hold_bytes is used up: pending messages cannot be copied, so no more are handed out; "
        "settle some, or recreate the group with a larger --hold-bytes");
  if (rules.mode == group_mode::failover && living != 0 && c.unclaimed + c.ready != 0)
    for (const auto& one : info.consumers)
      if (one.active)
        why.push_back("mode=failover: only its active consumer " + one.name + " takes messages" +
                      (rules.ack_wait.count() != 0
                           ? "; should it take none for ack_wait, another one takes over"
                           : "; ack_wait=0: it is replaced only when it ends"));
  if (living == 0)
    why.push_back("it has no running consumer: start a worker (bus group next " + name + ")");
  if (rules.order == group_order::total && c.pending != 0)
    why.push_back(
        "order=total: one message is pending; the next is handed out when it is settled (bus group "
        "pending " +
        name + ")");
  if (c.leased >= rules.max_ack_pending)
    why.push_back("max_ack_pending: " + std::to_string(c.leased) +
                  " messages are leased and not settled; settle them (bus group pending " + name +
                  "), add consumers that do, or raise it");
  if (c.delayed > rules.max_delayed)
    why.push_back("max_delayed: " + std::to_string(c.delayed) +
                  " messages wait for a retry; those beyond it count towards max_ack_pending");
  if (rules.order == group_order::key && c.parked != 0)
    why.push_back(
        "order=key: " + std::to_string(c.parked) +
        " messages wait for their key, whose message is pending or waits for a retry" +
        (living > 1 && c.leased < living ? "; more consumers than busy keys do not help" : ""));
  if (c.dying != 0)
    why.push_back("the dead-letter stream is full: " + std::to_string(c.dying) +
                  " messages wait for room (bus dlq drop " + name + ")");
  if (c.delayed != 0)
    why.push_back(std::to_string(c.delayed) + " messages wait for their retry (back-off)");
  if (c.unclaimed == 0 && c.pending == 0) why.push_back("there is nothing to deliver");
}

}  // namespace

group_info group_view::describe() {
  group_info info;
  info.config = config();
  const auto& counters = header().counters;
  count(info);
  const std::uint64_t reserved = sync::load_relaxed(header().blocks_reserved);
  const std::uint64_t free = std::min<std::uint64_t>(memory_.lists().block_free, reserved);
  info.hold_used_bytes = (reserved - free) * layout::group_block_bytes;
  info.hold_full = info.hold_used_bytes + layout::group_block_bytes > info.config.hold_bytes ||
                   (reserved >= memory_.block_count && free == 0);
  info.redelivered = sync::load_relaxed(counters.redelivered);
  info.expired = sync::load_relaxed(counters.expired);
  info.nacked = sync::load_relaxed(counters.nacked);
  info.released = sync::load_relaxed(counters.released);
  info.returned_by_death =
      sync::load_relaxed(counters.died) + sync::load_relaxed(counters.returned_unstarted);
  info.repaired = sync::load_relaxed(counters.repaired);
  info.damaged = sync::load_relaxed(header().damaged) != 0;
  const std::uint64_t paused = sync::load_relaxed(header().paused_until), at = now();
  info.paused = paused > at;
  if (info.paused && paused != ~0ull) info.paused_for = time(paused - at);
  describe_consumers(info);
  explain(info);
  return info;
}

}  // namespace bus::inspect
