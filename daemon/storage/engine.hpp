#pragma once
/// engine: the thread that writes all logs: reads the rings, gathers records, commits them and
/// waits for the disk. It does not know which streams exist (streams/keeper) and does nothing that
/// takes long: loggers are attached ready to write, and detached complete.
///
/// Invariants
///   ENGINE-1  The thread waits for its disk and for nothing else: no lock that is held across a
///       system call, no path of a user, no allocation of space, no removal of large files, no log
///       line.
///   ENGINE-2  One thread at a time uses a logger: the keeper's until attach() and after
///       detach(), the engine's in between.
///
/// Threads    attach and detach from one, the rest from any; the work is done in the engine's own
///            thread

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "registry/process_table.hpp"
#include "registry/session_core.hpp"
#include "storage/file_closer.hpp"
#include "storage/lane_logger.hpp"
#include "storage/segment_worker.hpp"
#include "storage/spare_segments.hpp"

namespace bus::storage {

struct engine_options {
  std::string data_directory;
  bool use_uring = true;
  std::size_t buffers = 8;
  std::uint64_t buffer_bytes = 4ull << 20;
  double warn_above = 0.70;                     ///< used share of the disk
  double block_above = 0.85;                    ///< publishers are stopped
  std::atomic<std::uint64_t>* steps = nullptr;  ///< rises with every step of finish()
};

class engine {
 public:
  using clock = std::chrono::steady_clock;
  /// `kind`: "full", "failed", "recovered", "warning".
  using tell = std::function<void(const char* kind, const std::string& stream, const error& what)>;
  using loggers = std::vector<std::unique_ptr<lane_logger>>;

  /// `told` is called in the engine's thread, and must not wait for anything. Never fails: without
  /// io_uring, plain calls are used, and `told` is called.
  engine(session_core& session, engine_options options, tell told);
  /// As finish().
  ~engine();

  /// Writes these loggers from now on, and sets whether the disk is too full. Does not wait.
  void attach(loggers ready);
  /// Takes the loggers of a stream from the engine, after the disk has completed their writes.
  /// Meanwhile the others continue. Empty: there are none.
  loggers detach(const std::string& stream);
  /// Writes and syncs what is in the rings, as far as the disk permits, and ends the engine's
  /// thread. Waits for that.
  void finish();

  log::disk& disk() noexcept { return *disk_; }
  buffer_pool& buffers() noexcept { return *buffers_; }
  spare_segments& spares() noexcept { return spares_; }
  segment_worker& worker() noexcept { return worker_; }
  file_closer& closer() noexcept { return closer_; }
  /// Only the loggers use this table, so they never wait for its lock.
  registry::process_table& peers() noexcept { return peers_; }
  /// Whether the disk is fuller than block_above.
  bool is_full() const noexcept { return blocked_; }
  std::uint64_t next_token() noexcept { return ++tokens_; }
  log::disk_space space() const noexcept { return {total_bytes_, free_bytes_}; }

 private:
  void run();
  void run_rounds();
  void take_coming();
  void write_what_is_left(bool is_final);
  void write_the_rest();
  void take_orders();
  bool is_leaving(const lane_logger& lane) const noexcept {
    return !leaves_.empty() && lane.facts()->stream == leaves_;
  }
  bool round(clock::time_point now);
  void hand_out_answers(std::uint64_t wait_ns);
  void apply_results();
  void step() noexcept;
  bool any_in_flight() const noexcept;
  void sleep() noexcept;
  void housekeep(clock::time_point now);
  void look_at_space();

  session_core& session_;
  const engine_options options_;
  const tell told_;
  registry::process_table peers_;
  std::unique_ptr<log::disk> disk_;
  std::unique_ptr<buffer_pool> buffers_;
  spare_segments spares_;
  segment_worker worker_;
  file_closer closer_;
  std::atomic<std::uint64_t> tokens_{0}, total_bytes_{0}, free_bytes_{0};
  std::atomic<bool> blocked_{false};

  // Used by the engine's thread only.
  loggers lanes_;
  std::string leaves_;  // the stream that is being detached: no write of it is begun
  bool warned_ = false, finishes_ = false;
  clock::time_point last_activity_{}, next_housekeeping_{}, next_space_{};

  // Shared by all threads, each of which holds it only for a moment.
  std::mutex mutex_;
  std::condition_variable changed_;
  loggers coming_;
  std::string leaving_;
  std::optional<loggers> left_;
  bool is_ready_ = false, stop_ = false, ended_ = false;
  bool are_out_ = false;  // detach() returned loggers, and attach() has not returned them yet
  std::thread thread_;
};

}  // namespace bus::storage
