#pragma once
/// thin_segments: writes full segments of a log once more, without the messages that newer ones of
/// their subject have superseded. Small ones become one on the way.
///
/// Invariants
///   THIN-1  Of each subject the newest `keep` of the messages in these segments are kept, under
///       their sequences, byte by byte; unless they are older than `max_age_ns`, by the lane's
///       clock. Stamps decide nothing.
///   THIN-2  A segment that is not as it was written (damage, a page that cannot be read) is left
///       as it is.
///   THIN-3  A segment that announces a gap stays the beginning of a segment.
///   THIN-4  The copies are synced, and cover whole segments, one behind the other.
///
/// Cost       reads the segments twice; 8 bytes of memory per subject of the stream
/// Format     docs/format/log.md

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "log/disk.hpp"
#include "log/format.hpp"

namespace bus::storage {

struct thinning {
  std::string directory;
  std::uint64_t log_id = 0;
  std::vector<std::uint64_t> bases;  // of the segments, rising, and of the one behind the last
  std::uint64_t keep = 0;            // of each subject
  std::uint64_t subjects = 0;        // ids below it; messages with others stay
  std::uint64_t max_age_ns = 0;      // what is older goes; 0: nothing
  log::lane_time now;                // of the lane's clock
  std::uint64_t segment_bytes = 0;   // a copy that has half of it is closed
};

/// A copy, to be renamed to the segment `covers.front()`; the others that it covers can go then.
struct thinned_segment {
  std::string path, index_path;
  std::vector<std::uint64_t> covers;
  std::uint64_t bytes = 0;
  std::uint64_t records = 0;
  std::uint64_t end_seq = 0;  // it stands for what lies below, from its base on
  std::uint32_t subjects = 0;
};

enum class thin_outcome : std::uint8_t {
  done,
  left,     // too little would go
  stopped,  // by `stop`
  failed,   // the disk said no
};

struct thinned_segments {
  thin_outcome outcome = thin_outcome::failed;
  std::vector<thinned_segment> made;
  std::uint64_t removed = 0;  // records
  int failure = 0;            // a negative errno
};

/// Unless it is done, nothing is left of the copies.
thinned_segments thin_segments(log::disk& on, const thinning& what, const std::atomic<bool>& stop);
void remove_copies(log::disk& on, const std::vector<thinned_segment>& copies);

}  // namespace bus::storage
