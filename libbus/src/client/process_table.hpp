#pragma once
/// process_table: the other processes of a bus, mapped read-only on first use; answers who lives
/// and who is proven gone. A process whose file cannot be opened, or makes no sense, counts as
/// alive until its death is proven without it.
///
/// Threads    any; a peer stays mapped as long as somebody holds its pointer

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

namespace bus::client {

class peer {
 public:
  /// Errors: not_found, corrupt, unsupported, permission
  static result<std::shared_ptr<const peer>> open(const std::string& path);

  /// Read once when it was opened: what is in memory may be scribbled over later.
  const layout::process_identity& identity() const noexcept { return identity_; }
  const layout::life_cell& life() const noexcept;
  /// Null: no such slot, or it came since.
  const layout::slot* slot(std::uint32_t index) const noexcept;
  /// As its file says now: it may have more than are mapped here.
  std::uint32_t slots_now() const noexcept;
  /// Does it say that it publishes there exclusively? It says so before it takes the lease, and as
  /// long as it has it.
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

  /// Null: not there (any more), or it cannot be looked at just now (no descriptor, no memory).
  std::shared_ptr<const peer> find(std::uint32_t id);
  /// A process that cannot be looked at counts as alive; only one whose file is gone has left.
  sync::life_state state(std::uint32_t id);

  const layout::life_cell* life_of(std::uint32_t id) noexcept override;
  bool proven_dead(std::uint32_t id) noexcept override;
  bool uses_key(std::uint32_t id, std::uint32_t key) noexcept override;
  std::string describe(std::uint32_t id) override;
  /// Why find() is null, in words; empty: it is not.
  std::string why_unseen(std::uint32_t id);
  /// What a person does about such a process.
  std::string how_to_end(std::uint32_t id) const;

  /// Ids of the dead whose files are there still: what they left in the bus is still to be cleared.
  std::vector<std::uint32_t> gone();
  /// Removes the files of those, and doorbells and marks of processes that have left. Last of all:
  /// whoever dies before it leaves the dead to be found by the next one.
  void reap_process(std::span<const std::uint32_t> gone);
  std::vector<std::uint32_t> ids() const;
  const std::string& directory() const noexcept { return directory_; }
  const os::identity& self() const noexcept { return self_; }

 private:
  /// What a process says of itself in a link beside its file: it is read without a descriptor, when
  /// the file cannot be opened or makes no sense.
  struct said {
    std::int64_t pid = 0;
    std::int64_t life_thread = 0;
  };
  /// Empty: it says nothing, or is of another pid namespace.
  std::optional<said> who_of(std::uint32_t id) const noexcept;
  bool has_left(std::uint32_t id) const noexcept;
  void retire(std::map<std::uint32_t, std::shared_ptr<const peer>>::iterator entry);
  std::string path_of(std::uint32_t id) const { return directory_ + "/" + std::to_string(id); }
  std::string mark_of(std::uint32_t id) const { return path_of(id) + ".held"; }
  std::string who_path_of(std::uint32_t id) const { return path_of(id) + ".who"; }

  const std::string directory_;
  const os::identity self_;
  const std::uint32_t self_id_;
  const os::fd listing_;  // the directory, for when there are no descriptors left
  mutable std::mutex listing_mutex_;
  std::mutex mutex_;
  std::map<std::uint32_t, std::shared_ptr<const peer>> known_;
  // still mapped: a waiter may be looking at its life word
  std::deque<std::shared_ptr<const peer>> retired_;
};

}  // namespace bus::client
