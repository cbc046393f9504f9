#pragma once
/// segment_worker: compresses and thins full segments in a thread of its own, one job after
/// another, so that no commit waits for it.
///
/// Threads    any; the work is done in another. Whoever calls waits for none of it

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

  /// False: it has another one.
  bool begin(job next);
  /// What became of a job in `directory`.
  std::optional<finished_job> take(const std::string& directory);
  /// What is done in `directory` is given up. Does not wait: that could take a sync.
  void forget(const std::string& directory);

 private:
  void run();
  finished_job work(const job& now);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<job> job_;                // until it is finished
  bool unwanted_ = false;                 // nobody takes what comes of it
  std::optional<finished_job> finished_;  // until it is taken
  bool stop_ = false;
  std::atomic<bool> stop_job_{false};
  std::thread thread_;
};

}  // namespace bus::storage
