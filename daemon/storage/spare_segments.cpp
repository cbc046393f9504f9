#include "storage/spare_segments.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "log/posix_disk.hpp"
#include "storage/frame_memory.hpp"

namespace bus::storage {

namespace {

constexpr std::size_t step_bytes = 1 << 20;

}  // namespace

spare_segments::spare_segments(std::function<void()> made)
    : made_(std::move(made)), thread_([this] { run(); }) {}

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
  for (const std::string& path : unwanted_) (void)disk.remove(path);
}

// REQUIRES: mutex_
void spare_segments::give_up(spare_file& entry) {
  if (entry.is_urgent) --urgent_;
  if (!entry.path.empty()) unwanted_.push_back(std::move(entry.path));
  entry = {};
}

int spare_segments::prepare(const std::string& directory, std::uint64_t bytes, bool zeroed,
                            bool now) {
  {
    const std::lock_guard guard(mutex_);
    spare_file& entry = spares_[directory];
    if (entry.bytes != bytes) {
      give_up(entry);
      entry.bytes = bytes;
      entry.number = ++number_;
      entry.zeroed = zeroed;
    }
    if (!entry.path.empty()) return 0;
    if (const int failure = entry.failure; failure != 0) {
      give_up(entry);
      return failure;
    }
    if (now && !entry.is_urgent) {
      entry.is_urgent = true;
      ++urgent_;
    }
  }
  changed_.notify_all();
  return -EAGAIN;
}

std::string spare_segments::take(const std::string& directory, std::uint64_t bytes) {
  const std::lock_guard guard(mutex_);
  const auto found = spares_.find(directory);
  if (found == spares_.end() || found->second.bytes != bytes || found->second.path.empty())
    return {};
  std::string path = std::move(found->second.path);
  found->second.path.clear();
  give_up(found->second);
  return path;
}

void spare_segments::forget(const std::string& directory) {
  {
    const std::lock_guard guard(mutex_);
    const auto found = spares_.find(directory);
    if (found == spares_.end()) return;
    give_up(found->second);
    spares_.erase(found);
  }
  changed_.notify_all();
}

void spare_segments::run() {
  std::unique_lock guard(mutex_);
  log::posix_disk disk;
  while (!stop_) {
    auto due = std::find_if(spares_.begin(), spares_.end(), [&](const auto& one) {
      return is_due(one.second) && one.second.is_urgent;
    });
    if (due == spares_.end())
      due = std::find_if(spares_.begin(), spares_.end(),
                         [&](const auto& one) { return is_due(one.second); });
    if (due == spares_.end() && unwanted_.empty()) {
      changed_.wait(guard);
      continue;
    }
    if (due == spares_.end()) {
      const std::string path = std::move(unwanted_.back());
      unwanted_.pop_back();
      guard.unlock();
      (void)disk.remove(path);
      guard.lock();
      continue;
    }
    const std::string directory = due->first;
    const spare_file wanted = due->second;
    const std::string path = directory + "/spare-" + std::to_string(wanted.number) + ".tmp";
    guard.unlock();
    const int failure = make(path, wanted.bytes, wanted.zeroed);
    guard.lock();
    const auto still = spares_.find(directory);
    const bool is_wanted = still != spares_.end() && still->second.number == wanted.number;
    if (failure != 0 || !is_wanted) unwanted_.push_back(path);
    if (!is_wanted) continue;
    spare_file& entry = still->second;
    const bool is_awaited = entry.is_urgent;
    if (failure == 0)
      entry.path = path;
    else if (is_awaited)
      entry.failure = failure;
    // it is requested again when it is needed
    else
      give_up(entry);
    if (std::exchange(entry.is_urgent, false)) --urgent_;
    if (!is_awaited || !made_) continue;
    guard.unlock();
    made_();
    guard.lock();
  }
}

// Writes past the page cache, which is for readers. Stops writing zeroes once a lane waits.
int spare_segments::make(const std::string& path, std::uint64_t bytes, bool zeroed) {
  log::posix_disk disk;
  (void)disk.remove(path);
  const int file = disk.open(path, log::disk_mode::create, true);
  if (file < 0) return file;
  static const frame_memory zeroes(step_bytes);
  int failure = disk.reserve(file, bytes);
  for (std::uint64_t done = 0; zeroed && failure == 0 && done < bytes && urgent_ == 0 && !stop_;
       done += step_bytes)
    failure = disk.write(
        file, zeroes.bytes().first(std::min<std::uint64_t>(step_bytes, bytes - done)), done);
  if (failure == 0) failure = disk.sync(file);
  disk.close(file);
  return failure;
}

}  // namespace bus::storage
