#pragma once
/// file_closer: closes files that have lost their names, in a thread of its own. Only then the file
/// system gives their space back, and that takes as long as they are large: no commit waits for it.
///
/// Threads    close() from any

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>

#include "log/disk.hpp"

namespace bus::storage {

class file_closer {
 public:
  file_closer();
  ~file_closer();

  /// How many wait now, with this one: each keeps a descriptor.
  std::size_t close(log::disk_file file);

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<log::disk_file> files_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::storage
