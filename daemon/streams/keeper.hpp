#pragma once
/// keeper: the streams with logs: opens them at the start, makes the rings that are missing, adds,
/// changes and removes them. The writing itself is the engine's.
///
/// Threads    any; one request at a time

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
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

  /// Opens all that there is. A stream that cannot be opened is held: it keeps its subjects, gives its
  /// publishers the reason, is read as far as it can be, and is tried again.
  /// Errors: no_space, permission: the directory itself; conflict: another directory has the logs of
  /// this bus
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
  /// Tries again to open what could not be. Now and then.
  void tick();

 private:
  struct kept {
    std::uint64_t begun_epoch = 0;  // while it cannot be opened: the epoch that some of its logs begun
    definition made;
    std::shared_ptr<storage::subject_log> subjects;
    std::optional<error> held;  // why its log is not kept just now
    std::chrono::steady_clock::time_point retry_at{};
    std::chrono::seconds wait{};
  };

  result<std::unique_ptr<storage::lane_log>> open_log(const definition& made, std::uint32_t lane,
                                                      storage::recovery_report& report);
  void tell_recovery(const std::string& name, std::uint32_t lane, const storage::lane_log& log,
                     const storage::recovery_report& report);
  std::optional<log::known_subject> subject_of_ring(const std::string& name, bool is_there,
                                                    std::uint32_t id);
  result<void> restore(const definition& made);
  bool open_or_hold(const definition& made);
  result<void> hold(const definition& made, const error& why);
  void add_rings(const definition& made, const std::vector<std::uint64_t>& first_seqs);
  result<void> intern(const definition& made, const std::vector<log::known_subject>& subjects);
  std::vector<std::pair<client::stream_facts, std::string>> streams_with_logs();
  result<void> check_directory(const std::vector<definition>& ours);
  void hold_those_of_others();
  result<void> check_resources(const std::string& name, std::uint32_t lanes);
  result<void> remove_ring(const std::string& name);
  void take_back(const std::string& name, std::uint64_t stream_id);
  void keep_spare_files();
  result<std::unique_ptr<storage::lane_logger>> prepare(kept& stream, std::uint32_t lane,
                                                        std::unique_ptr<storage::lane_log> log,
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
  std::vector<os::fd> spare_files_;  // descriptors for taking back what failed for lack of them
  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  std::chrono::nanoseconds recovery_{};
};

}  // namespace bus::streams
