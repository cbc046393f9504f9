#pragma once
/// process_table: the other processes of a bus, mapped read-only on first use. It decides which are
/// alive and which are proven dead. A process whose file cannot be opened, or makes no sense,
/// counts as alive until its death is proven without the file.
///
/// Threads    any; a peer stays mapped while a pointer to it is held

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <bus/error.hpp>

#include "layout/process.hpp"
#include "os/files.hpp"
#include "os/mapping.hpp"
#include "os/process.hpp"
#include "ring/pin.hpp"
#include "sync/peers.hpp"

namespace bus::registry {

class peer {
 public:
  /// Errors: not_found, corrupt, unsupported, permission
  static result<std::shared_ptr<const peer>> open(const std::string& path);

  /// A copy made on opening: the shared memory may be overwritten later.
  const layout::process_identity& identity() const noexcept { return identity_; }
  const layout::life_cell& life() const noexcept;
  /// Null: there is no such slot, or it was added later.
  const layout::slot* slot(std::uint32_t index) const noexcept;
  /// The number of slots in its file now, which may be more than are mapped here.
  std::uint32_t slots_now() const noexcept;
  /// True if the process claims to publish to the lane exclusively. It does so before it takes the
  /// lease and as long as it has it.
  bool claims_lane(std::uint64_t stream_id, std::uint32_t lane) const noexcept;

 private:
  os::mapping map_;
  layout::process_identity identity_{};
};

class process_table final : public sync::peers {
 public:
  process_table(std::string directory, os::identity self, std::uint32_t self_id)
      : directory_(std::move(directory)),
        self_(std::move(self)),
        self_id_(self_id),
        listing_(os::open_directory(directory_)) {}

  /// Null: it does not exist (any more), or cannot be read now (no descriptor, no memory).
  std::shared_ptr<const peer> find(std::uint32_t id);
  /// A process that cannot be read counts as alive; only one whose file was removed has left.
  sync::life_state state(std::uint32_t id);

  const layout::life_cell* life_of(std::uint32_t id) noexcept override;
  bool proven_dead(std::uint32_t id) noexcept override;
  bool uses_key(std::uint32_t id, std::uint32_t key) noexcept override;
  std::string describe(std::uint32_t id) override;
  /// Why find() returns null, in words; empty: it does not.
  std::string why_unseen(std::uint32_t id);
  /// What an operator can do about such a process.
  std::string how_to_end(std::uint32_t id) const;

  /// Ids of dead processes whose files still exist: the rest of what they left is to be removed
  /// first.
  std::vector<std::uint32_t> gone();
  /// Removes the files of those, and doorbells and marks of processes that have left. Called last:
  /// if the caller dies before, the next process still finds the dead ones.
  void reap_process(std::span<const std::uint32_t> gone);
  std::vector<std::uint32_t> ids() const;
  const std::string& directory() const noexcept { return directory_; }
  const os::identity& self() const noexcept { return self_; }

 private:
  /// What a process stores in a link beside its file. It can be read without a descriptor, when the
  /// file cannot be opened or makes no sense.
  struct said {
    std::int64_t pid = 0;
    std::int64_t life_thread = 0;
  };
  /// Empty: there is none, or it is of another pid namespace.
  std::optional<said> who_of(std::uint32_t id) const noexcept;
  bool has_left(std::uint32_t id) const noexcept;
  void retire(std::map<std::uint32_t, std::shared_ptr<const peer>>::iterator entry);
  std::string path_of(std::uint32_t id) const { return directory_ + "/" + std::to_string(id); }
  std::string mark_of(std::uint32_t id) const { return path_of(id) + ".held"; }
  std::string who_path_of(std::uint32_t id) const { return path_of(id) + ".who"; }

  const std::string directory_;
  const os::identity self_;
  const std::uint32_t self_id_;
  const os::fd listing_;  // the directory, for when no descriptors are left
  mutable std::mutex listing_mutex_;
  std::mutex mutex_;
  std::map<std::uint32_t, std::shared_ptr<const peer>> known_;
  // Still mapped: a waiter may be using its life word.
  std::deque<std::shared_ptr<const peer>> retired_;
};

}  // namespace bus::registry
