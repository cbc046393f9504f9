#pragma once
/// history: reads the log of one lane from a sequence on, over all its segments, while a writer
/// appends.
///
/// Invariants
///   HISTORY-1  Records come in rising order, each sequence at most once.
///   HISTORY-2  Every sequence between two records that does not come is part of a reported gap.
///   HISTORY-3  Nothing above `limit` is read: it may be half written.
///
/// Threads    one

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "log/lane_files.hpp"
#include "log/segment_reader.hpp"

namespace bus::log {

struct log_loss {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  layout::log_gap reason = layout::log_gap::corrupt;
};

class history {
 public:
  history(disk& from, std::string directory)
      : disk_(&from), directory_(std::move(directory)), segment_(from) {}

  /// Lists the segments. 0 or a negative errno; -ENOENT: there is no log; -ESTALE: it belongs to
  /// another stream or lane than `owner`. Without an owner, the one in the state is used.
  int open(const log_owner& owner = {});
  std::uint64_t log_id() const noexcept { return log_id_; }
  bool empty() const noexcept { return bases_.empty(); }
  /// The oldest sequence that is still there, or the next one.
  std::uint64_t first_seq() const noexcept;
  /// The oldest sequence that was not removed on purpose: any that is missing from here on is
  /// damage.
  std::uint64_t due_seq() const noexcept {
    return log_id_ != 0 && must_reach_ != 0 ? floor_ : first_seq();
  }
  const std::vector<std::uint64_t>& bases() const noexcept { return bases_; }

  /// Reads every segment to its end, to find damage after its last record, too.
  void look_at_every_byte() noexcept { to_the_end_ = true; }

  /// The next sequence is `seq`, or the oldest there is; what was lost before that is a gap.
  void seek(std::uint64_t seq) noexcept;
  /// Seeks to a position at or before the first record, in the order of sequences, whose stamp is
  /// not below `time_ns`. 0 or a negative errno.
  int seek_time(std::uint64_t time_ns);

  /// `limit`: the last sequence that is completely written; ~0 when nothing writes.
  walk_outcome next(logged_record& found, std::uint64_t limit);
  const log_loss& loss() const noexcept { return loss_; }
  std::uint64_t next_seq() const noexcept { return next_seq_; }
  int failure() const noexcept { return failure_; }
  std::uint64_t bytes_read() const noexcept { return bytes_read_ + segment_.bytes_read(); }
  /// In pages that the disk cannot read.
  std::uint64_t unreadable_bytes() const noexcept {
    return unreadable_bytes_ + segment_.unreadable_bytes();
  }
  /// The damage found in the segments that were left and in the current one.
  std::vector<damage> take_damages();

 private:
  walk_outcome fail(int failure) noexcept {
    failure_ = failure;
    return walk_outcome::failure;
  }
  bool is_all_older_before(std::uint64_t base_seq, std::uint64_t time_ns);
  bool is_all_older_in(std::uint64_t base_seq, std::uint64_t time_ns);
  walk_outcome locate();
  int enter_segment(std::size_t index);
  int list_bases();
  bool is_removed_below(std::uint64_t seq);
  void leave_segment();
  walk_outcome at_end(std::uint64_t limit);
  walk_outcome report(std::uint64_t upto, layout::log_gap reason);
  std::uint64_t segment_end() const noexcept;
  /// The reason of a hole after the last record that was found, in the same segment.
  layout::log_gap frame_gap() const noexcept {
    return segment_.damages().size() == damages_before_ ? segment_.hole_reason()
                                                        : layout::log_gap::corrupt;
  }
  bool is_known_gap(std::uint64_t first, layout::log_gap& reason) const noexcept;

  disk* disk_;
  std::string directory_;
  log_owner owner_;
  std::vector<std::uint64_t> bases_;
  std::vector<std::uint64_t> foreign_;  // names of files that belong to another log
  std::uint64_t must_reach_ = 0;        // what the state reports to be in the log
  std::uint64_t log_id_ = 0;
  std::uint64_t floor_ = 1;  // lower sequences were removed
  segment_reader segment_;
  std::size_t index_ = 0;
  std::uint64_t next_seq_ = 1;
  std::optional<logged_record> pending_;  // found, but sequences before it are missing
  std::uint64_t looked_for_ = 0;          // was missing in the last check, too
  std::size_t damages_before_ = 0;        // damage in the segment at the last record
  log_loss loss_;
  std::vector<damage> damages_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t unreadable_bytes_ = 0;
  int failure_ = 0;
  bool to_the_end_ = false;
};

}  // namespace bus::log
