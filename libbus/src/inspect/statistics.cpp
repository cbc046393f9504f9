#include "inspect/statistics.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include "inspect/lane_end.hpp"
#include "inspect/texts.hpp"
#include "registry/group_pins.hpp"
#include "ring/gate.hpp"
#include "sync/words.hpp"

namespace bus::inspect {

result<stream_info> describe_stream(session_core& session, registry::stream_handle& stream) {
  stream_info info;
  info.config = stream.facts().config;
  info.stream_id = stream.facts().stream_id;
  info.epoch = stream.facts().epoch;
  info.sealed = stream.facts().sealed;
  if (stream.has_log()) info.log_directory = os::link_target(stream.directory() + "/log");
  info.created = wall(stream.facts().created_ns);
  info.subjects_interned = stream.subject_count();
  registry::group_finder groups(stream.directory());
  for (std::uint32_t index = 0; index < stream.lane_count(); ++index) {
    auto map = stream.lane(index, false);
    if (!map) return std::move(map.error());
    const auto& memory = (*map)->memory();
    const auto& header = (*map)->header();
    lane_info lane;
    lane.index = index;
    const lane_end end = find_end(memory);
    lane.last_sequence = end.next_seq - 1;
    lane.bytes_published = end.position;
    const std::uint64_t reserved_end = sync::load_relaxed(header.limits.reserved_end);
    const std::uint64_t lowest =
        reserved_end > memory.capacity_bytes ? reserved_end - memory.capacity_bytes : 0;
    const auto oldest = ring::oldest_waypoint<sync::hardware>(memory, lowest);
    lane.first_sequence =
        oldest.found() && lane.last_sequence != 0
            ? std::max(oldest.seq, sync::load_relaxed(header.counters.readable_from))
            : 0;
    if (lane.first_sequence > lane.last_sequence) lane.first_sequence = 0;  // all of them are gone
    std::uint64_t slowest = end.position;
    for (std::uint32_t i = 0; i < (*map)->reader_entries(); ++i) {
      const std::uint64_t entry = sync::load_acquire((*map)->reader_entry(i));
      if (entry == 0) continue;
      if (layout::is_group_reader(entry)) {
        bool gone = false;
        if (const auto group = groups.find(entry, gone))
          slowest = std::min(
              slowest, ring::held_position<sync::hardware>(group->pin(index), (*map)->lane_key(),
                                                           end.position, memory.capacity_bytes));
        continue;
      }
      const auto process = session.peers->find(static_cast<std::uint32_t>(entry >> 32));
      const auto* slot = process ? process->slot(static_cast<std::uint32_t>(entry) - 1) : nullptr;
      if (slot == nullptr) continue;
      slowest = std::min(slowest, ring::held_position<sync::hardware>(
                                      *reinterpret_cast<const ring::pin_words*>(slot->pin),
                                      (*map)->lane_key(), end.position, memory.capacity_bytes));
    }
    lane.used_bytes = end.position - slowest;
    lane.dropped = sync::load_relaxed(header.counters.dropped);
    lane.rejected = sync::load_relaxed(header.counters.rejected);
    lane.blocked = sync::load_relaxed(header.counters.blocked);
    lane.repaired = sync::load_relaxed(header.counters.repaired);
    lane.aborted = sync::load_relaxed(header.counters.aborted);
    lane.exclusive_process = layout::lease_owner(sync::load_relaxed(header.turn.lease));
    if (memory.has_log()) {
      lane.skipped_sequences =
          std::min(sync::load_acquire(header.durability.skipped), lane.last_sequence);
      lane.logged_sequence = sync::load_acquire(header.durability.logged_seq);
      if (memory.kept == layout::storage::durable)
        lane.durable_sequence = sync::load_acquire(header.durability.durable_seq);
    }
    info.lanes.push_back(lane);
  }
  return info;
}

std::vector<process_info> describe_processes(session_core& session) {
  std::map<std::pair<std::uint64_t, std::uint32_t>, lane_end> ends;
  for (auto& stream : session.streams()) {
    for (std::uint32_t lane = 0; lane < stream->lane_count(); ++lane) {
      if (auto map = stream->lane(lane, false))
        ends[{stream->facts().stream_id, lane}] = find_end((*map)->memory());
    }
  }
  std::vector<process_info> all;
  for (const std::uint32_t id : session.peers->ids()) {
    const auto process = session.peers->find(id);
    if (!process) continue;
    const auto& who = process->identity();
    process_info info;
    info.id = id;
    info.pid = static_cast<std::int64_t>(who.pid);
    info.other_namespace = who.namespaces != session.peers->self().namespaces;
    info.uid = who.uid;
    info.name = text_of(who.name, sizeof who.name);
    info.joined = wall(who.joined_ns);
    const auto state = sync::read_life(process->life());
    if (state == sync::life_state::left) continue;
    info.state = state == sync::life_state::dead ? process_state::dead
                 : !info.other_namespace && os::is_stopped(info.pid, who.start_time)
                     ? process_state::stopped
                     : process_state::running;
    for (std::uint32_t index = 0; index < who.slot_count; ++index) {
      const layout::slot& slot = *process->slot(index);
      const auto kind = static_cast<layout::slot_kind>(sync::load_acquire(slot.kind));
      const std::uint64_t flags = sync::load_relaxed(slot.flags);
      const auto lane = static_cast<std::uint32_t>(sync::load_relaxed(slot.lane));
      if (kind == layout::slot_kind::publisher) {
        publisher_info p;
        p.id = static_cast<std::uint32_t>(sync::load_relaxed(slot.object_id));
        p.subject = text_of(slot.label, sizeof slot.label);
        if (const auto space = p.subject.rfind(' '); space != std::string::npos) {
          p.name = p.subject.substr(0, space);
          p.subject.erase(0, space + 1);
        }
        p.stream = text_of(slot.stream, sizeof slot.stream);
        p.lane = lane;
        p.exclusive = (flags & layout::slot_exclusive) != 0;
        p.blocked = (flags & layout::slot_blocked) != 0;
        p.messages = sync::load_relaxed(slot.messages);
        p.bytes = sync::load_relaxed(slot.bytes);
        p.refused = sync::load_relaxed(slot.refused);
        info.publishers.push_back(std::move(p));
      } else if (kind == layout::slot_kind::reader) {
        const auto& pin = *reinterpret_cast<const ring::pin_words*>(slot.pin);
        reader_info r;
        r.id = static_cast<std::uint32_t>(sync::load_relaxed(slot.object_id));
        r.name = text_of(slot.label, sizeof slot.label);
        r.stream = text_of(slot.stream, sizeof slot.stream);
        r.lane = lane;
        r.gating = (flags & layout::slot_gating) != 0;
        r.sleeping = (flags & layout::slot_sleeping) != 0;
        r.next_sequence = sync::load_relaxed(pin.next_seq);
        r.delivered = sync::load_relaxed(pin.delivered);
        r.lost = sync::load_relaxed(pin.lost);
        const auto end = ends.find({sync::load_relaxed(slot.stream_id), lane});
        if (end != ends.end()) {
          const std::uint64_t cursor = sync::load_relaxed(pin.cursor);
          r.lag_messages =
              end->second.next_seq > r.next_sequence ? end->second.next_seq - r.next_sequence : 0;
          r.lag_bytes = end->second.position > cursor ? end->second.position - cursor : 0;
        }
        info.readers.push_back(std::move(r));
      }
    }
    all.push_back(std::move(info));
  }
  return all;
}

}  // namespace bus::inspect
