#pragma once
/// keeper: the streams with logs: opens them at the start, makes the rings that are missing, adds,
/// changes and removes them. The writing itself is the engine's.
///
/// Threads    any; one request at a time

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <bus/log_files.hpp>
#include <bus/session.hpp>

#include "storage/engine.hpp"
#include "streams/catalog.hpp"

namespace bus::streams {

class keeper {
 public:
  keeper(std::shared_ptr<session_core> session, storage::engine& engine, std::string directory);

  /// Opens all that there is. A stream that cannot be opened is a problem, not a failure.
  /// Errors: no_space, permission: the directory itself
  result<void> start();

  /// Errors: as session::add_stream and its neighbours
  result<void> add_stream(const stream_config& config);
  result<void> edit_stream(const stream_config& config);
  result<void> remove_stream(const std::string& name);
  result<void> purge_stream(const std::string& name, std::uint64_t below);
  result<void> seal_stream(const std::string& name, bool sealed);
  result<backup_counts> restore_stream(const std::string& name, const std::string& from,
                                       bool damaged_too);
  result<void> add_lane(const std::string& name, std::uint32_t lane);
  keeper_info status();

 private:
  struct kept {
    definition made;
    std::shared_ptr<storage::subject_log> subjects;
  };

  result<std::unique_ptr<storage::lane_log>> open_log(const definition& made, std::uint32_t lane,
                                                      storage::recovery_report& report);
  void tell_recovery(const std::string& name, std::uint32_t lane, const storage::lane_log& log,
                     const storage::recovery_report& report);
  std::optional<log::known_subject> subject_of_ring(const std::string& name, bool is_there,
                                                    std::uint32_t id);
  result<void> restore(const definition& made);
  result<void> attach(kept& stream, std::uint32_t lane, std::unique_ptr<storage::lane_log> log,
                      storage::recovery_report report);
  storage::log_options options_for(const stream_config& config);
  void detach(const std::string& name);
  result<void> change(const definition& to);
  void note_problem(error what);

  std::shared_ptr<session_core> session_;
  storage::engine& engine_;
  catalog catalog_;
  const std::string directory_;
  std::mutex mutex_;
  std::map<std::string, kept> streams_;
  std::vector<std::string> problems_;
  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  std::chrono::nanoseconds recovery_{};
};

}  // namespace bus::streams
