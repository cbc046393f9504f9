#pragma once
/// spare_segments: makes the files that logs go on in, ahead of their use, in a thread of its own:
/// no commit waits for space. They are full of zeroes, as far as there is time for it: a lane that
/// waits gets its file without.
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
  /// `made`: called, in a thread of its own, when something came of what somebody waits for.
  explicit spare_segments(std::function<void()> made = {});
  ~spare_segments();

  /// A file of `bytes` for the log in `directory`. `now`: its lane waits for it. 0: it is there;
  /// -EAGAIN: not yet; or why it cannot be made: asking again makes it try again.
  int prepare(const std::string& directory, std::uint64_t bytes, bool zeroed, bool now);
  /// Its path; empty: none is ready.
  std::string take(const std::string& directory, std::uint64_t bytes);
  void forget(const std::string& directory);

 private:
  struct spare_file {
    std::uint64_t bytes = 0;  // 0: nothing is wanted
    std::uint64_t number = 0;
    bool zeroed = true;
    bool is_urgent = false;
    std::string path;  // when it is ready
    int failure = 0;   // of one that somebody waited for, until that is told
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
