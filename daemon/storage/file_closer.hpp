#pragma once
/// file_closer: a thread that closes removed files and deletes directories of removed streams. It
/// frees their space in small steps, which takes time for large files, so that neither commits nor
/// other requests wait for it.
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

  /// Returns how many files wait, this one included. Each keeps a descriptor.
  std::size_t close(log::disk_file file);
  /// Deletes the directory, and waits for that up to `patience`; then the deletion continues in the
  /// background. If busd ends first, its next start deletes the rest.
  /// REQUIRES: no other thread or process creates or deletes files in the directory.
  void remove(const std::string& directory, std::chrono::nanoseconds patience);

 private:
  void run();
  static void give_back(log::disk_file file);
  bool close_waiting();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<log::disk_file> files_;
  std::deque<std::string> directories_;  // the first is being removed
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bus::storage
