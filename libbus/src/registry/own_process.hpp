#pragma once
/// own_process: this process's file on a bus: identity, life word and slots.
///
/// Threads    claim_slot and give_back: any; a slot belongs to its object's thread

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <bus/error.hpp>

#include "layout/process.hpp"
#include "os/fd.hpp"
#include "os/files.hpp"
#include "os/mapping.hpp"
#include "os/process.hpp"
#include "ring/pin.hpp"
#include "sync/fork_guard.hpp"
#include "sync/owner_lock.hpp"

namespace bus::registry {

class own_process {
 public:
  /// Errors: no_space, permission, system
  static result<std::unique_ptr<own_process>> join(const std::string& processes_directory,
                                                   std::uint32_t id, std::uint64_t bus_id,
                                                   std::string_view name, std::uint32_t most_slots);
  ~own_process();

  /// The bus was removed with all files of this process: no file at our path is touched any more.
  void abandon() noexcept;
  /// True if our file still has its name. Without it, other processes take us for one that has
  /// left.
  bool is_there() const noexcept { return os::still_names(path_, file_); }

  std::uint32_t id() const noexcept { return id_; }
  /// The word that this process writes into a lock.
  std::uint64_t lock_word() const noexcept { return lock_word_; }
  const os::identity& who() const noexcept { return who_; }
  const std::string& path() const noexcept { return path_; }

  /// Errors: no_space (all slots used)
  result<std::uint32_t> claim_slot(layout::slot_kind kind, std::uint64_t object_id,
                                   std::uint64_t stream_id, std::uint32_t lane,
                                   std::string_view label, std::string_view stream,
                                   std::uint64_t flags);
  void give_back(std::uint32_t slot) noexcept;
  layout::slot& slot(std::uint32_t index) const noexcept;
  ring::pin_words& pin(std::uint32_t index) const noexcept;
  std::string bell_path(std::uint32_t slot) const;

 private:
  own_process() = default;

  std::uint64_t lock_word_ = 0;
  std::uint32_t id_ = 0;
  os::identity who_;
  std::string path_;
  os::file_id file_;
  bool named_ = false;  // the files at path_ are ours
  // a locked file that is never opened a second time here: proof of life across pid namespaces
  os::fd mark_;
  sync::fork_guard guard_;
  os::mapping map_;
  std::mutex mutex_;
  result<void> grow();

  std::uint32_t first_slots_ = 0;
  std::uint32_t most_slots_ = 0;  // for publishers and subscriptions
  std::uint32_t counted_ = 0;     // publishers and subscriptions in use
  std::vector<os::mapping> pieces_;
  std::vector<bool> used_;
};

}  // namespace bus::registry
