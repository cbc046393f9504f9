#pragma once
/// segment_worker: compresses and thins full segments in its own thread, one job after
/// another, so that no commit waits for it.
///
/// Threads    any; the work is done in another. No caller waits for it

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>

#include "storage/compress_segment.hpp"
#include "storage/thin_segments.hpp"

namespace bus::storage {

struct compression_job {
  std::string directory;
  std::uint64_t log_id = 0;
  std::uint64_t base_seq = 0;
};
struct compressed_segment_file {
  compression_job what;
  std::string path;
  compressed_copy copy;
};
struct thinned_log {
  thinning what;
  thinned_segments copies;
};

class segment_worker {
 public:
  using job = std::variant<compression_job, thinning>;
  using finished_job = std::variant<compressed_segment_file, thinned_log>;

  segment_worker();
  ~segment_worker();

  /// False: it has another job.
  bool begin(job next);
  /// The outcome of a job in `directory`.
  std::optional<finished_job> take(const std::string& directory);
  /// Abandons the job in `directory`. Does not wait, because that could take a sync.
  void forget(const std::string& directory);

 private:
  void run();
  finished_job work(const job& now);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<job> job_;                // until it is finished
  bool unwanted_ = false;                 // its outcome will not be taken
  std::optional<finished_job> finished_;  // until it is taken
  bool stop_ = false;
  std::atomic<bool> stop_job_{false};
  std::thread thread_;
};

}  // namespace bus::storage
