#include "registry/lane_fence.hpp"

#include "ring/lane_writer.hpp"
#include "sync/owner_lock.hpp"
#include "sync/words.hpp"

namespace bus::registry {

fence raise_fence(lane_map& lane, std::uint64_t lease, std::uint64_t self,
                  sync::peers& peers) noexcept {
  constexpr auto patience = std::chrono::milliseconds(100);
  auto& turn = lane.header().turn;
  std::uint32_t holder = 0;
  const auto outcome =
      sync::wait_lock(turn.lock, self, std::chrono::steady_clock::now() + patience, peers, holder);
  if (outcome == sync::lock_result::busy) return fence::busy;
  const std::uint64_t before = sync::load_relaxed(turn.lease);  // ordered by the lock
  const std::uint32_t owner = layout::lease_owner(before);
  fence done = fence::raised;
  if (owner != 0 && !peers.proven_dead(owner)) {
    done = fence::owned;
  } else {
    // Usually the next publisher repairs a dead publisher's turn; a closed lane has none.
    const bool is_broken = owner != 0 || outcome == sync::lock_result::taken_over;
    if (is_broken && lane.memory().data != nullptr)
      ring::lane_writer<sync::hardware>(lane.memory()).repair();
    if (before != layout::lease_closed) sync::store_release(turn.lease, lease);  // [F1]
  }
  sync::unlock(turn.lock);
  return done;
}

}  // namespace bus::registry
