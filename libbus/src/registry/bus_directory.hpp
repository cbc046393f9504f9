#pragma once
/// bus_directory: the directory of one bus (on tmpfs): makes it on first use, and lists, adds and
/// removes its streams. Not on the path of a message. The directory itself is authoritative: a
/// stream exists when `streams/NAME` does; `control.generation` rises with every change.
///
/// Threads    any
/// Processes  changes are made under `lock`, a file lock that ends with its holder

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <bus/stream_config.hpp>

#include "layout/bus_files.hpp"
#include "os/clock.hpp"
#include "os/files.hpp"
#include "os/mapping.hpp"
#include "registry/change_journal.hpp"
#include "registry/stream_claims.hpp"
#include "registry/stream_files.hpp"
#include "registry/url.hpp"

namespace bus::registry {

class process_table;

/// Checks that the bus and its subdirectories are directories of this user, at a path where no
/// other user can replace them.
/// Errors: permission
result<void> check_parents(const bus_address& address);

error no_bus(const bus_address& address);

class bus_directory {
 public:
  static constexpr std::chrono::seconds lock_patience{5};

  /// Errors: not_found (create = false), permission (owner, modes), no_space, busy, corrupt,
  /// unsupported
  static result<std::unique_ptr<bus_directory>> open(const bus_address& address, bool create);

  /// Opens the bus only if it is complete; makes and locks nothing.
  /// Errors: as open
  static result<std::unique_ptr<bus_directory>> look(const bus_address& address);

  const std::string& path() const noexcept { return path_; }
  std::string processes() const { return path_ + "/processes"; }
  std::string stream_path(std::string_view name) const {
    return path_ + "/streams/" + std::string(name);
  }
  layout::control_header& control() const noexcept {
    return *reinterpret_cast<layout::control_header*>(control_map_.data());
  }
  std::uint64_t bus_id() const noexcept { return bus_id_; }
  const os::tick_clock& clock() const noexcept { return clock_; }
  std::uint64_t generation() const noexcept;
  /// Returns the new generation. A change that does not concern one stream may affect any.
  std::uint64_t announce_change(layout::change_kind kind = layout::change_kind::any,
                                std::string_view stream = {}) noexcept;
  /// The changes after `seen`, up to and including `now`.
  stream_changes changes_between(std::uint64_t seen, std::uint64_t now) const {
    return journal_.between(seen, now);
  }
  /// True if a change may be under way and not announced yet, or its process may have died.
  bool may_be_changing() const noexcept;
  /// Announces a change whose process died before it announced it. False: there is none.
  /// REQUIRES: lock_changes() is held.
  bool announce_for_the_dead() noexcept;
  /// The bus has been moved to `aside`: notifies the processes that have it mapped.
  void announce_removal(const std::string& aside) noexcept;
  /// True if this bus was removed from its path, or this process from the bus.
  /// Cost: a load or two, until then.
  bool removed() const noexcept;
  error removed_error() const;
  /// Checks that the path of `control` still leads to the mapped file. If not, it makes every
  /// process that has the file mapped check too, and removed() is true from now on.
  /// Cost: a system call.
  bool look_for_control() noexcept;
  /// The file of this process was deleted: other processes take it for one that has left.
  void note_own_file_lost() noexcept;

  /// The process that closes lanes acts as this one. Until it is set, publishing is not waited for.
  void act_as(std::uint32_t process, std::uint64_t lock_word, process_table& peers) noexcept {
    self_ = process;
    lock_word_ = lock_word;
    peers_ = &peers;
  }
  /// Errors: busy (after `patience`), closed, permission
  result<os::file_lock> lock_changes(std::chrono::milliseconds patience = lock_patience) const;
  std::vector<std::string> stream_names() const;
  /// The facts of the stream `name`; its file is read again only after it was replaced.
  /// Cost: one system call when they were known.
  /// Errors: as read_stream_file
  result<std::shared_ptr<const stream_facts>> facts_of(const std::string& name);
  /// As stream_names(), but a failure to list is not an empty answer.
  result<std::vector<std::string>> list_streams() const;

  /// Errors: invalid_argument, conflict, no_space.
  /// REQUIRES for both: lock_changes() is held.
  result<void> add_stream(const stream_config& config, const create_params& with);
  /// Checks that the stream may be added beside the existing ones.
  /// Errors: invalid_argument, conflict
  result<void> check_new_stream(const stream_config& config);
  create_params new_create_params() const;
  /// How long removal waits for interested subscribers that have not come to a lane yet. They find
  /// it among leaving_streams(). Afterwards its messages are lost.
  static constexpr std::chrono::milliseconds newcomers_patience{2000};
  result<void> remove_stream(std::string_view name,
                             std::chrono::milliseconds patience = newcomers_patience);
  /// Directories of streams that are being removed and whose files still exist.
  result<std::vector<std::string>> leaving_streams() const;
  /// True if the stream was already moved aside to be removed. Its lanes may not be closed yet.
  bool is_being_removed(std::uint64_t stream_id) const;
  /// `first_seq`: above every sequence that the lane ever used.
  result<void> add_lane(const stream_facts& facts, std::uint32_t lane, std::uint64_t first_seq = 1);
  /// Announces a lane unless that was done: its creator may have died first. Called before the
  /// first message is published to it. Needs no lock, because its holder may be stopped, and
  /// announcing twice is harmless.
  /// Errors: no_space
  result<void> announce_lane(const stream_facts& facts, lane_map& lane);
  /// Replaces the stream file: changed limits, or a seal.
  /// Errors: not_found, no_space
  result<void> change_stream(const stream_facts& to);
  /// The file `reserve` keeps memory for repairs when no other is left. It is filled as far as
  /// memory permits. A process that may use it empties it and uses the memory at once.
  void fill_reserve() const noexcept;
  bool empty_reserve() const noexcept;
  /// Removes what a creator that died left.
  void sweep();

 private:
  result<void> load_control();
  static void note_announced(lane_map& lane, std::uint64_t generation) noexcept;
  void let_newcomers_in(const std::string& directory, std::chrono::milliseconds patience) noexcept;
  void close_lanes(const std::string& directory);
  create_params create_params_of(std::uint64_t stream_id) const noexcept;

  std::uint32_t self_ = 0;
  std::uint64_t lock_word_ = 0;
  process_table* peers_ = nullptr;
  enum class loss : std::uint8_t { none, removed, deleted, own_file };
  bool has_control() const noexcept { return os::still_names(control_path_, control_id_); }

  std::string path_, control_path_;
  os::file_id control_id_;
  std::atomic<loss> loss_{loss::none};
  os::mapping control_map_;
  change_journal journal_;
  std::uint64_t bus_id_ = 0;
  os::tick_clock clock_;
  class unfinished_change;
  bool note_claim(const std::string& name, std::uint64_t inode);
  result<void> refresh_claims();
  std::mutex claims_mutex_;
  stream_claims claims_;                 // they never change while a stream exists
  std::uint64_t claims_generation_ = 0;  // of claims_; 0: not all could be read
  std::mutex known_mutex_;
  std::map<std::string, std::shared_ptr<const stream_facts>> known_;
};

}  // namespace bus::registry
