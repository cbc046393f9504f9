#include "storage/spare_segments.hpp"

#include <algorithm>

#include "log/posix_disk.hpp"
#include "storage/frame_memory.hpp"

namespace bus::storage {

namespace {

constexpr std::size_t step_bytes = 1 << 20;

}  // namespace

spare_segments::spare_segments() : thread_([this] { run(); }) {}

spare_segments::~spare_segments() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
  log::posix_disk disk;
  for (const auto& [directory, entry] : spares_)
    if (!entry.path.empty()) (void)disk.remove(entry.path);
}

std::string spare_segments::take(const std::string& directory, std::uint64_t bytes) {
  std::string path;
  {
    const std::lock_guard guard(mutex_);
    auto& entry = spares_[directory];
    if (entry.bytes == bytes) path.swap(entry.path);
    entry.bytes = bytes;
    entry.failed = false;
  }
  changed_.notify_all();
  return path;
}

void spare_segments::forget(const std::string& directory) {
  const std::lock_guard guard(mutex_);
  spares_.erase(directory);
}

void spare_segments::run() {
  std::unique_lock guard(mutex_);
  for (;;) {
    const auto due = std::find_if(spares_.begin(), spares_.end(), [](const auto& one) {
      return one.second.path.empty() && !one.second.failed && one.second.bytes != 0;
    });
    if (stop_) return;
    if (due == spares_.end()) {
      changed_.wait(guard);
      continue;
    }
    const std::string directory = due->first;
    const std::uint64_t bytes = due->second.bytes;
    const std::string path = directory + "/spare-" + std::to_string(++number_) + ".tmp";
    guard.unlock();
    const bool made = make(path, bytes, stop_);
    guard.lock();
    const auto still = spares_.find(directory);
    log::posix_disk disk;
    if (!made || still == spares_.end() || still->second.bytes != bytes) {
      (void)disk.remove(path);
      if (still != spares_.end()) still->second.failed = !made;
    } else {
      still->second.path = path;
    }
  }
}

// Past the page cache: it is for readers.
bool spare_segments::make(const std::string& path, std::uint64_t bytes, const bool& stop) {
  log::posix_disk disk;
  (void)disk.remove(path);
  const int file = disk.open(path, log::disk_mode::create, true);
  if (file < 0) return false;
  static const frame_memory zeroes(step_bytes);
  bool good = disk.reserve(file, bytes) == 0;
  for (std::uint64_t done = 0; good && done < bytes && !stop; done += step_bytes)
    good = disk.write(file, zeroes.bytes().first(std::min<std::uint64_t>(step_bytes, bytes - done)),
                      done) == 0;
  good = good && !stop && disk.sync(file) == 0;
  disk.close(file);
  return good;
}

}  // namespace bus::storage
