#pragma once
/// compress_segment: writes a full segment once more, compressed. The copy is read back before it
/// counts: what it gives is what the segment has, byte by byte.
///
/// Format     docs/format/log.md

#include <atomic>
#include <cstdint>
#include <string>

#include "log/disk.hpp"

namespace bus::storage {

/// What compress_segment() made of it.
enum class compress_outcome : std::uint8_t {
  done,
  left,     // it is compressed already, hardly gets smaller, or is not as it was written
  stopped,  // by `stop`
  failed,   // the disk said no
};

struct compressed_copy {
  compress_outcome outcome = compress_outcome::failed;
  std::uint64_t bytes = 0;  // of the copy
  int failure = 0;          // a negative errno
};

/// From segment `base_seq` of `directory` to the new file `to`, synced. Unless it is done, `to` is
/// removed.
compressed_copy compress_segment(log::disk& on, const std::string& directory,
                                 std::uint64_t base_seq, std::uint64_t log_id,
                                 const std::string& to, const std::atomic<bool>& stop);

}  // namespace bus::storage
