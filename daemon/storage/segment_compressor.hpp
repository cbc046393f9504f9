#pragma once
/// segment_compressor: compresses full segments in a thread of its own, one after another, so that
/// no commit waits for it.
///
/// Threads    all calls from one; the work is done in another

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "storage/compress_segment.hpp"

namespace bus::storage {

class segment_compressor {
 public:
  struct job {
    std::string directory;
    std::uint64_t base_seq = 0;
    std::uint64_t log_id = 0;
  };
  struct finished_job {
    job what;
    std::string path;  // of the copy, when there is one
    compressed_copy copy;
  };

  segment_compressor();
  ~segment_compressor();

  /// False: it has another one.
  bool begin(const job& next);
  /// What became of a job in `directory`.
  std::optional<finished_job> take(const std::string& directory);
  /// What is done in `directory` is given up. Does not wait: that could take a sync.
  void forget(const std::string& directory);

 private:
  void run();
  static std::string path_of(const job& what);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<job> job_;                // until it is finished
  std::optional<finished_job> finished_;  // until it is taken
  bool stop_ = false;
  std::atomic<bool> stop_job_{false};
  std::thread thread_;
};

}  // namespace bus::storage
