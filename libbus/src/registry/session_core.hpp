#pragma once
/// session_core: the state that the objects of one session share: the bus, this process on it, its
/// peers, and the streams opened so far.
///
/// Threads    any

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <bus/session.hpp>

#include "registry/bus_directory.hpp"
#include "registry/own_process.hpp"
#include "registry/process_table.hpp"
#include "registry/stream_handle.hpp"
#include "registry/url.hpp"
#include "sync/fork_guard.hpp"
#include "sync/life.hpp"

namespace bus {

struct session_core final : std::enable_shared_from_this<session_core>, private sync::watcher {
  registry::bus_address address;
  std::unique_ptr<registry::bus_directory> directory;
  std::unique_ptr<registry::process_table> peers;
  std::unique_ptr<registry::own_process> me;  // null: a guest, which only reads and removes
  sync::fork_guard guard;
  /// Stops a group that has been without consumers for its idle_release from holding publishers
  /// back. True: it does so no more. Supplied by the opener of the session: publishers may not know
  /// consumers.
  bool (*release_idle_group)(session_core& session,
                             const std::shared_ptr<registry::stream_handle>& stream,
                             const std::string& group) = nullptr;

  static result<std::shared_ptr<session_core>> open(const session_options& options);
  ~session_core();

  /// All streams that exist now. Damaged ones are left out and described in `broken`. `seen`: the
  /// generation that the result is of; 0: something could not be read now.
  std::vector<std::shared_ptr<registry::stream_handle>> streams(
      std::vector<error>* broken = nullptr, std::uint64_t* seen = nullptr);
  /// The same, including streams whose creator died before it announced them.
  std::vector<std::shared_ptr<registry::stream_handle>> streams_now();
  /// The existing streams among these names.
  std::vector<std::shared_ptr<registry::stream_handle>> streams_named(
      std::span<const std::string> names, std::uint64_t* seen);
  /// Errors: not_found, corrupt, unsupported, permission
  result<std::shared_ptr<registry::stream_handle>> stream(const std::string& name);
  /// The stream that captures `subject`; the default stream is created if there is none.
  /// `looks_now`: checks all streams, not only those that changed.
  result<std::shared_ptr<registry::stream_handle>> stream_of_subject(std::string_view subject,
                                                                     std::uint64_t* seen = nullptr,
                                                                     bool looks_now = true);
  result<void> add_stream(const stream_config& config);
  result<void> remove_stream(std::string_view name);
  /// Errors: unavailable (no busd), timed_out, what busd returns
  result<nlohmann::json> ask_keeper(const nlohmann::json& request);
  /// The same, for a request whose reply carries no data.
  result<void> request_from_keeper(const nlohmann::json& request);

  std::uint32_t next_object_id() noexcept;
  error forked_error() const;
  /// The error of an operation that a guest cannot do, and why it is a guest.
  error guest_error() const;
  error sealed_error(const std::string& name) const;
  /// Removes ephemeral streams if no other process is alive.
  /// REQUIRES: the change lock.
  void remove_ephemeral_streams();
  /// Removes the entries of dead processes from the readers tables of all lanes: publishers that
  /// are never held back do not check these.
  void forget_readers(std::span<const std::uint32_t> gone);
  bool others_live();

 private:
  static result<std::shared_ptr<session_core>> open_as_guest(const registry::bus_address& address);
  void refresh(std::vector<error>* broken);
  bool refresh_one(const std::string& name, std::vector<error>* broken);
  std::shared_ptr<registry::stream_handle> known_stream_of(std::string_view subject,
                                                           std::uint64_t& seen);
  bool clear_up_after(std::vector<std::uint32_t> gone);
  /// Checks that the files mapped here are still the bus's. If not, objects that use them fail at
  /// their next call. Called by the thread bus-life.
  void look() noexcept override;

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<registry::stream_handle>> streams_;
  std::set<std::string> broken_;  // streams that cannot be read
  std::uint64_t generation_ = 0;  // of streams_; 0: not all could be read
  // All handles that may still be in use, also of removed streams.
  std::vector<std::weak_ptr<registry::stream_handle>> handles_;
  std::size_t next_handle_ = 0;  // of handles_: where the next check begins
  bool watched_ = false;
  bool is_guest_ = false;
  bool used_reserve_ = false;
  std::optional<error> no_room_;  // why it is a guest, unless that was requested
};

}  // namespace bus
