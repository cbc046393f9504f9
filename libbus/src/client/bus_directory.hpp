#pragma once
/// bus_directory: one bus on disk (on tmpfs): made on first use, its streams listed, made, removed.
/// Nothing here is on the path of a message. The truth is the directory itself: a stream exists
/// when `streams/NAME` does; `control.generation` rises at every change.
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

#include "client/change_journal.hpp"
#include "client/stream_claims.hpp"
#include "client/stream_files.hpp"
#include "client/url.hpp"
#include "layout/bus_files.hpp"
#include "os/clock.hpp"
#include "os/files.hpp"
#include "os/mapping.hpp"

namespace bus::client {

class process_table;

/// The bus is a directory of this user's, with directories of this user's in it, where nobody else
/// can put another in its place.
/// Errors: permission
result<void> check_parents(const bus_address& address);

error no_bus(const bus_address& address);

class bus_directory {
 public:
  static constexpr std::chrono::seconds lock_patience{5};

  /// Errors: not_found (create = false), permission (owner, modes), no_space, busy, corrupt,
  /// unsupported
  static result<std::unique_ptr<bus_directory>> open(const bus_address& address, bool create);

  /// Only what is there and whole: nothing is made, nothing is locked.
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
  /// The generation that tells of it. What is not about one stream may be about any.
  std::uint64_t announce_change(layout::change_kind kind = layout::change_kind::any,
                                std::string_view stream = {}) noexcept;
  /// What it was about that happened after `seen`, up to and with `now`.
  stream_changes changes_between(std::uint64_t seen, std::uint64_t now) const {
    return journal_.between(seen, now);
  }
  /// Is somebody making a change that is not announced yet, or did somebody die at it? As far as
  /// can be known.
  bool may_be_changing() const noexcept;
  /// Announces what somebody who died had changed, and did not live to tell. False: nobody did.
  /// REQUIRES: lock_changes() is held.
  bool announce_for_the_dead() noexcept;
  /// The bus lies at `aside` now, out of the way: tells those who have it mapped.
  void announce_removal(const std::string& aside) noexcept;
  /// Is this bus gone from its path, or are we gone from it?
  /// Cost: a load or two, until then.
  bool removed() const noexcept;
  error removed_error() const;
  /// Is `control` still the file that is mapped here? If not, everybody who has it mapped is told
  /// to look, and removed() is true from now on.
  /// Cost: a system call.
  bool look_for_control() noexcept;
  /// The file of this process was deleted: the others take it for one that left.
  void note_own_file_lost() noexcept;

  /// Who acts on lanes that are closed. Before it, nobody's publishing is waited for.
  void act_as(std::uint32_t process, std::uint64_t lock_word, process_table& peers) noexcept {
    self_ = process;
    lock_word_ = lock_word;
    peers_ = &peers;
  }
  /// Errors: busy (after `patience`), closed, permission
  result<os::file_lock> lock_changes(std::chrono::milliseconds patience = lock_patience) const;
  std::vector<std::string> stream_names() const;
  /// The stream file of `name`, read again only when another one has its name.
  /// Cost: one system call when it was known.
  /// Errors: as read_stream_file
  result<std::shared_ptr<const stream_facts>> facts_of(const std::string& name);
  /// The same, when it matters that a failure to look is not an empty answer.
  result<std::vector<std::string>> list_streams() const;

  /// Errors: invalid_argument, conflict, no_space.
  /// REQUIRES for both: lock_changes() is held.
  result<void> add_stream(const stream_config& config, const create_params& with);
  /// May it be added beside those that are there?
  /// Errors: invalid_argument, conflict
  result<void> check_new_stream(const stream_config& config);
  create_params new_create_params() const;
  /// Those who are interested in a lane of it and have not come to it are waited for, so long at
  /// most: they find it among the leaving. Then its messages are gone.
  static constexpr std::chrono::milliseconds newcomers_patience{2000};
  result<void> remove_stream(std::string_view name,
                             std::chrono::milliseconds patience = newcomers_patience);
  /// Directories of streams that are removed just now, and whose files are there still.
  result<std::vector<std::string>> leaving_streams() const;
  /// Is the stream out of the way already, to be removed? Its remover may not have closed its lanes
  /// yet.
  bool is_being_removed(std::uint64_t stream_id) const;
  /// `first_seq`: above every sequence that the lane ever gave out.
  result<void> add_lane(const stream_facts& facts, std::uint32_t lane, std::uint64_t first_seq = 1);
  /// Tells everybody of a lane, unless that was done: its creator may have died before it did.
  /// Before the first message is published to it. Needs no lock: somebody may be stopped with it,
  /// and what is told twice does no harm.
  /// Errors: no_space
  result<void> announce_lane(const stream_facts& facts, lane_map& lane);
  /// Limits that changed, or a seal.
  /// Errors: not_found, no_space
  result<void> change_stream(const stream_facts& to);
  /// Memory that is kept for whoever puts things right when there is none left: the file `reserve`.
  /// Filled as far as there is memory; whoever may use it empties it and is quick.
  void fill_reserve() const noexcept;
  bool empty_reserve() const noexcept;
  /// What a creator that died left behind.
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
  stream_claims claims_;                 // which never change as long as a stream lives
  std::uint64_t claims_generation_ = 0;  // that they are of; 0: not all could be read
  std::mutex known_mutex_;
  std::map<std::string, std::shared_ptr<const stream_facts>> known_;
};

}  // namespace bus::client
