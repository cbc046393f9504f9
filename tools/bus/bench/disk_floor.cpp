#include "disk_floor.hpp"

#include <fcntl.h>

#include <filesystem>

namespace bench {

namespace {

constexpr std::size_t step_bytes = 1 << 20;

}  // namespace

disk_floor::disk_floor(const std::string& directory)
    : buffer_(static_cast<char*>(std::aligned_alloc(4096, step_bytes))),
      path_(directory + "/floor") {
  std::memset(buffer_, 1, step_bytes);
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
  if (file_ < 0) file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  for (std::size_t at = 0; file_ >= 0 && at < file_bytes; at += step_bytes)
    if (::pwrite(file_, buffer_, step_bytes, static_cast<off_t>(at)) != step_bytes) {
      ::close(file_);
      file_ = -1;
    }
  if (file_ >= 0) ::fsync(file_);
}

disk_floor::~disk_floor() {
  if (file_ >= 0) ::close(file_);
  ::unlink(path_.c_str());
  std::free(buffer_);
}

void disk_floor::commit(std::size_t bytes, samples& into) {
  if (offset_ + bytes > file_bytes) offset_ = 0;
  const std::uint64_t begin = ticks();
  if (::pwrite(file_, buffer_, bytes, static_cast<off_t>(offset_)) < 0) return;
  ::fdatasync(file_);
  into.add(ticks() - begin);
  offset_ += bytes;
}

double disk_floor::bandwidth(std::size_t bytes, double seconds) {
  samples unused;
  const auto begin = std::chrono::steady_clock::now();
  double taken = 0;
  std::uint64_t written = 0;
  while (taken < seconds) {
    commit(bytes, unused);
    written += bytes;
    taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  return static_cast<double>(written) / taken;
}

double read_bandwidth(const std::string& directory) {
  std::vector<char> buffer(step_bytes);
  std::uint64_t bytes = 0, sum = 0;
  double best = 0;
  for (int pass = 0; pass < 3; ++pass) {
    bytes = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
      if (entry.path().extension() != ".log") continue;
      const int file = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
      for (off_t at = 0; file >= 0; at += step_bytes) {
        const auto got = ::pread(file, buffer.data(), buffer.size(), at);
        if (got <= 0) break;
        bytes += static_cast<std::uint64_t>(got);
        sum += sum_of(buffer.data(), static_cast<std::size_t>(got));
      }
      if (file >= 0) ::close(file);
    }
    const double taken =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (taken > 0) best = std::max(best, static_cast<double>(bytes) / taken);
  }
  return sum == 1 ? 0 : best;
}

}  // namespace bench
