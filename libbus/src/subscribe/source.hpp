#pragma once
/// source: one lane as a subscriber reads it: reader, pin, announcement, and the subjects it has
/// learned.
///
/// Threads    the subscriber's

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <bus/subscriber.hpp>

#include "registry/log_tail.hpp"
#include "registry/session_core.hpp"
#include "ring/lane_reader.hpp"
#include "sync/words.hpp"

namespace bus::detail {

struct source {
  using reader_type = ring::lane_reader<sync::hardware>;

  /// What a subscriber wants from all its sources.
  struct wish {
    std::vector<subject::pattern> patterns;
    bool everything = false;       // one of them matches all subjects
    std::uint64_t type = 0;        // typed subscribers
    std::uint64_t type_bytes = 0;  // every payload has this size
    bool gate = true;
    bool early = false;
    bool in_place = false;
    bool may_sleep = true;
    const std::atomic<bool>* stopped = nullptr;  // stop() of the subscriber was called
    std::string label;
    std::uint32_t id = 0;
  };

  /// Claims a slot, announces it and enters the lane.
  /// Errors: no_space, corrupt, unsupported, permission, closed
  static result<std::unique_ptr<source>> attach(session_core& session,
                                                std::shared_ptr<registry::stream_handle> stream,
                                                std::uint32_t lane, const wish& wanted,
                                                const start& from);
  /// For a group: without a slot, a pin and a position of its own.
  /// Errors: corrupt, unsupported, permission
  static result<std::unique_ptr<source>> observe(session_core& session,
                                                 std::shared_ptr<registry::stream_handle> stream,
                                                 std::uint32_t lane, const wish& wanted);
  /// Finds the position of `from` and holds it with `held`. The reader is there afterwards.
  result<void> enter_through(ring::pin_words& held, const start& from);
  ~source();

  /// Whether the record's subject matches. Learns a subject at its first record.
  enum class match : std::uint8_t { unknown, no, yes };
  match match_of(const ring::record_view& view) noexcept {
    const std::uint32_t id = view.subject_id();
    if (id < matches.size() && matches[id] != match::unknown) [[likely]]
      return matches[id];
    return learn(view);
  }
  /// Of a typed reader: true if the record carries its type. `mismatch` describes one that does
  /// not.
  bool carries_type(const ring::record_view& view) noexcept;
  /// Without learning: also false for a subject that is not known yet.
  bool is_wanted(std::uint32_t id) const noexcept {
    return id < matches.size() && matches[id] == match::yes;
  }
  std::string_view subject_of(std::uint32_t id) const noexcept {
    return id < texts.size() ? texts[id] : std::string_view();
  }

  bool has_log() const noexcept { return lane->memory().has_log(); }
  /// Reads the log from `seq` on. False: that is impossible; see `failed`.
  bool go_to_log(std::uint64_t seq) noexcept;
  /// Continues in the ring. False: the ring does not have the next record now.
  bool go_to_ring() noexcept;
  std::uint64_t logged_seq() const noexcept {
    return sync::load_acquire(lane->header().durability.logged_seq);  // [D1]
  }
  /// Of a start at the last message of each subject: true if this one is skipped.
  bool is_passed_over(std::uint64_t seq) noexcept {
    if (seq > join_seq) return join_seq = 0, chosen.clear(), false;
    return !std::binary_search(chosen.begin(), chosen.end(), seq);
  }
  /// Of a start at the last message: the newest message of this lane, by subject or of all. If
  /// another lane has a newer one, this one is not handed out.
  struct newest_message {
    std::uint64_t seq = 0;
    std::uint64_t stamp = 0;
    bool of_log = false;  // the stamp is the wall clock

    bool is_before(const newest_message& other, const os::tick_clock& by) const noexcept {
      if (of_log == other.of_log) return stamp < other.stamp;
      return wall(by) < other.wall(by);
    }
    std::uint64_t wall(const os::tick_clock& by) const noexcept {
      return of_log ? stamp : by.to_wall_ns(stamp);
    }
  };
  std::map<std::string, newest_message, std::less<>> newest;
  /// Keeps only the newest message of each subject among all sources of a subscriber.
  static void align_newest(std::span<const std::unique_ptr<source>> sources);

  bool ready() const noexcept;
  bool closed() const noexcept {
    return lane->is_lost() || sync::load_acquire(lane->header().counters.closed) != 0;
  }
  /// Of a removed stream: true if nothing more can be published to the lane.
  bool has_ended() noexcept;
  void release() noexcept {
    reader.release();
    sync::store_relaxed(pin->delivered, delivered);
    sync::store_relaxed(pin->lost, lost);
  }
  void tick() noexcept;

  session_core* session = nullptr;
  const wish* wanted = nullptr;
  std::shared_ptr<registry::stream_handle> stream;
  std::shared_ptr<registry::lane_map> lane;
  os::tick_clock clock;
  reader_type reader;
  ring::pin_words* pin = nullptr;
  layout::slot* slot = nullptr;
  std::vector<match> matches;           // by subject id
  std::vector<std::string_view> texts;  // by subject id
  std::optional<error> failed;          // the lane cannot be read further
  // A typed subscriber found another type: only that subject is left out.
  std::optional<error> mismatch;
  std::uint64_t delivered = 0, lost = 0, gaps = 0, aborted = 0, replayed = 0;
  std::unique_ptr<registry::log_tail> tail;  // set: the next record is read from the log
  std::vector<std::uint64_t> chosen;         // up to join_seq, only these
  std::uint64_t join_seq = 0;
  // The requested start is older than what the ring has.
  std::optional<std::uint64_t> first_gap_from;
  bool draining = false;  // its stream was removed: read what is left
  std::chrono::steady_clock::time_point draining_since{};
  std::uint32_t empty_looks = 0;

 private:
  match learn(const ring::record_view& view) noexcept;
  match fail_on(const ring::record_view& view, error why) noexcept;
  result<void> announce();
  void withdraw() noexcept;
  result<void> enter_readable(const start& from);
  result<void> enter(const start& from);
  std::uint64_t readable_from() const noexcept {
    return sync::load_acquire(lane->header().counters.readable_from);
  }
  result<void> enter_log(const start& from);
  result<void> choose_last_per_subject();
  result<bool> find_last_in_log();
  bool wants_subject(std::string_view subject) const noexcept;

  std::uint32_t slot_index_ = 0;
  bool has_slot_ = false;
  std::optional<std::uint32_t> entry_;  // in the lane's readers table
};

}  // namespace bus::detail
