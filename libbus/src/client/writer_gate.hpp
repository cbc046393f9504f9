#pragma once
/// writer_gate: what a publisher knows of a lane's readers: their pins, who is slowest, who sleeps.
///
/// A reader that is announced but not yet mapped here holds everything back until resolve() was
/// called outside the lane lock: mapping is a system call, and nothing does those under the lock.
///
/// Threads    one, the publisher's

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "client/bus_directory.hpp"
#include "client/group_files.hpp"
#include "client/interest.hpp"
#include "client/process_table.hpp"
#include "client/stream_files.hpp"
#include "os/fd.hpp"
#include "sync/words.hpp"

namespace bus::client {

class writer_gate {
 public:
  /// `stream_directory`: where the groups are that hold publishers back.
  writer_gate(std::shared_ptr<lane_map> lane, process_table& peers, std::string stream_directory)
      : lane_(std::move(lane)),
        may_sleep_(&lane_->readers().may_sleep),
        peers_(peers),
        stream_directory_(std::move(stream_directory)) {}

  /// Lowest position that a gating reader needs, at most `tail`. No system call.
  std::uint64_t lowest_pin(std::uint64_t tail) noexcept;

  /// A reader that was not looked at yet: resolve() comes next, and settles it one way or the
  /// other.
  bool has_unresolved() const noexcept { return unresolved_; }
  /// A reader that cannot be looked at (no descriptor, no memory, no right, a damaged file) and is
  /// not known to be dead: it may be anywhere, so it holds everything back, like one that lags.
  bool has_unseen() const noexcept { return unseen_; }
  /// The lane is new, and somebody who is interested may not have come to it yet. It holds
  /// everything back: meet_newcomers() comes next.
  bool awaits_newcomers() const noexcept { return awaits_newcomers_; }
  /// Looks whether all have come, and remembers it in the lane. System calls: not under the lane
  /// lock.
  bool meet_newcomers(const stream_handle& stream, const bus_directory& directory);

  /// Maps readers that are new, and tries again those that could not be looked at. System calls:
  /// not under the lane lock.
  void resolve();

  struct holder {
    const ring::pin_words* pin = nullptr;
    const peer* process = nullptr;
    const group_pins* group = nullptr;  // of a group instead of a process
    std::uint32_t process_id = 0;
    std::uint64_t position = 0;
    bool unseen = false;       // a process or a group that cannot be looked at
    bool is_newcomer = false;  // it subscribes, and has not come to this lane
    std::uint64_t thread = 0;  // of a newcomer
  };
  /// Who held the lowest position at the last look; no pin when nobody did.
  const holder& slowest() const noexcept { return slowest_; }
  /// Forgets readers of dead processes. True: somebody was forgotten, look again.
  bool forget_dead();

  /// Of a lane with a log: what lies below may be overwritten.
  std::uint64_t logged_position(std::uint64_t tail) const noexcept;
  struct laggard {
    std::uint64_t position = 0;
    std::uint64_t next_seq = 0;
  };
  /// Who of those that hold publishers back is farthest behind; nobody: empty.
  std::optional<laggard> slowest_reader(std::uint64_t tail) const noexcept;
  /// Lowest sequence that a reader of a spilling lane still wants; ~0: nobody wants any.
  std::uint64_t lowest_wanted() const noexcept;

  /// After a commit: wakes those who sleep. One relaxed load while nobody ever does.
  void wake_readers() noexcept {
    // [A1] relaxed: a reader that says it late sleeps for a bounded time.
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
  void resolve_group(known_reader& reader, std::uint32_t index);

  process_table& peers_;
  const std::string stream_directory_;
  std::vector<known_reader> readers_;
  holder slowest_;
  bool unresolved_ = false;
  bool unseen_ = false;
  bool awaits_newcomers_ = false;
  newcomer newcomer_;  // the first that was found
  std::uint32_t idle_exchanges_ = 0;
};

}  // namespace bus::client
