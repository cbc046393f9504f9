#pragma once
/// spare_segments: makes the files in which logs continue, ahead of their use and in its own
/// thread, so that no commit waits for space. They are filled with zeroes if there is time: a lane
/// that waits gets its file without.
///
/// Threads    any; the work is done in another

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace bus::storage {

class spare_segments {
 public:
  /// `made`: called in that thread when a file for which a lane waits is ready, or cannot be made.
  explicit spare_segments(std::function<void()> made = {});
  ~spare_segments();

  /// Requests a file of `bytes` for the log in `directory`. `now`: its lane waits for it. 0: it is
  /// ready; -EAGAIN: not yet; or why it cannot be made: the next call tries again.
  int prepare(const std::string& directory, std::uint64_t bytes, bool zeroed, bool now);
  /// Takes the file and returns its path; empty: none is ready.
  std::string take(const std::string& directory, std::uint64_t bytes);
  void forget(const std::string& directory);

 private:
  struct spare_file {
    std::uint64_t bytes = 0;  // 0: none is wanted
    std::uint64_t number = 0;
    bool zeroed = true;
    bool is_urgent = false;
    std::string path;  // once it is ready
    int failure = 0;   // of one that a lane waits for, until prepare() returns it
  };
  void run();
  int make(const std::string& path, std::uint64_t bytes, bool zeroed);
  void give_up(spare_file& entry);
  bool is_due(const spare_file& entry) const noexcept {
    return entry.bytes != 0 && entry.path.empty() && entry.failure == 0;
  }

  const std::function<void()> made_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, spare_file> spares_;  // by directory
  std::vector<std::string> unwanted_;         // to be removed
  std::uint64_t number_ = 0;
  std::atomic<int> urgent_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace bus::storage
