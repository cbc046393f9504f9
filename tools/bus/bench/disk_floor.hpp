#pragma once
/// disk_floor: the best that the disk of a directory can do: a write past the page cache into a
/// file that was written before, with fdatasync; reads from the page cache. Uses nothing of libbus.

#include <cstdint>
#include <string>

#include "samples.hpp"

namespace bench {

class disk_floor {
 public:
  explicit disk_floor(const std::string& directory);
  ~disk_floor();
  disk_floor(const disk_floor&) = delete;
  disk_floor& operator=(const disk_floor&) = delete;

  bool works() const { return file_ >= 0; }
  /// One write and its sync.
  void commit(std::size_t bytes, samples& into);
  /// Bytes per second of consecutive commits.
  double bandwidth(std::size_t bytes, double seconds);

 private:
  static constexpr std::size_t file_bytes = 64 << 20;
  int file_ = -1;
  char* buffer_ = nullptr;
  std::size_t offset_ = 0;
  std::string path_;
};

/// Bytes per second of pread in steps of 1 MiB from files in the page cache.
double read_bandwidth(const std::string& directory);

}  // namespace bench
