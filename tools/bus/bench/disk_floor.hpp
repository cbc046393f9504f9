#pragma once
/// disk_floor: what the disk of a directory can do at best: a write past the page cache into a file
/// that was written before, and fdatasync; reads from the page cache. Nothing of libbus is used
/// here.

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
  /// Bytes per second of such commits, one after the other.
  double bandwidth(std::size_t bytes, double seconds);

 private:
  static constexpr std::size_t file_bytes = 64 << 20;
  int file_ = -1;
  char* buffer_ = nullptr;
  std::size_t offset_ = 0;
  std::string path_;
};

/// Bytes per second of pread in steps of 1 MiB, of files that are in the page cache.
double read_bandwidth(const std::string& directory);

}  // namespace bench
