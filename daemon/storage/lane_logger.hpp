#pragma once
/// lane_logger: takes what is published to one lane and writes it to the lane's log.
///
/// Invariants
///   LOGGER-1  logged_position never passes what is in the log (durable streams with fsync=batch:
///       what is synced), and is always the position of a waypoint, so that the next busd finds its
///       position in the ring.
///   LOGGER-2  durable_seq never passes what a sync covered.
///   LOGGER-3  Before a sequence can be given out, a high water above it is on disk: publishers are
///       at most one ring ahead of logged_position.
///   LOGGER-5  A batch lies in one frame. Its publisher refused one that no buffer could hold.
///   LOGGER-4  After a failure the logger returns, in the ring, to the first record that is not in
///       the log.
///
/// Threads    one at a time: the keeper's before attach() to the engine and after detach(), the
///            engine's in between

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "registry/session_core.hpp"
#include "registry/writer_gate.hpp"
#include "ring/lane_reader.hpp"
#include "storage/lane_facts.hpp"
#include "storage/lane_log.hpp"
#include "storage/segment_worker.hpp"
#include "storage/subject_log.hpp"

namespace bus::storage {

/// The buffers in which frames are built, shared by all lanes.
class buffer_pool {
 public:
  buffer_pool(log::disk& on, std::size_t count, std::size_t bytes);
  /// -1: all are in use.
  int take() noexcept;
  void give_back(int index) noexcept { free_.push_back(index); }
  std::span<std::byte> bytes(int index) const noexcept {
    return buffers_[static_cast<std::size_t>(index)].bytes();
  }
  std::size_t buffer_bytes() const noexcept { return buffer_bytes_; }
  bool registered() const noexcept { return registered_; }

 private:
  std::vector<frame_memory> buffers_;
  std::vector<int> free_;
  std::size_t buffer_bytes_;
  bool registered_ = false;
};

class lane_logger {
 public:
  using clock = std::chrono::steady_clock;

  lane_logger(session_core& session, std::shared_ptr<registry::stream_handle> stream,
              std::shared_ptr<registry::lane_map> lane, std::unique_ptr<lane_log> log,
              std::shared_ptr<subject_log> subjects, registry::process_table& peers,
              buffer_pool& buffers, segment_worker& worker, std::uint64_t token);
  ~lane_logger();

  /// Finds the position in the ring where the log ends. After that no call takes long.
  /// Errors: corrupt (the ring does not have the next record of the log), busy, no_space, system
  result<void> take_over();

  /// Gathers records, and begins a commit unless one is in flight. True: it did something.
  bool work(clock::time_point now);
  void finished(int failure);
  /// Retention, upkeep of full segments, a sync that is due, a mark when idle.
  void housekeep(clock::time_point now);
  /// Whether records may be waiting in the ring.
  bool has_news() noexcept;
  bool in_flight() const noexcept { return log_->in_flight(); }
  bool has_problem() const noexcept { return problem_.has_value() || waits_; }
  /// Whether gathered records wait for the next segment, which is being made.
  bool waits_for_space() const noexcept { return waits_ || (problem_ && log_->is_poisoned()); }
  /// Gives back what belongs to the engine. What was gathered and not begun is gathered again.
  /// REQUIRES: not in flight
  void let_go() noexcept;
  /// The disk is too full: publishers are stopped, but what is in the ring is still written.
  void set_full(bool yes);
  /// Called before the last rounds. From then on a publisher gives out sequences only after it has
  /// recorded that in the log.
  void stop_publishing();
  /// Makes everything durable that can be, and records the end of the log. Blocks.
  void close();
  /// Makes durable what is written.
  /// REQUIRES: not in flight.
  /// Errors: system
  result<void> sync();
  /// Errors: no_space, system
  result<void> purge(std::uint64_t below);
  void set_config(const stream_config& config);

  lane_log& log() noexcept { return *log_; }
  registry::stream_handle& stream() noexcept { return *stream_; }
  const registry::lane_map& lane() const noexcept { return *lane_; }
  std::uint64_t token() const noexcept { return token_; }
  layout::log_health health() const noexcept;
  const std::shared_ptr<lane_facts>& facts() const noexcept { return facts_; }
  /// Set once per problem, and with `ok` when it is over; the engine takes it for the log line and
  /// the event.
  std::optional<error> take_wake_request() noexcept { return std::exchange(news_, std::nullopt); }

 private:
  struct sink;
  struct filling {
    int buffer = -1;
    log::frame_builder frame;
    std::uint64_t end_position = 0;
    std::uint64_t begin_position = 0, begin_seq = 0;
    /// Where the last batch began that was gathered incompletely (LOGGER-5).
    bool in_batch = false;
    std::uint64_t batch_position = 0, batch_seq = 0, batch_bytes = 0;
    std::uint32_t batch_count = 0;
    bool is_sealed = false;  // the next batch does not fit and goes into a frame of its own
  };

  bool gather();
  bool begin();
  void take_copies(clock::time_point now);
  void keep_up(clock::time_point now);
  bool position_reader(std::uint64_t next_seq);
  bool choose_spill();
  void publish_progress(std::uint64_t end_position);
  void report_problem(error why);
  void recover_from_problem(clock::time_point now);
  void announce_health();
  void all_is_well();
  void publish_readable() noexcept;
  bool save_subjects();
  void drop_filling() noexcept;
  void publish_facts() noexcept;
  bool syncs_each() const noexcept {
    return lane_->memory().kept == layout::storage::durable && config_.fsync == fsync_policy::batch;
  }
  bool spills() const noexcept { return lane_->memory().kept == layout::storage::spill; }
  layout::lane_durability& words() const noexcept { return lane_->header().durability; }

  session_core& session_;
  std::shared_ptr<registry::stream_handle> stream_;
  std::shared_ptr<registry::lane_map> lane_;
  std::unique_ptr<lane_log> log_;
  std::shared_ptr<subject_log> subjects_;
  buffer_pool& buffers_;
  segment_worker& worker_;
  const std::uint64_t token_;
  stream_config config_;
  registry::writer_gate gate_;  // the readers, for a lane that spills
  ring::lane_reader<sync::hardware> reader_;
  os::tick_clock clock_;
  std::optional<filling> filling_;
  int flight_buffer_ = -1;
  std::uint64_t flight_end_ = 0;
  std::uint64_t flight_bytes_ = 0;
  std::uint64_t stored_position_ = 0;
  std::uint32_t highest_subject_ = 0;
  bool has_subject_ = false;
  bool spilling_ = false;
  bool full_ = false;
  bool lost_position_ = false;
  bool waits_ = false;
  std::optional<error> problem_, news_;
  errc said_ = errc::ok;  // code of the problem that was reported last
  clock::time_point retry_at_{}, last_sync_{}, last_commit_{}, next_retention_{}, next_upkeep_{},
      next_look_for_newcomers_{};
  // Publishing has stopped, except for at most this many messages.
  std::optional<std::uint64_t> beyond_;
  bool marked_ = true;
  /// The full segments that existed at the last thinning; empty: not known yet.
  std::optional<lane_log::thinned_part> thinned_;
  const std::shared_ptr<lane_facts> facts_ = std::make_shared<lane_facts>();
};

}  // namespace bus::storage
