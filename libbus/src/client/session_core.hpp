#pragma once
/// session_core: what the objects of one session share: the bus, this process on it, its peers, and
/// the streams opened so far.
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

#include "client/bus_directory.hpp"
#include "client/own_process.hpp"
#include "client/process_table.hpp"
#include "client/stream_handle.hpp"
#include "client/url.hpp"
#include "sync/fork_guard.hpp"
#include "sync/life.hpp"

namespace bus {

struct session_core final : std::enable_shared_from_this<session_core>, private sync::watcher {
  client::bus_address address;
  std::unique_ptr<client::bus_directory> directory;
  std::unique_ptr<client::process_table> peers;
  std::unique_ptr<client::own_process> me;  // null: a guest, which only looks and removes
  sync::fork_guard guard;

  static result<std::shared_ptr<session_core>> open(const session_options& options);
  ~session_core();

  /// All streams that exist now. Broken ones are left out and described in `broken`. `seen`: the
  /// generation that they are of; 0: something could not be looked at just now.
  std::vector<std::shared_ptr<client::stream_handle>> streams(std::vector<error>* broken = nullptr,
                                                              std::uint64_t* seen = nullptr);
  /// The same, with those whose creator died before it told of them.
  std::vector<std::shared_ptr<client::stream_handle>> streams_now();
  /// Those of them that have these names.
  std::vector<std::shared_ptr<client::stream_handle>> streams_named(
      std::span<const std::string> names, std::uint64_t* seen);
  /// Errors: not_found, corrupt, unsupported, permission
  result<std::shared_ptr<client::stream_handle>> stream(const std::string& name);
  /// The stream that captures `subject`; the default stream is made when there is none.
  /// `looks_now`: at all streams, not only at those that changed.
  result<std::shared_ptr<client::stream_handle>> stream_of_subject(std::string_view subject,
                                                                   std::uint64_t* seen = nullptr,
                                                                   bool looks_now = true);
  result<void> add_stream(const stream_config& config);
  result<void> remove_stream(std::string_view name);
  /// Errors: unavailable (no busd), timed_out, what busd answers
  result<nlohmann::json> ask_keeper(const nlohmann::json& request);
  /// The same, when nothing but yes is answered.
  result<void> request_from_keeper(const nlohmann::json& request);

  std::uint32_t next_object_id() noexcept;
  error forked_error() const;
  /// Of a guest: what it cannot do, and why it is one.
  error guest_error() const;
  error sealed_error(const std::string& name) const;
  /// Removes ephemeral streams when no other process lives.
  /// REQUIRES: the change lock.
  void remove_ephemeral_streams();
  /// Entries of processes that are gone, in the readers tables of all lanes. Publishers that are
  /// never held back do not look there.
  void forget_readers(std::span<const std::uint32_t> gone);
  bool others_live();

 private:
  static result<std::shared_ptr<session_core>> open_as_guest(const client::bus_address& address);
  void refresh(std::vector<error>* broken);
  bool refresh_one(const std::string& name, std::vector<error>* broken);
  std::shared_ptr<client::stream_handle> known_stream_of(std::string_view subject,
                                                         std::uint64_t& seen);
  bool clear_up_after(std::vector<std::uint32_t> gone);
  /// Are the files that are mapped here still the bus's? When not, whoever uses them is told at its
  /// next call. From the thread bus-life.
  void look() noexcept override;

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<client::stream_handle>> streams_;
  std::set<std::string> broken_;  // streams that cannot be read
  std::uint64_t generation_ = 0;  // that they are of; 0: not all could be looked at
  // All that somebody may still use, also of streams that are gone.
  std::vector<std::weak_ptr<client::stream_handle>> handles_;
  std::size_t next_handle_ = 0;  // of handles_: where the next look begins
  bool watched_ = false;
  bool is_guest_ = false;
  bool used_reserve_ = false;
  std::optional<error> no_room_;  // why it is one, unless it was asked for
};

}  // namespace bus
