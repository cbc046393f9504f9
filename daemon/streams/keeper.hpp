#pragma once
/// keeper: carries out what clients request for streams with logs: adds, changes and removes them,
/// and reports their status. The work is done in the admin's thread, in order. The opener opens and
/// holds streams; the engine writes.
///
/// Threads    any
/// Blocks     all but status() until the order is done; a user's files are read before that, in the
///            caller's thread

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <bus/log_files.hpp>
#include <bus/session.hpp>

#include "storage/engine.hpp"
#include "streams/admin.hpp"
#include "streams/opener.hpp"

namespace bus::streams {

class keeper {
 public:
  keeper(std::shared_ptr<session_core> session, storage::engine& engine, std::string directory);

  /// Opens all streams. A stream that cannot be opened is held: it keeps its subjects, its
  /// publishers get the reason, what can be read is read, and busd tries again.
  /// Errors: no_space, permission: of the directory itself; conflict: another directory has the
  /// logs of this bus; closed: stop() was called first
  result<void> start();
  /// Orders that have not begun fail with closed. Does not wait.
  void stop() { admin_.stop(); }

  /// Errors: as session::add_stream and the like; closed: busd is ending
  result<void> add_stream(const stream_config& config);
  result<void> edit_stream(const stream_config& config);
  result<void> remove_stream(const std::string& name);
  result<void> purge_stream(const std::string& name, std::uint64_t below);
  result<void> seal_stream(const std::string& name, bool sealed);
  result<backup_counts> restore_stream(const std::string& name, const std::string& from,
                                       bool damaged_too);
  result<void> add_lane(const std::string& name, std::uint32_t lane);
  /// Returns at once, even while an order is in progress.
  keeper_info status();

 private:
  /// What status() reports, as of the last order.
  struct known {
    std::chrono::nanoseconds recovery{};
    std::vector<std::string> problems;
    std::vector<std::shared_ptr<const storage::lane_facts>> logs;
  };

  result<void> order(const std::function<result<void>()>& what);
  void note_known();
  admin::clock::time_point between();

  result<void> add(const stream_config& config);
  result<void> edit(const stream_config& config);
  result<void> remove(const std::string& name, std::string& aside);
  result<void> purge(const std::string& name, std::uint64_t below);
  result<void> seal(const std::string& name, bool sealed);
  result<void> open_restored(const std::string& building, const definition& made);
  result<void> add_one_lane(const std::string& name, std::uint32_t lane);
  result<void> remove_ring(const std::string& name);
  result<void> check_free(const stream_config& config);

  std::shared_ptr<session_core> session_;
  storage::engine& engine_;
  const std::string directory_;
  const std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  std::chrono::nanoseconds recovery_{};
  opener opener_;  // used by the admin's thread
  std::mutex mutex_;
  known known_;
  admin admin_;  // last: its thread uses all of the above
};

}  // namespace bus::streams
