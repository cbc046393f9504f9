#pragma once
/// keeper: what clients ask of the streams with logs: adds, changes and removes them, and tells how
/// they do. The work is done in the admin's thread, in order; opening and holding is the opener's,
/// the writing itself the engine's.
///
/// Threads    any
/// Blocks     all but status() until the order is done; what is a user's is read before, in the
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

  /// Opens all that there is. A stream that cannot be opened is held: it keeps its subjects, gives
  /// its publishers the reason, is read as far as it can be, and is tried again.
  /// Errors: no_space, permission: the directory itself; conflict: another directory has the logs
  /// of this bus; closed: stop() came before
  result<void> start();
  /// Orders that were not begun are answered: closed. Does not wait.
  void stop() { admin_.stop(); }

  /// Errors: as session::add_stream and its neighbours; closed: busd ends
  result<void> add_stream(const stream_config& config);
  result<void> edit_stream(const stream_config& config);
  result<void> remove_stream(const std::string& name);
  result<void> purge_stream(const std::string& name, std::uint64_t below);
  result<void> seal_stream(const std::string& name, bool sealed);
  result<backup_counts> restore_stream(const std::string& name, const std::string& from,
                                       bool damaged_too);
  result<void> add_lane(const std::string& name, std::uint32_t lane);
  /// At once, whatever is being done.
  keeper_info status();

 private:
  /// What status() tells, as it was after the last order.
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
  opener opener_;  // of the admin's thread
  std::mutex mutex_;
  known known_;
  admin admin_;  // the last: its thread uses all of the above
};

}  // namespace bus::streams
