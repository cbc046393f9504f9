#pragma once
/// delivery_checker: judges what a subscriber of one stream receives against the journal. It only
/// collects complaints, so that the checker's own tests can read them.
///
/// What it demands
///   1  Sequences of each lane rise by one; a jump is announced by exactly one gap that covers
///      it.
///   2  Each life's messages come once each, in order, from the first. A number is skipped only
///      within an announced gap.
///   3  Bytes, size, subject and headers are what the publisher wrote.
///   4  Nothing comes that was not begun. After a death everything that was done has come, and a
///      batch whole or not at all.
///   whole or not at all.

#include <bus/bus.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "journal.hpp"

namespace test {

enum class complaint_kind {
  lost,
  duplicate,
  altered,
  reordered,
  uncommitted,
  torn_batch,
  sequence,
  stalled,
  two_holders,   // of one message of a group
  dead_letters,  // one too many
  sums,          // counts that do not add up
  other
};
const char* complaint_name(complaint_kind kind) noexcept;

struct complaint {
  complaint_kind kind;
  std::string text;
};
bool any_is(const std::vector<complaint>& all, complaint_kind kind) noexcept;
/// One line per complaint, and how many more there were.
std::string report_of(const std::vector<complaint>& all, std::uint64_t more);

/// One message as it arrived.
struct arrival {
  std::uint64_t sequence = 0;
  std::string_view subject;
  std::span<const std::byte> payload;
  std::optional<std::string_view> header;  ///< "n"
  std::uint32_t lane = 0;
};

class delivery_checker {
 public:
  /// `early`: the subscriber reads large messages while they are written. A message that it read
  /// may be aborted later, and its sequence goes to the next message. That is no complaint if the
  /// publisher never got ok.
  explicit delivery_checker(const journal& lives, bool early = false)
      : lives_(lives), early_(early) {}

  void on_message(const arrival& message);
  void on_message(const bus::message& message);
  void on_gap(std::uint64_t first, std::uint64_t count, std::uint32_t lane = 0);
  void complain(complaint_kind kind, std::string text);

  /// REQUIRES: the publisher of `life` is dead, and all that it published has been polled.
  void settle(std::uint32_t life);

  std::uint64_t last_of(std::uint32_t life) const;
  /// The last sequence of the lane that arrived or was lost.
  std::uint64_t read_up_to(std::uint32_t lane) const {
    const auto next = next_sequences_.find(lane);
    return next == next_sequences_.end() ? 0 : next->second - 1;
  }
  std::uint64_t messages() const noexcept { return messages_; }
  std::uint64_t gaps() const noexcept { return gaps_; }
  std::uint64_t aborted() const noexcept { return aborted_; }
  const std::vector<complaint>& complaints() const noexcept { return complaints_; }
  bool has(complaint_kind kind) const;
  std::string report() const;

  /// REQUIRES: all lives are settled. With gaps, as many messages must be missing as the gaps
  /// announced.
  void settle_gaps();

 private:
  struct life_state {
    std::uint64_t last = 0;
    std::uint64_t gaps_seen = 0;  // gaps() when the last one arrived; a skip needs a newer gap
    bool settled = false;
  };

  const journal& lives_;
  const bool early_;
  std::map<std::uint32_t, life_state> states_;
  std::vector<complaint> complaints_;
  std::uint64_t complaints_dropped_ = 0;
  std::uint64_t messages_ = 0;
  std::map<std::uint32_t, std::uint64_t> next_sequences_;  // by lane; 0: the first one decides
  std::uint32_t last_life_ = 0;
  std::uint64_t last_number_ = 0;
  std::uint64_t gaps_ = 0;
  std::uint64_t gap_messages_ = 0;
  std::uint64_t missing_ = 0;        // numbers skipped
  std::uint64_t missing_maybe_ = 0;  // messages that may or may not have been published
  std::uint64_t aborted_ = 0;
};

}  // namespace test
