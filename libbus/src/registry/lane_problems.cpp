#include "registry/lane_problems.hpp"

#include <algorithm>
#include <thread>

#include "ring/lane_writer.hpp"
#include "sync/owner_lock.hpp"
#include "sync/words.hpp"

namespace bus::registry {

namespace {

constexpr int looks = 8;
constexpr auto between_looks = std::chrono::milliseconds(5);
constexpr auto repair_patience = std::chrono::milliseconds(500);

struct sample {
  std::shared_ptr<stream_handle> stream;
  std::shared_ptr<lane_map> lane;
  std::uint64_t lock = 0, next_seq = 0, generation = 0;
  bool moved = false;
};

std::uint64_t lock_of(const lane_map& lane) noexcept {
  return sync::load_relaxed(lane.header().turn.lock) & ~sync::lock_contended;
}

std::string where(const sample& one) {
  return "lane " + std::to_string(one.lane->index()) + " of stream '" + one.stream->name() + "'";
}

// True if the owner of the lease is alive and does not claim the lane.
bool is_unclaimed(session_core& session, const stream_handle& stream, const lane_map& lane) {
  const std::uint32_t owner = layout::lease_owner(sync::load_relaxed(lane.header().turn.lease));
  if (owner == 0) return false;
  const auto process = session.peers->find(owner);
  return process && sync::read_life(process->life()) == sync::life_state::alive &&
         !process->claims_lane(stream.facts().stream_id, lane.index());
}

// Only for a stream that exists.
bool is_closed(const lane_map& lane) noexcept {
  return sync::load_acquire(lane.header().counters.closed) != 0 ||
         sync::load_relaxed(lane.header().turn.lease) == layout::lease_closed;
}

bool is_there(session_core& session, const stream_handle& stream) {
  const auto facts = read_stream_file(session.directory->stream_path(stream.name()));
  return facts && facts->stream_id == stream.facts().stream_id;
}

void judge(session_core& session, const sample& one, std::vector<error>& found) {
  const std::string repair = "bus stream repair " + one.stream->name();
  if (is_closed(*one.lane) && is_there(session, *one.stream))
    found.push_back({errc::corrupt, 0, where(one) + " is marked as removed",
                     "its stream exists: the lane was overwritten", repair});
  if (is_unclaimed(session, *one.stream, *one.lane))
    found.push_back({errc::corrupt, 0,
                     where(one) + " is leased to a process that does not claim it",
                     session.peers->describe(
                         layout::lease_owner(sync::load_relaxed(one.lane->header().turn.lease))) +
                         " does not publish to it exclusively: the lane was overwritten",
                     repair});
  if (one.lock == 0 || one.moved) return;
  const auto owner = static_cast<std::uint32_t>(one.lock & sync::lock_owner_mask);
  if (session.peers->state(owner) != sync::life_state::alive) return;  // the next publisher repairs
  if (!session.peers->uses_key(owner, sync::lock_key_of(one.lock)))
    found.push_back({errc::corrupt, 0, where(one) + " is locked, but by no process",
                     "it names " + session.peers->describe(owner) +
                         ", but not with the key of that process: the lane was overwritten",
                     repair});
  else
    found.push_back({errc::busy, 0, where(one) + " is locked by " + session.peers->describe(owner),
                     "publishers wait for it",
                     "continue it (kill -CONT), or end it: its turn is then repaired"});
}

}  // namespace

std::vector<error> find_lane_problems(session_core& session) {
  std::vector<error> found;
  std::vector<sample> samples;
  for (const auto& stream : session.streams())
    for (std::uint32_t lane = 0; lane < stream->lane_count(); ++lane)
      if (auto map = stream->lane(lane, false)) {
        const auto& turn = (*map)->header().turn;
        samples.push_back({stream, *map, lock_of(**map), sync::load_relaxed(turn.next_seq),
                           sync::load_relaxed(turn.generation)});
      }
  for (int look = 1; look < looks; ++look) {
    std::this_thread::sleep_for(between_looks);
    for (sample& one : samples) {
      const auto& turn = one.lane->header().turn;
      one.moved = one.moved || lock_of(*one.lane) != one.lock ||
                  sync::load_relaxed(turn.next_seq) != one.next_seq ||
                  sync::load_relaxed(turn.generation) != one.generation;
    }
  }
  for (const sample& one : samples) judge(session, one, found);
  for (const std::uint32_t id : session.peers->ids()) {
    const std::string why = session.peers->why_unseen(id);
    if (why.empty() || session.peers->state(id) != sync::life_state::alive) continue;
    found.push_back({errc::corrupt, 0, "process " + std::to_string(id) + " cannot be read", why,
                     session.peers->how_to_end(id)});
  }
  return found;
}

result<unsigned> repair_lanes(session_core& session, stream_handle& stream) {
  auto lock = session.directory->lock_changes();
  if (!lock) return std::move(lock.error());
  if (!is_there(session, stream))
    return error{errc::not_found, 0, "no stream '" + stream.name() + "'",
                 "this bus has no stream of that name", "bus stream ls"};
  unsigned mended = 0;
  for (std::uint32_t index = 0; index < stream.lane_count(); ++index) {
    auto map = stream.lane(index, true);
    if (!map) return std::move(map.error());
    auto& header = (*map)->header();
    std::uint32_t holder = 0;
    const auto outcome =
        sync::wait_lock(header.turn.lock, session.me->lock_word(),
                        std::chrono::steady_clock::now() + repair_patience, *session.peers, holder);
    if (outcome == sync::lock_result::busy)
      return error{
          errc::busy, 0, "cannot repair the stream '" + stream.name() + "'",
          "lane " + std::to_string(index) + " is locked by " + session.peers->describe(holder),
          "continue it (kill -CONT), or end it"};
    const std::uint64_t lease = sync::load_relaxed(header.turn.lease);  // ordered by the lock
    const std::uint32_t owner = layout::lease_owner(lease);
    const bool is_free = lease == layout::lease_closed || is_unclaimed(session, stream, **map) ||
                         (owner != 0 && session.peers->proven_dead(owner));
    const bool was_closed = is_closed(**map);
    if (is_free || (outcome == sync::lock_result::taken_over && owner == 0)) {
      ring::lane_writer<sync::hardware>((*map)->memory()).repair();
      if (is_free)
        sync::store_release(header.turn.lease, sync::load_acquire(header.durability.stopped) != 0
                                                   ? layout::lease_parked
                                                   : 0);
    }
    if (was_closed) sync::store_release(header.counters.closed, 0);
    if (is_free || was_closed || outcome == sync::lock_result::taken_over) ++mended;
    sync::unlock(header.turn.lock);
  }
  session.directory->announce_change();
  return mended;
}

}  // namespace bus::registry
