#pragma once
/// group_stage: a bus with a stream and a group, a surviving consumer in this process, and the
/// history of all consumers, for tests that kill other consumers.

#include <bus/bus.hpp>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "group_history.hpp"
#include "journal.hpp"
#include "scratch.hpp"
#include "stage.hpp"

namespace test {

/// A consumer that records what it does in the history.
class group_worker {
 public:
  static bus::result<group_worker> open(bus::session& session, group_history& history,
                                        std::uint32_t life, const bus::group_config& group);
  group_worker(group_worker&&) = default;
  ~group_worker();

  /// Claims messages and keeps them in hand. `start`: starts the leases. Returns how many.
  std::size_t fetch(std::size_t most, std::chrono::nanoseconds wait, bool start = true);
  std::size_t in_hand() const noexcept { return hand_.size(); }
  /// Settles one of the messages in hand.
  /// REQUIRES: at < in_hand()
  answer settle(std::size_t at, verb how, std::chrono::nanoseconds delay = {});
  answer extend(std::size_t at, std::optional<std::chrono::nanoseconds> duration = {});
  void settle_all(verb how, std::chrono::nanoseconds delay = {});
  std::uint64_t key_at(std::size_t at) const noexcept { return hand_[at].note->key; }
  /// Messages whose bytes differ from what was published.
  std::uint64_t altered() const noexcept { return altered_; }
  bus::consumer& consumer() noexcept { return consumer_; }

 private:
  struct piece {
    bus::lease lease;
    hold* note;
  };
  group_worker(bus::consumer consumer, group_history& history, std::uint32_t life)
      : consumer_(std::move(consumer)), history_(&history), life_(life) {}

  bus::consumer consumer_;
  std::vector<piece> hand_;
  group_history* history_;
  std::uint32_t life_;
  std::uint64_t altered_ = 0;
};

/// Publishes stamped messages with keys.
class keyed_publisher {
 public:
  static bus::result<keyed_publisher> open(bus::session& session, const std::string& subject,
                                           std::uint32_t life, std::uint32_t lane, unsigned keys);
  /// `key`: 1 to keys, 0: a random one.
  bus::publish_status one(std::mt19937_64& random, std::size_t bytes, unsigned key = 0);
  bus::error last_error() const { return publisher_.last_error(); }

 private:
  keyed_publisher(bus::publisher publisher, std::string subject, std::uint32_t life, unsigned keys)
      : publisher_(std::move(publisher)), subject_(std::move(subject)), life_(life), keys_(keys) {}

  bus::publisher publisher_;
  std::string subject_;
  std::uint32_t life_;
  unsigned keys_;
  std::uint64_t number_ = 0;
};

class group_stage {
 public:
  struct options {
    bus::stream_config stream;
    bus::group_config group;  ///< name and stream are filled in
    unsigned keys = 4;
    bool fill_letters = false;  ///< fills the dead letters before each round
  };
  explicit group_stage(options wanted);

  const scratch& place() const noexcept { return place_; }
  bus::session& session() noexcept { return *session_; }
  const bus::group_config& group() const noexcept { return wanted_.group; }
  group_history& history() noexcept { return *history_; }
  group_checker& checker() noexcept { return checker_; }
  remark& why() noexcept { return *why_; }
  std::uint32_t new_life() { return history_->new_life(); }
  std::string url(const std::string& more = "") const { return place_.url("t", more); }
  bus::group_counts counts();
  unsigned keys() const noexcept { return wanted_.keys; }
  std::uint32_t lanes() const noexcept { return wanted_.stream.lanes; }

  /// Begins a round: all is settled, and the history is empty.
  void begin_round();
  void publish(std::size_t count);
  /// Checks that the counts agree with the history so far.
  /// REQUIRES: no consumer works.
  void look();
  /// The survivor settles the rest, and the round is judged. Returns the nanoseconds from
  /// `since_ns` to the survivor's first message; 0: none was left.
  std::int64_t drain(std::int64_t since_ns = 0);
  /// Checks that a window of messages can be claimed and settled, and that no slot, block, key or
  /// timer leaks.
  void expect_as_new();

 private:
  bus::result<void> set_up();
  void take_lock_over();
  std::vector<lane_span> spans();
  void read_letters();
  group_outcome outcome(bool drained);
  void fill_letters();
  bool settle_until_empty(std::int64_t since_ns, std::int64_t& first_ns);

  options wanted_;
  scratch place_;
  shared_value<group_history> history_;
  shared_value<remark> why_;
  group_checker checker_;
  std::optional<bus::session> session_;
  std::vector<keyed_publisher> publishers_;
  std::optional<group_worker> survivor_;
  std::mt19937_64 random_{11};
  std::vector<std::uint64_t> begun_at_;  // last sequence of each lane before the round
  bus::group_counts before_;
  std::shared_ptr<bus::session_core> repairer_;
  std::vector<std::uint64_t> letters_;  // origins of this round's letters
  std::uint64_t next_letter_ = 1, letters_before_ = 0;
  bool failed_ = false;
};

}  // namespace test
