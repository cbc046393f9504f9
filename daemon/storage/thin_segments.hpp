#pragma once
/// thin_segments: writes copies of full segments without the messages that newer ones of their
/// subject have superseded. Joins small segments.
///
/// Invariants
///   THIN-1  Of each subject the newest `keep` messages in these segments are kept, with their
///       sequences, byte by byte, unless they are older than `max_age_ns` by the lane's clock.
///       Stamps decide nothing.
///   THIN-2  A segment that is not intact (damage, a page that cannot be read) is left as it is.
///   THIN-3  A segment that announces a gap remains the beginning of a segment.
///   THIN-4  The copies are synced, and cover whole consecutive segments.
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
  std::vector<std::uint64_t> bases;  ///< of the segments, rising; last, that of the next segment
  std::uint64_t keep = 0;            ///< of each subject
  std::uint64_t subjects = 0;        ///< ids below it; messages with other ids stay
  std::uint64_t max_age_ns = 0;      ///< older messages are removed; 0: none
  log::lane_time now;                ///< of the lane's clock
  std::uint64_t segment_bytes = 0;   ///< a copy that reaches half of it is complete
};

/// A copy, to be renamed to segment `covers.front()`; the other segments in `covers` can be removed
/// then.
struct thinned_segment {
  std::string path, index_path;
  std::vector<std::uint64_t> covers;
  std::uint64_t bytes = 0;
  std::uint64_t records = 0;
  std::uint64_t end_seq = 0;  ///< the copy replaces its base up to, not including, this sequence
  std::uint32_t subjects = 0;
};

enum class thin_outcome : std::uint8_t {
  done,
  left,     ///< too little would be removed
  stopped,  ///< by `stop`
  failed,   ///< the disk returned an error
};

struct thinned_segments {
  thin_outcome outcome = thin_outcome::failed;
  std::vector<thinned_segment> made;
  std::uint64_t removed = 0;  ///< records
  int failure = 0;            ///< a negative errno
};

/// Removes the copies unless the outcome is done.
thinned_segments thin_segments(log::disk& on, const thinning& what, const std::atomic<bool>& stop);
void remove_copies(log::disk& on, const std::vector<thinned_segment>& copies);

}  // namespace bus::storage
