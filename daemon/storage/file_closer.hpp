#pragma once
/// file_closer: closes files that have lost their names, and removes directories that nobody needs any more, in a
/// thread of its own. Their space goes back a little at a time, which takes as long as they are large: no commit and
/// no order waits for it.
///
/// Threads    close() and remove() from any

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "log/disk.hpp"

namespace bus::storage {

class file_closer {
 public:
  file_closer();
  ~file_closer();

  /// How many wait now, with this one: each keeps a descriptor.
  std::size_t close(log::disk_file file);
  /// Waits for it, but no longer than `patience`; then it goes on by itself. What is left when busd ends is removed at
  /// its next start. REQUIRES: nobody else makes or removes anything in it.
  void remove(const std::string& directory, std::chrono::nanoseconds patience);

 private:
  void run();
  bool give_back(log::disk_file file);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<log::disk_file> files_;
  std::deque<std::string> directories_;  // the first is being removed
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::storage
