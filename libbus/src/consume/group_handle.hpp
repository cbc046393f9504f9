#pragma once
/// group_handle: one group as one thread of this process uses it: its file, its lanes, its dead
/// letters, its lock, and whom to wake.
///
/// Threads    one

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "events/group_events.hpp"
#include "group/core.hpp"
#include "group/dead_letters.hpp"
#include "registry/group_files.hpp"
#include "registry/session_core.hpp"
#include "registry/writer_gate.hpp"
#include "subscribe/source.hpp"

namespace bus::consume {

class group_handle {
 public:
  using clock = std::chrono::steady_clock;

  /// Errors: not_found, corrupt, unsupported, permission, no_space, busy
  static result<std::unique_ptr<group_handle>> open(session_core& session,
                                                    std::shared_ptr<registry::stream_handle> stream,
                                                    std::string_view name);
  ~group_handle();
  group_handle(const group_handle&) = delete;
  group_handle& operator=(const group_handle&) = delete;

  /// Lanes that came since.
  /// Errors: no_space, corrupt, busy
  result<void> refresh();
  bool is_current() const noexcept { return sync::load_acquire(*generation_) == generation_seen_; }
  /// A guest of the bus takes no lock: it looks at what is there.
  bool may_lock() const noexcept { return session_.me != nullptr; }
  bool is_removed() const noexcept { return sync::load_acquire(map_->header().closed) != 0; }

  /// False: somebody who lives has it for longer than `patience` (`failure` says who), or its state
  /// is damaged.
  bool lock(std::chrono::nanoseconds patience) {
    if (!try_lock()) [[unlikely]]
      return lock_slowly(patience);
    return sync::load_relaxed(header().damaged) == 0 || fail_damaged();
  }
  /// Also when the state is damaged.
  bool try_lock() noexcept {
    if (!sync::try_lock<sync::hardware>(map_->header().lock, session_.me->lock_word()))
      return false;
    memory_.broken = false;  // what was met before concerned a state that may be repaired by now
    return true;
  }
  /// Wakes whom what happened under the lock concerns, and publishes what is an event.
  void unlock() noexcept;
  events::group_events& events();
  std::optional<error> failure;
  /// Also when the state is damaged. How many slots were nonsense.
  /// Errors: busy
  result<std::uint32_t> repair_by_hand();

  /// After what a holder of the lock does to the rings: publishers that wait go on.
  /// `claims`: since the last call.
  void update_pins(bool idle, std::uint32_t claims = 1) noexcept;
  void ring_bell() noexcept;
  /// Without any consumer for idle_release: publishers are not held back any more. What is out or
  /// waits for a retry stays. True: it lets go now.
  bool let_go_if_idle();
  /// REQUIRES: the lock. A consumer is here: publishers are held back again; what is gone by now is
  /// counted as dropped.
  /// Errors: corrupt, busy
  result<void> hold_publishers();
  /// Consumers of processes that died: their leases go back, their places are free. System calls;
  /// takes the lock when there is one.
  /// Cost: a load per consumer while all live.
  void return_leases_of_dead();

  group::core& core() noexcept { return core_; }
  const group_config& config() const noexcept { return map_->config(); }
  layout::group_header& header() const noexcept { return map_->header(); }
  const group::group_memory& memory() const noexcept { return memory_; }
  std::vector<std::unique_ptr<detail::source>>& lanes() noexcept { return lanes_; }
  session_core& session() noexcept { return session_; }
  registry::stream_handle& stream() noexcept { return *stream_; }
  const std::shared_ptr<registry::stream_handle>& shared_stream() const noexcept { return stream_; }
  const std::shared_ptr<registry::group_map>& map() const noexcept { return map_; }
  std::uint64_t now() const noexcept { return clock_.now(); }
  std::uint64_t ticks(std::chrono::nanoseconds time) const noexcept {
    return static_cast<std::uint64_t>(static_cast<double>(time.count()) / ns_per_tick_);
  }
  std::chrono::nanoseconds time(std::uint64_t ticks) const noexcept {
    return std::chrono::nanoseconds(
        static_cast<std::int64_t>(static_cast<double>(ticks) * ns_per_tick_));
  }
  bool everything_matches() const noexcept { return everything_matches_; }
  const std::shared_ptr<registry::lane_map>& dead_letter_lane() const noexcept {
    return dead_letter_lane_;
  }
  std::uint64_t dead_letters_tail() noexcept { return dead_letters_ ? dead_letters_->tail() : 0; }
  std::uint64_t dead_letters_written() noexcept {
    return dead_letters_ ? dead_letters_->next_seq() - 1 : 0;
  }

 private:
  group_handle(session_core& session, std::shared_ptr<registry::stream_handle> stream,
               std::shared_ptr<registry::group_map> map);
  bool lock_slowly(std::chrono::nanoseconds patience);
  bool fail_damaged();
  result<void> open_dead_letters();
  result<void> learn_lanes();
  bool is_at_a_record(std::uint32_t lane, const group::lane_cursor& at) noexcept;
  void mend_cursor(std::uint32_t lane) noexcept;
  result<void> announce(std::uint32_t lane);
  result<void> attach(std::uint32_t lane, const start& from);
  result<void> begin_at_last();
  void repair_after_death() noexcept;
  void keep_arena_backed() noexcept;
  void publish_events() noexcept;

  session_core& session_;
  std::shared_ptr<registry::stream_handle> stream_;
  std::shared_ptr<registry::group_map> map_;
  group::group_memory memory_;
  os::tick_clock clock_;
  double ns_per_tick_;
  detail::source::wish wish_;
  std::vector<std::unique_ptr<detail::source>> lanes_;
  std::shared_ptr<registry::lane_map> dead_letter_lane_;
  std::optional<group::dead_letters> dead_letters_;
  std::optional<registry::writer_gate> dead_letter_gate_;
  group::core core_;
  const base::word* generation_ = nullptr;
  std::uint64_t generation_seen_ = 0;
  std::vector<std::uint32_t> ticked_;  // lanes whose pin rose under this lock
  bool everything_matches_ = false;
  bool arena_low_ = false;
  bool arena_full_ = false;
  std::unique_ptr<events::group_events> events_;
};

}  // namespace bus::consume
