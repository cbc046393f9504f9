/// consumer_core, membership: joins a group, takes part in it, leaves it.

#include "consume/consumer_core.hpp"

#include <cstring>

#include "os/process.hpp"
#include "sync/seeded_fault.hpp"

namespace bus {

consumer_core::~consumer_core() {
  end_keeper();
  if (session && group_ && joined_ && guard_.same_process()) leave();
}

void consumer_core::end_keeper() noexcept {
  if (guard_.same_process()) keeper_.reset();
  // A forked child does not have the thread to join.
  else
    (void)keeper_.release();
}

void consumer_core::retire(std::unique_ptr<consumer_core> core) noexcept {
  core->end_keeper();
  if (core->joined_ && core->guard_.same_process()) core->leave();
  core->joined_ = false;
  core->retired_ = true;
  for (auto& entry : core->entries_) entry.settled = entry.taken_back = true;
  if (core->in_hand_ != 0) (void)core.release();
}

result<void> consumer_core::join() {
  auto& header = group_->header();
  const auto& m = group_->memory();
  group_->return_leases_of_dead();
  const std::uint64_t me = std::uint64_t{session->me->id()} << 32 | session->next_object_id();
  if (!group_->lock(lock_patience)) return *group_->failure;
  error why{errc::no_space, 0, "cannot join the group '" + config().name + "'",
            "it already has " + std::to_string(m.member_count) + " consumers",
            "recreate the group with a larger --max-consumers"};
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
           "end that consumer, or use mode failover"};
  }
  if (admitted) {
    auto held = group_->hold_publishers();
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
    // Users search for the pid: the name is shortened instead.
    const std::size_t most = sizeof entry.name - 1;
    const std::string shown =
        name.size() <= most ? name : name.substr(0, most - 14) + name.substr(name.size() - 14);
    std::memcpy(entry.name, shown.data(), shown.size());
    sync::store_relaxed(entry.claimed, 0);
    sync::store_relaxed(entry.settled, 0);
    group_->core().member_joins(member);
    group_->core().look_for_losses();
    // A slot that was just taken is never the active one, whatever it was before.
    if (holder == member + 1 && !sync::makes(sync::fault::place_stays_active))
      sync::store_relaxed(header.active, 0);
    sync::store_relaxed(entry.joined_by, static_cast<std::uint64_t>(session->me->who().pid) << 32 |
                                             static_cast<std::uint32_t>(os::thread_id()));
    sync::store_release(entry.who, me);
    sync::reach(sync::failpoint::member_joined);
    if (sync::load_relaxed(header.members_used) <= member)
      sync::store_release(header.members_used, std::uint64_t{member} + 1);
    member_ = member;
    joined_ = true;
    (void)may_take_part();
  }
  group_->unlock();
  if (!admitted) return why;
  return {};
}

// REQUIRES: the lock.
// True if this member may claim. It becomes the active one if there is none.
bool consumer_core::may_take_part() noexcept {
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

// REQUIRES: the lock; another member is active.
// Deposes that member and returns true if it made no progress for ack_wait although there was work
// and it holds no lease: it hangs, stopped or in a loop of its own.
bool consumer_core::watch_active(std::uint64_t now, std::uint64_t paused) noexcept {
  const auto& rules = group_->memory().rules;
  if (rules.mode != group::mode_rule::failover || rules.ack_wait == 0) return false;
  auto& header = group_->header();
  const std::uint64_t active = sync::load_relaxed(header.active);
  const std::uint64_t claims = sync::load_relaxed(header.claims);
  const std::uint64_t extended = sync::load_relaxed(header.counters.extended);
  bool has_work = group_->memory().lists().ready_count != 0;
  std::uint64_t passed = 0;  // skipping filtered messages is progress, too
  for (std::uint32_t lane = 0; lane < group_->lanes().size(); ++lane) {
    has_work = has_work || has_next(lane);
    passed += group_->core().cursor_of(lane).seq;
  }
  has_work = has_work && group_->core().window(1) != 0;
  auto& seen = watched_active_;
  if (!has_work || paused > now || seen.since == 0 || seen.active != active ||
      seen.claims != claims || seen.extended != extended || seen.passed != passed) {
    seen = {active, claims, extended, passed, has_work && paused <= now ? now : 0};
    return false;
  }
  const auto holder = static_cast<std::uint32_t>(active >> 32);
  if (now - seen.since < rules.ack_wait || holder == 0) return false;
  if (group_->core().has_lease_of(holder - 1)) {  // its lease ends by itself
    seen.since = now;
    return false;
  }
  group_->core().depose(holder - 1);
  return true;
}

std::uint64_t consumer_core::active_token() const noexcept {
  if (config().mode == group_mode::shared) return 0;
  const std::uint64_t active = sync::load_acquire(group_->header().active);
  return active >> 32 == member_ + 1 ? active & 0xffffffffu : 0;
}

void consumer_core::leave() noexcept {
  for (std::size_t i = ahead_; i < claimed_.size(); ++i)
    if (!claimed_[i]->settled && !claimed_[i]->taken_back) (void)release(*claimed_[i]);
  auto& header = group_->header();
  // After this process has exited, another one returns what is left.
  if (group_->is_removed() || !group_->lock(lock_patience)) return;
  group_->core().housekeep(group_->now());
  // Messages in leases that outlive the consumer return, too.
  (void)group_->core().member_died(member_, group_->now());
  group_->core().member_left(member_);
  sync::store_release(group_->memory().members[member_].who, 0);
  sync::store_relaxed(header.last_member_ticks, group_->now());
  group_->update_pins(true);
  group_->unlock();
  group_->ring_bell();
}

}  // namespace bus
