#pragma once
/// engine: the thread that writes all logs: looks at the rings, gathers, commits, waits for the
/// disk. Not: which streams there are (streams/keeper).
///
/// Threads    call() from any; everything else happens in the engine's own thread

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "client/session_core.hpp"
#include "storage/lane_logger.hpp"
#include "storage/segment_worker.hpp"
#include "storage/spare_segments.hpp"

namespace bus::storage {

struct engine_options {
  std::string data_directory;
  bool use_uring = true;
  std::size_t buffers = 8;
  std::uint64_t buffer_bytes = 4ull << 20;
  double warn_above = 0.70;   // share of the disk that is used
  double block_above = 0.85;  // publishers are told
};

class engine {
 public:
  using clock = std::chrono::steady_clock;
  /// What happened: "full", "failed", "recovered", "warning".
  using tell = std::function<void(const char* kind, const std::string& stream, const error& what)>;

  /// `told` is called in the engine's thread. Never fails: without io_uring plain calls are used,
  /// and that is told.
  engine(session_core& session, engine_options options, tell told);
  /// Writes and syncs what is in the rings, as far as the disk takes it.
  ~engine();

  /// Runs `fn` in the engine's thread with no write under way; returns when it is done.
  void call(const std::function<void()>& fn);

  /// REQUIRES for all of these: within call().
  log::disk& disk() noexcept { return *disk_; }
  buffer_pool& buffers() noexcept { return *buffers_; }
  spare_segments& spares() noexcept { return spares_; }
  segment_worker& worker() noexcept { return worker_; }
  std::vector<std::unique_ptr<lane_logger>>& lanes() noexcept { return lanes_; }
  /// From now on it is written; it learns whether the disk is too full.
  void attach(std::unique_ptr<lane_logger> lane);
  /// Fuller than block_above.
  bool is_full() const noexcept { return blocked_; }
  std::uint64_t next_token() noexcept { return ++tokens_; }
  log::disk_space space() const noexcept { return space_; }

 private:
  void run();
  bool round(clock::time_point now);
  void hand_out_answers(std::uint64_t wait_ns);
  void settle();
  bool any_in_flight() const noexcept;
  void sleep() noexcept;
  void housekeep(clock::time_point now);
  void look_at_space();

  session_core& session_;
  const engine_options options_;
  const tell told_;
  std::unique_ptr<log::disk> disk_;
  std::unique_ptr<buffer_pool> buffers_;
  spare_segments spares_;
  segment_worker worker_;
  std::vector<std::unique_ptr<lane_logger>> lanes_;
  std::uint64_t tokens_ = 0;
  log::disk_space space_;
  bool warned_ = false;
  bool blocked_ = false;
  clock::time_point last_activity_{}, next_housekeeping_{}, next_space_{};

  std::mutex mutex_;
  std::condition_variable done_;
  std::deque<const std::function<void()>*> calls_;
  std::uint64_t calls_done_ = 0, calls_made_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::storage
