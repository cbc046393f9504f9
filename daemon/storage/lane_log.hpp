#pragma once
/// lane_log: the writing side of one lane's log: frames (lane_log.cpp) in segments
/// (lane_log_segments.cpp), recovery after a crash (lane_log_recovery.cpp), continuing after a
/// failure (lane_log_restart.cpp), and upkeep of full segments (lane_log_upkeep.cpp).
///
/// Invariants
///   LOG-1  At most one write is in flight, and it goes after everything that was written before:
///       what a crash can take is a suffix.
///   LOG-2  durable_seq() covers only what a successful sync covered. Frames record it only
///       afterwards.
///   LOG-3  A segment in which a write or a sync failed is never written again. What was not
///       durable is written again, into a new segment, which gets its name only when all of it is
///       durable.
///   LOG-4  No byte of a sector that holds durable data is overwritten (except in `state`, which
///       has two copies).
///   LOG-5  No sequence is given out above high_water() of the state on disk.
///   LOG-6  Another file may replace a full segment under its name: it yields the same bytes, and
///       was durable before. After a power loss one or the other is there.
///   LOG-7  A segment with a page that the disk cannot read is left as it is, with all its
///       sequences: a segment that begins below its last record would hide records that may become
///       readable again.
///   LOG-9  `state` records what must exist: the base of the last segment, and a sequence up to
///       which the log is durable. Neither exceeds what a sync has covered. Retention raises
///       first_seq of the state before it removes anything. So whatever else is missing is damage.
///   LOG-10 A segment whose header names another log, lane or sequence is not part of this log: it
///       is neither read nor overwritten.
///   LOG-11 Of a batch all records are there, or none: records above durable_seq() of a batch whose
///       last record is missing are a torn write.
///   LOG-8  A copy that covers several full segments takes the name of the first. The others are
///       removed only when that is durable: until then each still yields what lies between it and
///       the next one.
///   LOG-12 While it serves, it uses only space that exists already, and frees space in another
///       thread: its calls wait for writes, reads and syncs of its own files, and for nothing else.
///
/// Threads    one at a time
/// Blocks     open, create and begin_epoch for as long as they take, and all calls before serve()

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <bus/error.hpp>

#include "base/assert.hpp"
#include "log/disk.hpp"
#include "log/format.hpp"
#include "log/history.hpp"
#include "log/lane_files.hpp"
#include "os/machine_time.hpp"
#include "storage/frame_memory.hpp"
#include "storage/lane_clock.hpp"
#include "storage/thin_segments.hpp"

namespace bus::storage {

struct log_identity {
  std::uint64_t stream_id = 0;
  std::uint64_t epoch = 1;
  std::uint32_t lane = 0;
};

inline log::log_owner owner_of(const log_identity& who) noexcept {
  return {who.stream_id, who.lane};
}

struct log_options {
  std::uint64_t segment_bytes = 64ull << 20;
  std::uint64_t largest_frame_bytes = 2ull << 20;
  bool spill = false;
  /// Messages that the ring can hold; 0: not known. If it is known and every frame is synced, at
  /// most two rings of sequences can have been given out above the last durable one.
  std::uint64_t ring_messages = 0;
  bool syncs_each = false;
  bool direct = true;
  /// A zeroed file of `bytes` in `directory`, ready to be renamed; empty: none is ready.
  std::function<std::string(const std::string& directory, std::uint64_t bytes)> take_spare = {};
  /// For a log that serves: requests a file of `bytes` in `directory`. `now`: the lane waits for
  /// it. 0: take_spare will return it; -EAGAIN: it is being made; else why it cannot be made.
  std::function<int(const std::string& directory, std::uint64_t bytes, bool zeroed, bool now)>
      prepare_spare = {};
  /// Closes a removed file, in another thread. Returns how many wait to be closed.
  std::function<std::size_t(log::disk_file file)> close_later = {};
  /// A lane that would fill a segment sooner gets whole segments that are not zeroed: its commits
  /// are large.
  std::chrono::nanoseconds fast_segment = std::chrono::seconds(2);
  std::function<os::machine_time()> time = os::read_machine_time;
  bool keeps_torn_batches = false;  ///< a fault for a test that proves it is noticed
};

/// What opening found and did: for log lines and `bus stream verify`.
struct recovery_report {
  std::uint64_t bytes_read = 0;
  std::uint64_t rewritten = 0;  ///< records not known to be durable, written again
  std::uint64_t cut_bytes = 0;  ///< torn tail
  std::uint64_t unreadable_bytes = 0;
  bool state_rebuilt = false;
  bool state_damaged = false;  ///< one of its copies
  bool bound_damaged = false;
  std::vector<log::damage> damages;
};

/// Limits of retention; 0: none.
struct retention_limits {
  std::uint64_t max_age_ns = 0;
  std::uint64_t max_bytes = 0;
  std::uint64_t max_messages = 0;
};

class lane_log {
 public:
  /// A new log in a new directory. Its files are durable when it returns; the caller syncs the
  /// directory's own entry.
  /// Errors: no_space, system
  static result<std::unique_ptr<lane_log>> create(log::disk& on, std::string directory,
                                                  const log_identity& who, std::uint64_t high_water,
                                                  const log_options& options);
  /// Errors: not_found, unsupported (version), no_space, system
  static result<std::unique_ptr<lane_log>> open(log::disk& on, std::string directory,
                                                const log_identity& who, const log_options& options,
                                                recovery_report& report);
  /// What opening a log would find; changes nothing.
  struct outlook {
    std::uint64_t last_seq = 0;        ///< last one that can be read
    std::uint64_t next_epoch_seq = 1;  ///< where begin_epoch() would continue
  };
  /// Errors: as open
  static result<outlook> look(log::disk& on, const std::string& directory, const log_identity& who);
  ~lane_log();
  lane_log(const lane_log&) = delete;
  lane_log& operator=(const lane_log&) = delete;

  std::uint64_t log_id() const noexcept { return state_.log_id; }
  std::uint64_t epoch() const noexcept { return state_.epoch; }
  std::uint64_t next_seq() const noexcept { return next_seq_; }
  std::uint64_t written_seq() const noexcept { return written_seq_; }
  std::uint64_t durable_seq() const noexcept { return durable_seq_; }
  std::uint64_t high_water() const noexcept { return state_.high_water; }
  std::uint64_t first_seq() const noexcept;
  std::uint64_t bytes_on_disk() const noexcept;
  std::uint64_t segments() const noexcept { return segments_.size(); }
  std::uint32_t align() const noexcept { return align_; }
  std::uint64_t segment_bytes() const noexcept { return options_.segment_bytes; }
  const std::string& directory() const noexcept { return directory_; }
  /// Sequences that no message ever had, because shared memory was lost.
  std::uint64_t skipped() const noexcept { return state_.skipped; }
  /// Number of subjects that records name, or that were known to be durable.
  std::uint64_t subjects() const noexcept { return state_.subjects; }
  /// REQUIRES: `count` subjects are durable
  void note_subjects(std::uint64_t count) noexcept {
    state_.subjects = std::max(state_.subjects, static_cast<std::uint32_t>(count));
  }
  bool in_flight() const noexcept { return in_flight_.has_value(); }
  bool is_poisoned() const noexcept { return poisoned_; }

  /// From now on LOG-12 holds.
  /// REQUIRES: prepare_spare, take_spare and close_later of the options
  void serve() noexcept {
    BUS_ASSERT(options_.prepare_spare && options_.take_spare && options_.close_later);
    serves_ = true;
  }
  /// Whether there is space for `frame`. False: a file is being made; call again later.
  /// REQUIRES: before begin() of a log that serves, it returned true.
  /// Errors: no_space, system
  result<bool> has_room_for(const log::frame_builder& frame);
  /// The same, before restart().
  result<bool> has_room_to_restart();
  /// Reads the headers of all full segments for their numbers of records, which retention and
  /// thinning need.
  void learn_counts();

  /// After shared memory was lost: begins `epoch`, and continues above every sequence that was ever
  /// given out, and not below `least`.
  /// Errors: no_space, system
  result<void> begin_epoch(std::uint64_t epoch, std::uint64_t least = 0);
  /// REQUIRES: called before a sequence up to `seq` can be given out. Blocks for a sync now and
  /// then.
  result<void> raise_high_water(std::uint64_t seq, std::uint64_t step);

  /// Writes a frame of records, and syncs if `sync`. The disk completes it with `token`; then
  /// finished().
  /// REQUIRES: not in flight, frame.base_seq() >= next_seq().
  /// Errors: no_space, system: nothing was begun, and the frame can be begun again later.
  result<void> begin(log::frame_builder& frame, bool sync, std::uint64_t token, int buffer);
  /// Records how far the log is durable, for a reader after a crash. Does not sync.
  result<void> write_mark();
  /// Returns the failure, or 0. After a failure the log is poisoned until restart().
  int finished(int failure);
  /// Syncs what is written but not durable. Blocks.
  /// Errors: system: poisoned
  result<void> sync();
  /// After a failure: copies what is written but not durable into a new segment, as far as the old
  /// one can be read. The caller writes the rest: next_seq() is where the log continues.
  /// Errors: no_space, system
  result<void> restart();

  /// Not everything in the last segment could be read when the log was opened. The log continues
  /// above every sequence that was ever given out, and announces the ones in between as a gap.
  bool has_unread_end() const noexcept { return unread_from_ != 0; }
  /// Shared memory still exists and has better knowledge: everything up to `seq` - 1 was written.
  /// REQUIRES: has_unread_end()
  void resume_at(std::uint64_t seq) noexcept;

  /// The sequences below `seq` are lost: the log continues at `seq`, and announces the gap.
  /// REQUIRES: nothing is in flight, everything written is durable
  void skip_to(std::uint64_t seq, layout::log_gap reason) noexcept;

  /// Removes whole segments. Returns how many.
  std::size_t retain(const retention_limits& limits);
  /// The time of its clock, which alone determines ages, never stamps.
  log::lane_time now() { return clock_.tick(options_.time()); }
  /// Removes everything below `seq`. A log that serves frees the space little by little: see
  /// is_dropping().
  /// Errors: no_space, system
  result<void> purge(std::uint64_t seq);
  void drop_consumed(std::uint64_t seq);  // spill: every reader has consumed what is below
  /// Segments below first_seq() or the consumed sequence still exist: drop_consumed() continues.
  bool is_dropping() const noexcept {
    return segments_.size() > 1 && segments_[1].base_seq <= std::max(state_.first_seq, consumed_);
  }

  /// The oldest full segment that is neither compressed nor skipped.
  std::optional<std::uint64_t> next_full_segment() const;
  /// The segment stays as it is.
  void mark_compress_skipped(std::uint64_t base_seq) noexcept {
    settled_seq_ = std::max(settled_seq_, base_seq);
  }
  /// Replaces the segment by the file `path` (LOG-6). 0, or a negative errno: `path` is removed.
  int replace_segment(std::uint64_t base_seq, const std::string& path, std::uint64_t bytes);

  /// Bases of the full segments and of the last one.
  std::vector<std::uint64_t> bases() const;
  std::uint64_t full_bytes() const noexcept;
  struct thinned_part {
    std::uint64_t upto = 0;  ///< base of the first segment that is not thinned, or of the last one
    std::uint64_t bytes = 0;
  };
  /// The oldest segments up to the first that is not thinned, according to their headers.
  thinned_part thinned();
  /// LOG-8. 0, or a negative errno. Removes the copies that could not be used.
  int replace_segments(const std::vector<thinned_segment>& copies);

  /// Makes everything durable, and records that. `beyond`: at most this many sequences were given
  /// out above the last one written; empty: not known.
  /// Errors: system
  result<void> close(std::optional<std::uint64_t> beyond = std::nullopt);
  /// REQUIRES: no process publishes, or busd sees it
  void forget_reopening();

 private:
  struct segment {
    std::uint64_t base_seq = 0;
    std::uint64_t bytes = 0;
    std::optional<log::lane_time> first_time = {};
    std::optional<std::uint64_t> records = {};  // of a full one
    bool is_thinned = false;                    // known with `records`
    std::uint64_t latest_ns = ~0ull;            // no stamp up to its end is later; ~0: not known
  };
  struct flight {
    std::uint64_t last_seq = 0;
    std::uint64_t bytes = 0;
    std::uint64_t time_max_ns = 0;
    std::uint32_t crc = 0;
    bool synced = false;
    std::uint64_t first_seq = 0;
  };

  static constexpr std::string_view half_made = ".tmp";

  lane_log(log::disk& on, std::string directory, const log_options& options)
      : disk_(on), directory_(std::move(directory)), options_(options) {}
  result<void> list(const std::vector<std::uint64_t>& bases, recovery_report& report);
  result<void> recover(recovery_report& report);
  result<void> begin_again(std::uint64_t fresh, recovery_report& report);
  std::uint64_t must_reach() const noexcept;
  void note_bounds(layout::log_state& state) const noexcept;
  int store_state(layout::log_state state);
  void write_bound();
  void keep_clock(std::uint64_t max_age_ns);
  result<void> leave_unread(std::uint64_t last, recovery_report& report);
  result<void> roll(std::uint64_t base_seq, std::uint64_t gap_first, layout::log_gap reason);
  result<void> open_new_file(std::string& path, std::uint64_t tail_bytes);
  result<bool> ask_for_file(std::uint64_t tail_bytes, bool now);
  int drop_file(const std::string& path);
  int rename_over(const std::string& path, const std::string& name);
  std::uint64_t least_file_bytes() const noexcept;
  result<void> write_header(std::uint64_t base_seq, std::uint64_t bytes, std::uint64_t gap_first,
                            layout::log_gap reason);
  result<void> name_segment(const std::string& path, std::uint64_t base_seq,
                            std::uint64_t gap_first, layout::log_gap reason);
  error poisoned() const;
  result<void> copy_tail(std::uint64_t first, std::uint64_t last);
  std::optional<log::lane_time> first_time_of(segment& one);
  std::uint32_t latest_before(std::uint64_t base_seq) const noexcept;
  std::uint64_t records_of(std::size_t index);
  bool remove_first();
  void note_index(std::uint64_t seq, std::uint64_t time_max_ns);
  void flush_index();
  void poison() noexcept;
  error failed(int failure, std::string what) const;

  log::disk& disk_;
  const std::string directory_;
  const log_options options_;
  layout::log_state state_{};
  std::deque<segment> segments_;
  std::uint64_t named_base_ = 0;        // base of the last segment whose name is durable
  std::vector<std::uint64_t> foreign_;  // bases of files that are not of this log (LOG-10)
  std::uint64_t settled_seq_ = 0;       // base of the last segment that was compressed or skipped
  log::disk_file file_ = -1;
  std::uint32_t align_ = 512;
  std::uint64_t offset_ = 0;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t next_seq_ = 1;
  std::uint64_t written_seq_ = 0;
  std::uint64_t durable_seq_ = 0;
  std::uint64_t unsynced_bytes_ = 0;  // of frames in the current segment
  std::uint64_t time_max_ns_ = 0;     // of the current segment; ~0: not known
  lane_clock clock_;
  std::uint64_t kept_up_ns_ = 0;  // of the clock, as the state or the bound records it
  std::uint32_t previous_crc_ = 0;
  log_identity who_;
  std::uint64_t index_due_ = 0;  // offset from which the next entry is due
  std::vector<layout::log_index_entry> index_pending_;
  std::uint64_t index_written_ = 0;  // entries
  std::uint64_t gap_first_ = 0;      // first sequence of a gap that the next segment announces
  layout::log_gap gap_reason_ = layout::log_gap::none;
  std::uint64_t active_gap_first_ = 0;  // of the gap that the current segment announces
  layout::log_gap active_gap_reason_ = layout::log_gap::none;
  std::chrono::steady_clock::time_point segment_begun_{};
  std::optional<flight> in_flight_;
  // not 0: sequences from here on may lie where the disk cannot be read
  std::uint64_t unread_from_ = 0;
  bool is_intact_ = false;  // nothing that was durable is missing
  bool recovers_ = false;   // opening: what cannot be read must not be left out
  bool poisoned_ = false;
  bool serves_ = false;
  std::uint64_t next_bytes_ = 0;  // size of the file that was requested; 0: none
  std::uint64_t consumed_ = 0;    // spill: every reader has consumed what is below
  std::size_t closing_ = 0;       // files waiting to be closed when the last one was added
};

}  // namespace bus::storage
