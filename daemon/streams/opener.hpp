#pragma once
/// opener: opens the logs of streams and hands their loggers to the engine. Holds streams that
/// cannot be opened, and tries them again. The keeper carries out what clients request.
///
/// Threads    one, the admin's; logs().read and the like from any

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <bus/session.hpp>

#include "log/subjects.hpp"
#include "registry/session_core.hpp"
#include "storage/engine.hpp"
#include "streams/catalog.hpp"

namespace bus::streams {

std::uint64_t least_high_water(const stream_config& config) noexcept;

class opener {
 public:
  using clock = std::chrono::steady_clock;

  struct kept_stream {
    // While it cannot be opened: the epoch that some of its logs have begun. 0: none.
    std::uint64_t begun_epoch = 0;
    definition made;
    /// Of its own, so that no other thread takes its lock.
    std::shared_ptr<registry::stream_handle> handle;
    std::shared_ptr<storage::subject_log> subjects;
    std::vector<std::shared_ptr<const storage::lane_facts>> logs;
    std::optional<error> held;  // why its log is not kept now
    clock::time_point retry_at{};
    std::chrono::seconds wait{};
  };

  opener(std::shared_ptr<session_core> session, storage::engine& engine, std::string directory);

  /// Opens all streams.
  /// Errors: as keeper::start
  result<void> start();
  /// Opens a stream of the catalog.
  /// Errors: the reason; the stream is not kept then.
  result<void> open(const definition& made);
  /// As open(). One that cannot be opened is held: it keeps its subjects, its publishers get the
  /// reason, and it is tried again. Other streams are not affected. False: it is held.
  bool open_or_hold(const definition& made);
  /// Tries one held stream that is due. Returns when the next one is due.
  clock::time_point try_again();
  /// From now on another lane, which has a log and a ring, is written.
  /// Errors: as open
  result<void> open_lane(kept_stream& stream, std::uint32_t lane,
                         std::unique_ptr<storage::lane_log> log);

  /// Stops writing the stream until it is opened again.
  void let_go(const std::string& name);
  /// The same, for loggers that the engine has already returned.
  void let_go(storage::engine::loggers gone);
  /// Changes the definition on disk, then in shared memory. If busd dies in between, the next start
  /// completes the change; if a step fails, the disk gets the old definition again.
  result<void> change(const definition& to);
  /// Removes a stream that was added but could not be opened. Uses the spare descriptors, so that
  /// it works when there are no others.
  void take_back(const std::string& name, std::uint64_t stream_id);
  /// Checks that there are enough descriptors and space for a new stream, before anything is made.
  result<void> check_resources(const std::string& name, std::uint32_t lanes);

  storage::log_options options_for(const stream_config& config);
  void note_problem(error what);
  const std::vector<std::string>& problems() const noexcept { return problems_; }
  std::map<std::string, kept_stream>& streams() noexcept { return streams_; }
  catalog& logs() noexcept { return catalog_; }

 private:
  result<std::unique_ptr<storage::lane_log>> open_log(const definition& made, std::uint32_t lane,
                                                      storage::recovery_report& report);
  void report_recovery(const std::string& name, std::uint32_t lane, const storage::lane_log& log,
                       const storage::recovery_report& report);
  std::optional<log::known_subject> subject_of_ring(const std::string& name, bool is_there,
                                                    std::uint32_t id);
  result<void> hold(const definition& made, const error& why);
  void add_rings(const definition& made, const std::vector<std::uint64_t>& first_seqs);
  result<void> intern(const definition& made, const std::vector<log::known_subject>& subjects);
  std::vector<std::pair<registry::stream_facts, std::string>> streams_with_logs();
  result<void> check_directory(const std::vector<definition>& ours);
  void hold_unkept_streams();
  result<std::unique_ptr<storage::lane_logger>> prepare(kept_stream& stream, std::uint32_t lane,
                                                        std::unique_ptr<storage::lane_log> log,
                                                        const storage::recovery_report& report);
  void keep_spare_files();

  std::shared_ptr<session_core> session_;
  storage::engine& engine_;
  catalog catalog_;
  const std::string directory_;
  std::map<std::string, kept_stream> streams_;
  std::vector<std::string> problems_;
  std::vector<os::fd> spare_files_;  // closed when take_back() or change() needs descriptors
};

}  // namespace bus::streams
