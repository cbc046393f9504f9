#include "storage/segment_worker.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <utility>

#include "log/lane_files.hpp"
#include "log/posix_disk.hpp"

namespace bus::storage {

namespace {

const std::string& directory_of(const segment_worker::job& what) {
  return std::visit([](const auto& one) -> const std::string& { return one.directory; }, what);
}
const std::string& directory_of(const segment_worker::finished_job& done) {
  return std::visit([](const auto& one) -> const std::string& { return one.what.directory; }, done);
}

// Removes the files that the job made.
void discard(log::disk& disk, const segment_worker::finished_job& done) {
  if (const auto* compressed = std::get_if<compressed_segment_file>(&done)) {
    if (compressed->copy.outcome == compress_outcome::done) (void)disk.remove(compressed->path);
  } else {
    remove_copies(disk, std::get<thinned_log>(done).copies.made);
  }
}

}  // namespace

segment_worker::segment_worker() : thread_([this] { run(); }) {}

segment_worker::~segment_worker() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
    stop_job_ = true;
  }
  changed_.notify_all();
  thread_.join();
  log::posix_disk disk;
  if (finished_) discard(disk, *finished_);
}

bool segment_worker::begin(job next) {
  {
    const std::lock_guard guard(mutex_);
    if (job_ || finished_) return false;
    job_ = std::move(next);
    stop_job_ = unwanted_ = false;
  }
  changed_.notify_all();
  return true;
}

std::optional<segment_worker::finished_job> segment_worker::take(const std::string& directory) {
  const std::lock_guard guard(mutex_);
  if (!finished_ || directory_of(*finished_) != directory) return std::nullopt;
  return std::exchange(finished_, std::nullopt);
}

void segment_worker::forget(const std::string& directory) {
  std::optional<finished_job> done;
  {
    const std::lock_guard guard(mutex_);
    if (job_ && directory_of(*job_) == directory) stop_job_ = unwanted_ = true;
    if (finished_ && directory_of(*finished_) == directory)
      done = std::exchange(finished_, std::nullopt);
  }
  log::posix_disk disk;
  if (done) discard(disk, *done);
}

segment_worker::finished_job segment_worker::work(const job& now) {
  log::posix_disk disk;
  if (const auto* what = std::get_if<compression_job>(&now)) {
    // If busd ends before the copy is complete, opening the log removes it.
    const std::string path = log::segment_path(what->directory, what->base_seq) + ".tmp";
    const auto copy =
        compress_segment(disk, what->directory, what->base_seq, what->log_id, path, stop_job_);
    if (copy.outcome == compress_outcome::failed)
      spdlog::warn("cannot compress segment {} in {}: error {}; left uncompressed for now",
                   what->base_seq, what->directory, -copy.failure);
    return compressed_segment_file{*what, path, copy};
  }
  const auto& what = std::get<thinning>(now);
  thinned_log made{what, thin_segments(disk, what, stop_job_)};
  if (made.copies.outcome == thin_outcome::failed)
    spdlog::warn("cannot thin the log in {}: error {}; left unthinned for now", what.directory,
                 -made.copies.failure);
  return made;
}

void segment_worker::run() {
  (void)::nice(10);  // on Linux, of this thread only
  std::unique_lock guard(mutex_);
  for (;;) {
    changed_.wait(guard, [&] { return stop_ || job_; });
    if (stop_) return;
    const job now = *job_;
    guard.unlock();
    finished_job made = work(now);
    guard.lock();
    if (unwanted_) {
      guard.unlock();
      log::posix_disk disk;
      discard(disk, made);
      guard.lock();
    } else {
      finished_ = std::move(made);
    }
    job_.reset();
  }
}

}  // namespace bus::storage
