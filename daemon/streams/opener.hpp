#pragma once
/// opener: opens the logs of streams and hands their loggers to the engine; holds those that cannot
/// be opened, and tries them again. What clients ask for is the keeper's.
///
/// Threads    one, the admin's; logs().read and its neighbours from any

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <bus/session.hpp>

#include "client/session_core.hpp"
#include "log/subjects.hpp"
#include "storage/engine.hpp"
#include "streams/catalog.hpp"

namespace bus::streams {

std::uint64_t least_high_water(const stream_config& config) noexcept;

class opener {
 public:
  using clock = std::chrono::steady_clock;

  struct kept_stream {
    // while it cannot be opened: the epoch that some of its logs begun
    std::uint64_t begun_epoch = 0;
    definition made;
    /// Its own: nobody else waits for the lock of this one.
    std::shared_ptr<client::stream_handle> handle;
    std::shared_ptr<storage::subject_log> subjects;
    std::vector<std::shared_ptr<const storage::lane_facts>> logs;
    std::optional<error> held;  // why its log is not kept just now
    clock::time_point retry_at{};
    std::chrono::seconds wait{};
  };

  opener(std::shared_ptr<session_core> session, storage::engine& engine, std::string directory);

  /// Opens all that there is.
  /// Errors: as keeper::start
  result<void> start();
  /// A stream that is in the catalog.
  /// Errors: what stands in the way; the stream is not kept then.
  result<void> open(const definition& made);
  /// One stream's trouble is no other's: what cannot be opened keeps its subjects, says why to its
  /// publishers, and is tried again. False: it is held.
  bool open_or_hold(const definition& made);
  /// Tries one again that is due. Answers when the next one is.
  clock::time_point try_again();
  /// One more lane, with its log and its ring, is written from now on.
  /// Errors: as open
  result<void> open_lane(kept_stream& stream, std::uint32_t lane,
                         std::unique_ptr<storage::lane_log> log);

  /// Nothing of it is written any more, until it is opened again.
  void let_go(const std::string& name);
  /// The same, of loggers that the engine has given back already.
  void let_go(storage::engine::loggers gone);
  /// On disk, then in shared memory: what dies in between is made good at the next start. What
  /// fails there is taken back.
  result<void> change(const definition& to);
  /// A stream that was added, and could not be opened: as if it had never been. Needs no descriptor
  /// that was not kept for this.
  void take_back(const std::string& name, std::uint64_t stream_id);
  /// Descriptors and space for a new stream, before anything of it is there.
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
  std::vector<std::pair<client::stream_facts, std::string>> streams_with_logs();
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
  std::vector<os::fd> spare_files_;  // descriptors for taking back what failed for lack of them
};

}  // namespace bus::streams
