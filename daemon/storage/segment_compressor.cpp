#include "storage/segment_compressor.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "log/format.hpp"
#include "log/posix_disk.hpp"

namespace bus::storage {

segment_compressor::segment_compressor() : thread_([this] { run(); }) {}

segment_compressor::~segment_compressor() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
    stop_job_ = true;
  }
  changed_.notify_all();
  thread_.join();
  log::posix_disk disk;
  if (finished_ && finished_->copy.outcome == compress_outcome::done)
    (void)disk.remove(finished_->path);
}

// When busd ends in the middle of it, it is removed when the log is opened.
std::string segment_compressor::path_of(const job& what) {
  return what.directory + "/" + log::segment_name(what.base_seq) + ".tmp";
}

bool segment_compressor::begin(const job& next) {
  {
    const std::lock_guard guard(mutex_);
    if (job_ || finished_) return false;
    job_ = next;
    stop_job_ = false;
  }
  changed_.notify_all();
  return true;
}

std::optional<segment_compressor::finished_job> segment_compressor::take(
    const std::string& directory) {
  const std::lock_guard guard(mutex_);
  if (!finished_ || finished_->what.directory != directory) return std::nullopt;
  return std::exchange(finished_, std::nullopt);
}

void segment_compressor::forget(const std::string& directory) {
  const std::lock_guard guard(mutex_);
  if (job_ && job_->directory == directory) {
    stop_job_ = true;
    job_->directory.clear();  // nobody takes what comes of it
  }
  if (finished_ && finished_->what.directory == directory) {
    log::posix_disk disk;
    if (finished_->copy.outcome == compress_outcome::done) (void)disk.remove(finished_->path);
    finished_.reset();
  }
}

void segment_compressor::run() {
  (void)::nice(10);  // of this thread alone
  log::posix_disk disk;
  std::unique_lock guard(mutex_);
  for (;;) {
    changed_.wait(guard, [&] { return stop_ || job_; });
    if (stop_) return;
    const job now = *job_;
    const std::string path = path_of(now);
    guard.unlock();
    const compressed_copy copy =
        compress_segment(disk, now.directory, now.base_seq, now.log_id, path, stop_job_);
    if (copy.outcome == compress_outcome::failed)
      spdlog::warn("cannot compress segment {} in {}: error {}; it stays as it is for now",
                   now.base_seq, now.directory, -copy.failure);
    guard.lock();
    if (!job_->directory.empty())
      finished_ = finished_job{now, path, copy};
    else if (copy.outcome == compress_outcome::done)
      (void)disk.remove(path);
    job_.reset();
  }
}

}  // namespace bus::storage
