#include "storage/file_closer.hpp"

#include <algorithm>

#include "log/posix_disk.hpp"
#include "storage/remove_tree.hpp"

namespace bus::storage {

file_closer::file_closer() : thread_([this] { run(); }) {}

// Files that still wait are closed when the process ends.
file_closer::~file_closer() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::size_t file_closer::close(log::disk_file file) {
  std::size_t waiting = 0;
  {
    const std::lock_guard guard(mutex_);
    files_.push_back(file);
    waiting = files_.size();
  }
  changed_.notify_all();
  return waiting;
}

void file_closer::remove(const std::string& directory, std::chrono::nanoseconds patience) {
  std::unique_lock guard(mutex_);
  directories_.push_back(directory);
  changed_.notify_all();
  changed_.wait_for(guard, patience, [&] {
    return stop_ ||
           std::find(directories_.begin(), directories_.end(), directory) == directories_.end();
  });
}

void file_closer::give_back(log::disk_file file) {
  log::posix_disk disk;
  disk.close_removed(file);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));  // leaves the disk to others
}

// False: stop.
bool file_closer::close_waiting() {
  std::unique_lock guard(mutex_);
  while (!stop_ && !files_.empty()) {
    const log::disk_file file = files_.front();
    guard.unlock();
    give_back(file);
    guard.lock();
    files_.pop_front();  // only now: close() counts it until its space is free
  }
  return !stop_;
}

void file_closer::run() {
  for (;;) {
    std::string directory;
    {
      std::unique_lock guard(mutex_);
      changed_.wait(guard, [&] { return stop_ || !files_.empty() || !directories_.empty(); });
      if (!directories_.empty()) directory = directories_.front();
    }
    if (!close_waiting()) return;
    if (directory.empty()) continue;
    log::posix_disk disk;
    (void)remove_tree(disk, directory, [this](log::disk_file file) {
      give_back(file);
      return close_waiting();  // retention continues meanwhile
    });
    const std::lock_guard guard(mutex_);
    directories_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace bus::storage
