#pragma once
/// writer_gate: what a publisher knows of a lane's readers: their pins, the slowest, which sleep.
///
/// A reader that is announced but not mapped here yet holds back everything until resolve() was
/// called outside the lane lock: mapping takes system calls, and none is made under the lock.
///
/// Threads    one, the publisher's

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "os/fd.hpp"
#include "registry/bus_directory.hpp"
#include "registry/group_pins.hpp"
#include "registry/interest.hpp"
#include "registry/process_table.hpp"
#include "registry/stream_files.hpp"
#include "sync/words.hpp"

namespace bus::registry {

class writer_gate {
 public:
  /// `stream_directory`: contains the groups, which hold publishers back, too.
  writer_gate(std::shared_ptr<lane_map> lane, process_table& peers, std::string stream_directory)
      : lane_(std::move(lane)),
        may_sleep_(&lane_->readers().may_sleep),
        peers_(peers),
        stream_directory_(std::move(stream_directory)) {}

  /// Lowest position that a gating reader needs, at most `tail`. Makes no system call.
  std::uint64_t lowest_pin(std::uint64_t tail) noexcept;

  /// True if there is a reader that was not checked yet. resolve() comes next: it maps the reader,
  /// forgets it, or marks it unseen.
  bool has_unresolved() const noexcept { return unresolved_; }
  /// True if a reader cannot be read (no descriptor, memory or permission, or a damaged file) and
  /// is not known to be dead. It may be anywhere, so it holds back everything, like one that lags.
  bool has_unseen() const noexcept { return unseen_; }
  /// True if the lane is new and an interested subscriber may not have come to it yet. That holds
  /// back everything: meet_newcomers() comes next.
  bool awaits_newcomers() const noexcept { return awaits_newcomers_; }
  /// Checks whether all have come, and records that in the lane. Makes system calls: not under the
  /// lane lock.
  bool meet_newcomers(const stream_handle& stream, const bus_directory& directory);

  /// Maps new readers, and tries unseen ones again. Makes system calls: not under the lane lock.
  void resolve();

  struct holder {
    const ring::pin_words* pin = nullptr;
    const peer* process = nullptr;
    const group_pins* group = nullptr;  // of a group instead of a process
    std::uint32_t process_id = 0;
    std::uint64_t position = 0;
    bool unseen = false;       // a process or a group that cannot be read
    bool is_newcomer = false;  // it subscribes and has not come to this lane
    std::uint64_t thread = 0;  // of a newcomer
  };
  /// What held the lowest position at the last check. No pin: nothing did, or it is not mapped.
  const holder& slowest() const noexcept { return slowest_; }
  /// Forgets readers of dead processes. True: there were some, check again.
  bool forget_dead();

  /// Of a lane with a log: records below may be overwritten.
  std::uint64_t logged_position(std::uint64_t tail) const noexcept;
  struct laggard {
    std::uint64_t position = 0;
    std::uint64_t next_seq = 0;
  };
  /// The gating reader or newcomer that lags most; empty: there is none.
  std::optional<laggard> slowest_reader(std::uint64_t tail) const noexcept;
  /// Lowest sequence that a reader of a spill lane still needs; 0: not known; ~0: none does.
  std::uint64_t lowest_wanted() const noexcept;

  /// After a commit: wakes readers that sleep. One relaxed load while no reader ever does.
  void wake_readers() noexcept {
    // [A1] relaxed: a reader that sets it late sleeps for a bounded time.
    if (may_have_sleepers()) [[unlikely]]
      wake_sleepers();
  }
  bool may_have_sleepers() const noexcept { return sync::load_relaxed(*may_sleep_) != 0; }

 private:
  struct known_reader {
    std::uint64_t entry = 0;  // as announced
    const ring::pin_words* pin = nullptr;
    const layout::slot* slot = nullptr;
    std::shared_ptr<const peer> process;
    std::shared_ptr<const group_pins> group;
    os::fd bell;
    std::uint64_t bell_owner = 0;
    bool unseen = false;
  };
  void wake_sleepers() noexcept;
  void wake_futexes(layout::readers_header& table) noexcept;
  void ring_bells() noexcept;
  std::uint32_t entries_in_use() const noexcept;

  std::shared_ptr<lane_map> lane_;
  const base::word* may_sleep_;
  void resolve_group(known_reader& reader, std::uint32_t index, group_finder& groups);

  process_table& peers_;
  const std::string stream_directory_;
  std::vector<known_reader> readers_;
  holder slowest_;
  bool unresolved_ = false;
  bool unseen_ = false;
  bool awaits_newcomers_ = false;
  newcomer newcomer_;  // the first one found
  std::uint32_t idle_exchanges_ = 0;
};

}  // namespace bus::registry
