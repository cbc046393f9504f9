#pragma once
/// group_history: what a test's consumers record about each message that they held, in memory
/// that survives them, and the checker that judges it. The checker only collects complaints, so
/// that its own tests can read them.
///
/// What it demands
///   1  Every message is settled once, or is a dead letter once, and never both; none is lost. An
///      ack that returned ok has settled. An ack whose caller died in it may have.
///   2  No consumer gets a message while its holder could still settle it: it was given back, or
///      its lease had ended, or its holder was dead. At most one of two holders gets ok.
///   3  Of one key (order key; of all, with order total) one message is out at a time, and
///      without skipping in the order of the lane.
///   4  The counts of the group are those of the history.

#include <bus/bus.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "delivery_checker.hpp"

namespace test {

enum class verb : std::uint8_t { none, ack, nack, release, reject, let_go };
enum class answer : std::uint8_t { none, begun, ok, stale, busy };

/// One message held by one consumer.
struct hold {
  /// sequence << 8 | lane; written last. 0: the consumer died before.
  std::atomic<std::uint64_t> origin{0};
  std::uint64_t key = 0;  ///< 0: none
  std::int64_t asked_ns = 0, got_ns = 0;
  std::atomic<std::int64_t> extended_ns{0};  ///< when the last extension was requested
  std::atomic<std::int64_t> begun_ns{0};
  std::uint32_t life = 0, token = 0, acquired = 0;
  std::atomic<verb> what{verb::none};
  std::atomic<answer> said{answer::none};

  std::uint64_t sequence() const noexcept { return origin.load(std::memory_order_relaxed) >> 8; }
  std::uint32_t lane() const noexcept { return origin.load(std::memory_order_relaxed) & 0xff; }
};

/// Kept in a shared_value. A life is a consumer from joining to leaving or death.
struct group_history {
  static constexpr std::size_t holds_max = 3'000'000;
  std::atomic<std::uint64_t> used{0};
  std::atomic<std::uint32_t> lives{1};       ///< 0 is the survivor
  std::atomic<std::uint64_t> operations{0};  ///< claims and settlements that were attempted
  std::array<std::atomic<std::int64_t>, lives_max> ended_ns{};  ///< began to leave, or to die
  std::array<hold, holds_max> holds;

  /// Null: the history is full.
  hold* next() noexcept {
    const std::uint64_t at = used.fetch_add(1, std::memory_order_relaxed);
    return at < holds_max ? &holds[at] : nullptr;
  }
  std::uint32_t new_life() noexcept {
    const std::uint32_t life = lives.fetch_add(1, std::memory_order_relaxed);
    if (life >= lives_max) std::abort();
    return life;
  }
  bool is_full() const noexcept {
    return used.load(std::memory_order_relaxed) + 10'000 > holds_max;
  }
  /// Forgets all holds.
  /// REQUIRES: no process writes.
  void forget() noexcept;
};

struct lane_span {
  std::uint64_t first = 1, last = 0;  ///< sequences
};

/// The group's own account, next to what its consumers recorded.
struct group_outcome {
  std::vector<lane_span> lanes;
  std::vector<std::uint64_t> dead;  ///< origins of the dead letters of these messages
  std::uint64_t letters = 0;        ///< written meanwhile, also for older messages
  bus::group_counts before, now;    ///< before the first and after the last of these sequences
  std::uint64_t filtered = 0;       ///< published, but not for the group
  bool drained = true;              ///< all were handed out and settled
};

class group_checker {
 public:
  explicit group_checker(bus::group_config config) : config_(std::move(config)) {}

  void judge(const group_history& history, const group_outcome& outcome);
  void complain(complaint_kind kind, std::string text);

  std::uint64_t judged() const noexcept { return judged_; }
  const std::vector<complaint>& complaints() const noexcept { return complaints_; }
  bool has(complaint_kind kind) const;
  std::string report() const;

 private:
  using holds_of = std::vector<const hold*>;
  struct fate {
    bool settled = false, maybe = false;
  };
  fate judge_message(const group_history& history, const holds_of& all, std::uint64_t dead);
  void judge_key(std::vector<const hold*> all);
  void judge_counts(const group_outcome& outcome, std::uint64_t settled, std::uint64_t maybe,
                    std::uint64_t nowhere);

  bus::group_config config_;
  std::vector<complaint> complaints_;
  std::uint64_t complaints_dropped_ = 0;
  std::uint64_t judged_ = 0;
};

}  // namespace test
