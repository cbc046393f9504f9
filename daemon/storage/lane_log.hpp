#pragma once
/// lane_log: the writing side of one lane's log: frames (lane_log.cpp) into segments
/// (lane_log_segments.cpp), what a crash left (lane_log_recovery.cpp), how it continues after a
/// failure (lane_log_restart.cpp), what becomes of full segments (lane_log_upkeep.cpp).
///
/// Invariants
///   LOG-1  One write is in flight at most, and it goes behind everything that was written before:
///       what a crash can take is a suffix.
///   LOG-2  durable_seq() names only what a sync that succeeded covered. It is said in a frame only
///       afterwards.
///   LOG-3  A segment that a write or a sync failed on is never written again. What was not durable
///       is written anew, into a new segment, which takes its name only when all of it is durable.
///   LOG-4  No byte of a sector that holds something durable is written again (but for `state`,
///       which has two copies).
///   LOG-5  No sequence is given out above high_water() of the state on disk.
///   LOG-6  Another file may take the name of a full segment: it gives the same bytes, and was
///       durable before. A power loss leaves the one or the other.
///   LOG-7  A segment of which the disk cannot read a page is left as it is, with all its
///   sequences:
///       one that begins below its last record would take from it what may be readable again.
///   LOG-9  `state` names what must be there: the base of the last segment, and a sequence up to
///       which the log is durable. Neither is ever more than what a sync has covered. What
///       retention removes is below first_seq of the state first. So whatever is missing otherwise
///       is damage.
///   LOG-10 A segment whose header names another log, lane or sequence is not this log's: it is
///       neither read nor written over.
///   LOG-11 Of a batch all records are there, or none: those above durable_seq() that are not the
///       end of one, and have none behind them, are a torn write.
///   LOG-8  A copy that covers several full segments takes the name of the first. The others go
///       only when that is durable: until then each still gives what is between it and the next
///       one.
///   LOG-12 While it serves it takes only space that is there already, and gives space back
///   elsewhere:
///       its calls wait for writes, reads and syncs of its own files, and for nothing else.
///
/// Threads    one at a time
/// Blocks     open, create and begin_epoch as long as it takes, and all calls while it does not
///            serve

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
  /// What the ring can hold of messages; 0: not known. With it, and when every frame is synced, no
  /// more than two rings' can have been given out above what is found durable.
  std::uint64_t ring_messages = 0;
  bool syncs_each = false;
  bool direct = true;
  /// A zeroed file of `bytes` in `directory`, ready to be renamed; empty: none is ready.
  std::function<std::string(const std::string& directory, std::uint64_t bytes)> take_spare = {};
  /// Of a log that serves: asks for a file of `bytes` in `directory`. `now`: it is waited for. 0:
  /// take_spare gives it; -EAGAIN: it is being made; or why it cannot be made.
  std::function<int(const std::string& directory, std::uint64_t bytes, bool zeroed, bool now)>
      prepare_spare = {};
  /// Closes a file that has lost its name, elsewhere. Answers how many wait for that.
  std::function<std::size_t(log::disk_file file)> close_later = {};
  /// A lane that fills a segment sooner gets whole ones, and not zeroed: its commits are large.
  std::chrono::nanoseconds fast_segment = std::chrono::seconds(2);
  std::function<os::machine_time()> time = os::read_machine_time;
  bool keeps_torn_batches = false;  // a mistake that a test asks for, to prove that it would notice
};

/// What opening found and did: for the log line, `bus stream verify`, and people.
struct recovery_report {
  std::uint64_t bytes_read = 0;
  std::uint64_t rewritten = 0;  // records that were not known to be durable, written anew
  std::uint64_t cut_bytes = 0;  // torn tail
  std::uint64_t unreadable_bytes = 0;
  bool state_rebuilt = false;
  bool state_damaged = false;  // one of its copies
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
  /// A new log in a new directory. Its files are durable when it returns; the directory's own entry
  /// is the caller's to sync.
  /// Errors: no_space, system
  static result<std::unique_ptr<lane_log>> create(log::disk& on, std::string directory,
                                                  const log_identity& who, std::uint64_t high_water,
                                                  const log_options& options);
  /// Errors: not_found, unsupported (version), no_space, system
  static result<std::unique_ptr<lane_log>> open(log::disk& on, std::string directory,
                                                const log_identity& who, const log_options& options,
                                                recovery_report& report);
  /// What a log is, without opening it: nothing is changed.
  struct outlook {
    std::uint64_t last_seq = 0;        // that can be read
    std::uint64_t next_epoch_seq = 1;  // where begin_epoch() would go on
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
  /// So many subjects are named, or were known to be durable.
  std::uint64_t subjects() const noexcept { return state_.subjects; }
  /// REQUIRES: `count` subjects are durable
  void note_subjects(std::uint64_t count) noexcept {
    state_.subjects = std::max(state_.subjects, static_cast<std::uint32_t>(count));
  }
  bool in_flight() const noexcept { return in_flight_.has_value(); }
  bool is_poisoned() const noexcept { return poisoned_; }

  /// From now on LOG-12 holds, for good.
  /// REQUIRES: prepare_spare, take_spare and close_later of the options
  void serve() noexcept {
    BUS_ASSERT(options_.prepare_spare && options_.take_spare && options_.close_later);
    serves_ = true;
  }
  /// Is there space for `frame`? False: it is being made; ask again.
  /// REQUIRES before begin() of a log that serves: true.
  /// Errors: no_space, system
  result<bool> has_room_for(const log::frame_builder& frame);
  /// The same before restart().
  result<bool> has_room_to_restart();
  /// How many records its full segments have, which retention and thinning ask: reads the heads of
  /// all.
  void learn_counts();

  /// After shared memory was lost: goes on above everything that was ever given out. The epoch is
  /// `epoch` from now on. `least`: and not below it.
  /// Errors: no_space, system
  result<void> begin_epoch(std::uint64_t epoch, std::uint64_t least = 0);
  /// REQUIRES before a sequence up to `seq` may be given out. Blocks for a sync now and then.
  result<void> raise_high_water(std::uint64_t seq, std::uint64_t step);

  /// Writes a frame of records, and syncs. Answered by the disk with `token`; then finished().
  /// REQUIRES: not in flight, frame.base_seq() >= next_seq().
  /// Errors: no_space, system: nothing was begun, the frame can be begun again later.
  result<void> begin(log::frame_builder& frame, bool sync, std::uint64_t token, int buffer);
  /// Says how far the log is durable, for a reader after a crash. No sync.
  result<void> write_mark();
  /// Answers the failure, or 0. After a failure the log is poisoned: restart().
  int finished(int failure);
  /// Syncs what is written but not durable. Blocks.
  /// Errors: system: poisoned
  result<void> sync();
  /// After a failure: whatever is written but not durable goes into a new segment, from the old one
  /// where it can be read. What is not there is up to the caller: next_seq() tells where it goes
  /// on.
  /// Errors: no_space, system
  result<void> restart();

  /// Of the last segment not everything could be read when the log was opened. It goes on above
  /// everything that was ever given out, and tells the sequences in between.
  bool has_unread_end() const noexcept { return unread_from_ != 0; }
  /// Shared memory is still there, and knows better: everything up to `seq` - 1 was written.
  /// REQUIRES: has_unread_end()
  void resume_at(std::uint64_t seq) noexcept;

  /// The sequences up to `seq` are not to be had any more: it goes on behind them, and says so.
  /// REQUIRES: nothing is in flight, everything written is durable
  void skip_to(std::uint64_t seq, layout::log_gap reason) noexcept;

  /// Removes whole segments. Answers how many.
  std::size_t retain(const retention_limits& limits);
  /// Its clock, now: ages are told by it, never by stamps.
  log::lane_time now() { return clock_.tick(options_.time()); }
  /// Everything below `seq` goes.
  /// Errors: no_space, system A log that serves gives the space back little by little:
  /// is_dropping().
  result<void> purge(std::uint64_t seq);
  void drop_consumed(std::uint64_t seq);  // spill: nobody needs what is below
  /// Segments are still there that are not of the log any more: drop_consumed(first_seq()) goes on.
  bool is_dropping() const noexcept {
    return segments_.size() > 1 && segments_[1].base_seq <= std::max(state_.first_seq, consumed_);
  }

  /// A full segment that nobody has settled, the oldest first.
  std::optional<std::uint64_t> next_full_segment() const;
  /// It stays as it is.
  void mark_compress_skipped(std::uint64_t base_seq) noexcept {
    settled_seq_ = std::max(settled_seq_, base_seq);
  }
  /// The file `path` takes its place (LOG-6). 0, or a negative errno: `path` is removed.
  int replace_segment(std::uint64_t base_seq, const std::string& path, std::uint64_t bytes);

  /// Of the full segments, and of the last one.
  std::vector<std::uint64_t> bases() const;
  std::uint64_t full_bytes() const noexcept;
  struct thinned_part {
    std::uint64_t upto = 0;  // base of the first segment that is not, or is the last one
    std::uint64_t bytes = 0;
  };
  /// The segments from the oldest on that are thinned, as their headers say.
  thinned_part thinned();
  /// LOG-8. 0, or a negative errno. What could not be used of the copies is removed.
  int replace_segments(const std::vector<thinned_segment>& copies);

  /// Everything is on disk, and says so. `beyond`: of what was given out nothing is missing but, at
  /// most, so many; empty: that is not known.
  /// Errors: system
  result<void> close(std::optional<std::uint64_t> beyond = std::nullopt);
  /// REQUIRES: nobody publishes, or busd sees it
  void forget_reopening();

 private:
  struct segment {
    std::uint64_t base_seq = 0;
    std::uint64_t bytes = 0;
    std::optional<log::lane_time> first_time = {};
    std::optional<std::uint64_t> records = {};  // of a full one
    bool is_thinned = false;                    // known with `records`
    std::uint64_t latest_ns = ~0ull;  // no stamp in it, or in front of it, is later; ~0: not known
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
  std::uint64_t named_base_ = 0;        // the last segment whose name is durable
  std::vector<std::uint64_t> foreign_;  // names of files that are not this log's (LOG-10)
  std::uint64_t settled_seq_ = 0;       // base of the last segment that was settled
  log::disk_file file_ = -1;
  std::uint32_t align_ = 512;
  std::uint64_t offset_ = 0;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t next_seq_ = 1;
  std::uint64_t written_seq_ = 0;
  std::uint64_t durable_seq_ = 0;
  std::uint64_t unsynced_bytes_ = 0;  // of frames in the present segment
  std::uint64_t time_max_ns_ = 0;     // of the present segment; ~0: not known
  lane_clock clock_;
  std::uint64_t kept_up_ns_ = 0;  // of the clock, as the state or the bound has it
  std::uint32_t previous_crc_ = 0;
  log_identity who_;
  std::uint64_t index_due_ = 0;  // offset from which the next entry is due
  std::vector<layout::log_index_entry> index_pending_;
  std::uint64_t index_written_ = 0;  // entries
  std::uint64_t gap_first_ = 0;      // a gap that the next segment announces
  layout::log_gap gap_reason_ = layout::log_gap::none;
  std::uint64_t active_gap_first_ = 0;  // that the present segment announces
  layout::log_gap active_gap_reason_ = layout::log_gap::none;
  std::chrono::steady_clock::time_point segment_begun_{};
  std::optional<flight> in_flight_;
  // not 0: sequences from here on may be where the disk cannot read
  std::uint64_t unread_from_ = 0;
  bool is_intact_ = false;  // nothing that was durable is missing
  bool recovers_ = false;   // what cannot be read must not be left out
  bool poisoned_ = false;
  bool serves_ = false;
  std::uint64_t next_bytes_ = 0;  // of the file that was asked for; 0: none was
  std::uint64_t consumed_ = 0;    // spill: nobody needs what is below
  std::size_t closing_ = 0;  // files that were waiting to be closed when the last one was added
};

}  // namespace bus::storage
