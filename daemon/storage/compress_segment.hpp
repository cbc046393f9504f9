#pragma once
/// compress_segment: writes a compressed copy of a full segment. The copy is read back before it
/// counts: it must yield every byte of the segment.
///
/// Format     docs/format/log.md

#include <atomic>
#include <cstdint>
#include <string>

#include "log/disk.hpp"

namespace bus::storage {

/// Outcome of compress_segment().
enum class compress_outcome : std::uint8_t {
  done,
  left,     ///< already compressed, saves too little, or not intact
  stopped,  ///< by `stop`
  failed,   ///< the disk returned an error
};

struct compressed_copy {
  compress_outcome outcome = compress_outcome::failed;
  std::uint64_t bytes = 0;  ///< of the copy
  int failure = 0;          ///< a negative errno
};

/// Compresses segment `base_seq` of `directory` into the new file `to`, and syncs it. Removes `to`
/// unless the outcome is done.
compressed_copy compress_segment(log::disk& on, const std::string& directory,
                                 std::uint64_t base_seq, std::uint64_t log_id,
                                 const std::string& to, const std::atomic<bool>& stop);

}  // namespace bus::storage
