#pragma once
/// spare_segments: makes files full of zeroes ahead of their use, in a thread of its own, so that
/// no commit waits for them.
///
/// Threads    want and take from one; the work is done in another

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace bus::storage {

class spare_segments {
 public:
  spare_segments();
  ~spare_segments();

  /// Its path; empty: none is ready. Another one is made.
  std::string take(const std::string& directory, std::uint64_t bytes);
  void forget(const std::string& directory);

 private:
  struct spare_file {
    std::uint64_t bytes = 0;
    std::string path;  // when it is ready
    bool failed = false;
  };
  void run();
  static bool make(const std::string& path, std::uint64_t bytes, const bool& stop);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, spare_file> spares_;  // by directory
  std::uint64_t number_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::storage
