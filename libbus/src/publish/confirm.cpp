#include "publish/confirm.hpp"

#include <algorithm>

#include "base/cycles.hpp"
#include "os/futex.hpp"
#include "registry/keeper_link.hpp"
#include "sync/words.hpp"

namespace bus::publish {

namespace {

using clock = std::chrono::steady_clock;

// A disk takes a few hundred microseconds; sleeping and waking costs another fifty.
constexpr auto spin_for_disk = std::chrono::microseconds(400);
constexpr auto longest_sleep = std::chrono::milliseconds(20);

}  // namespace

result<void> wait_durable(session_core& session, registry::stream_handle& stream, const receipt& of,
                          std::chrono::nanoseconds wait) {
  const auto& config = stream.facts().config;
  const std::string what = "cannot confirm a message of stream '" + config.name + "'";
  if (config.storage != storage_class::durable || config.fsync == fsync_policy::never)
    return error{errc::invalid_argument, 0, what,
                 config.storage == storage_class::durable
                     ? "its fsync policy is never: none of its messages is ever known to be on disk"
                     : std::string("its storage is ") + storage_name(config.storage) +
                           ": its messages are not written to disk",
                 "recreate it with --storage durable --fsync batch, or do not wait for `disk`"};
  auto map = stream.lane(of.lane, true);
  if (!map) return std::move(map.error());
  auto& durability = (*map)->header().durability;
  auto& control = session.directory->control();
  // [D2] acquire: pairs with busd's release after the sync.
  const auto is_there = [&] { return sync::load_acquire(durability.durable_seq) >= of.sequence; };
  if (is_there()) return {};
  const auto begin = clock::now();
  const auto until = begin + std::clamp<std::chrono::nanoseconds>(wait, std::chrono::nanoseconds(0),
                                                                  std::chrono::hours(24 * 365));
  registry::ring_keeper(control);
  for (auto now = begin;; now = clock::now()) {
    for (int i = 0; i < 16; ++i) base::relax();
    if (is_there()) return {};
    if (now < begin + spin_for_disk && now < until) continue;
    const auto health = static_cast<layout::log_health>(sync::load_acquire(durability.health));
    if (health > layout::log_health::good)
      return error{errc::no_space, 0, what,
                   health == layout::log_health::full ? "the disk of its log is full or nearly full"
                                                      : "its log cannot be written",
                   "free space, or check the disk (bus doctor); the message waits in the ring"};
    const auto keeper = static_cast<std::uint32_t>(sync::load_acquire(control.keeper));
    const bool is_kept = keeper != 0 && session.peers->state(keeper) == sync::life_state::alive;
    if (now >= until) {
      if (!is_kept) return registry::no_keeper(session.address.name, what);
      return error{errc::timed_out, 0, what,
                   "busd (" + session.peers->describe(keeper) + ") has not written it yet",
                   "wait longer, or check the disk (bus doctor)"};
    }
    registry::ring_keeper(control);
    sync::store_relaxed(durability.confirm_waiting, 1);
    const std::uint64_t seen = sync::load_relaxed(durability.durable_seq);
    // [W2] confirm_waiting is set before durable_seq is read again; pairs with the fence after
    // busd's store.
    sync::full_fence();
    if (seen < of.sequence)
      os::futex_wait(os::futex_half(durability.durable_seq), static_cast<std::uint32_t>(seen),
                     std::min<std::chrono::nanoseconds>(longest_sleep, until - now));
  }
}

}  // namespace bus::publish
