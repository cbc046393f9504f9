#include "delivery_checker.hpp"

#include <algorithm>

namespace test {

namespace {

constexpr std::size_t complaints_max = 20;

std::string name_of(std::uint32_t life, std::uint64_t number) {
  return "message " + std::to_string(number) + " of life " + std::to_string(life);
}

}  // namespace

const char* complaint_name(complaint_kind kind) noexcept {
  switch (kind) {
    case complaint_kind::lost: return "lost";
    case complaint_kind::duplicate: return "duplicate";
    case complaint_kind::altered: return "altered";
    case complaint_kind::reordered: return "reordered";
    case complaint_kind::uncommitted: return "uncommitted";
    case complaint_kind::torn_batch: return "torn batch";
    case complaint_kind::sequence: return "sequence";
    case complaint_kind::stalled: return "stalled";
    case complaint_kind::two_holders: return "two holders";
    case complaint_kind::dead_letters: return "dead letters";
    case complaint_kind::sums: return "sums";
    case complaint_kind::other: break;
  }
  return "other";
}

void delivery_checker::complain(complaint_kind kind, std::string text) {
  if (complaints_.size() < complaints_max)
    complaints_.push_back({kind, std::move(text)});
  else
    ++complaints_dropped_;
}

void delivery_checker::on_message(const bus::message& message) {
  if (early_ && !message.wait_available(message.size())) {
    ++aborted_;  // its publisher died while writing: never complete, never counted
    return;
  }
  on_message(arrival{message.sequence(), message.subject(), message.payload(), message.header("n"),
                     message.lane()});
}

void delivery_checker::on_message(const arrival& message) {
  ++messages_;
  std::uint64_t& next_sequence = next_sequences_[message.lane];
  if (next_sequence != 0 && message.sequence != next_sequence) {
    const bool again = early_ && message.sequence + 1 == next_sequence &&
                       lives_[last_life_].done.load(std::memory_order_acquire) < last_number_;
    if (!again)
      complain(complaint_kind::sequence, "sequence " + std::to_string(message.sequence) +
                                             " came, " + std::to_string(next_sequence) +
                                             " was expected");
  }
  next_sequence = message.sequence + 1;

  stamp s;
  if (message.payload.size() < sizeof s)
    return complain(complaint_kind::altered,
                    "sequence " + std::to_string(message.sequence) + " is too short");
  std::memcpy(&s, message.payload.data(), sizeof s);
  if (s.magic != stamp::mark || s.check != check_of(s) || s.life >= lives_max)
    return complain(complaint_kind::altered,
                    "sequence " + std::to_string(message.sequence) + " has a broken stamp");
  last_life_ = s.life;
  last_number_ = s.number;
  const std::string name = name_of(s.life, s.number);
  bool intact = s.bytes == message.payload.size();
  for (std::size_t i = sizeof s; intact && i < message.payload.size(); ++i)
    intact = message.payload[i] == filler(s, i);
  if (!intact) complain(complaint_kind::altered, name + " has other bytes");
  if (fnv(message.subject) != s.subject_hash)
    complain(complaint_kind::altered,
             name + " came with subject '" + std::string(message.subject) + "'");
  if ((message.header ? fnv(*message.header) : 0) != s.header_hash)
    complain(complaint_kind::altered, name + " has other headers");

  life_state& life = states_[s.life];
  if (life.settled)
    complain(complaint_kind::duplicate, name + " came after the end of its publisher was settled");
  if (s.number > lives_[s.life].begun.load(std::memory_order_acquire))
    complain(complaint_kind::uncommitted, name + " came, its publisher has not got so far");
  if (s.number == life.last) {
    complain(complaint_kind::duplicate, name + " came again");
  } else if (s.number < life.last) {
    complain(complaint_kind::reordered, name + " came after " + std::to_string(life.last));
  } else {
    if (s.number != life.last + 1) {
      if (gaps_ == life.gaps_seen)
        complain(complaint_kind::lost,
                 name + " came after " + std::to_string(life.last) + ", no gap was reported");
      missing_ += s.number - life.last - 1;
    }
    life.last = s.number;
  }
  life.gaps_seen = gaps_;
}

void delivery_checker::on_gap(std::uint64_t first, std::uint64_t count, std::uint32_t lane) {
  ++gaps_;
  std::uint64_t& next_sequence = next_sequences_[lane];
  gap_messages_ += count;
  if (next_sequence != 0 && first != next_sequence)
    complain(complaint_kind::sequence, "a gap from " + std::to_string(first) + " was reported, " +
                                           std::to_string(next_sequence) + " was expected");
  next_sequence = first + count;
}

void delivery_checker::settle(std::uint32_t life) {
  const std::uint64_t begun = lives_[life].begun.load(std::memory_order_acquire);
  const std::uint64_t done = lives_[life].done.load(std::memory_order_acquire);
  life_state& state = states_[life];
  if (state.settled) return;
  state.settled = true;
  const bool excused = gaps_ != state.gaps_seen;
  const std::uint64_t last = state.last;
  if (last < done) {
    if (!excused)
      complain(
          complaint_kind::lost,
          name_of(life, done) + " was published, the last that came is " + std::to_string(last));
    missing_ += done - last;
    missing_maybe_ += begun - done;
  } else if (last != done && last != begun) {
    if (!excused)
      complain(complaint_kind::torn_batch, "of life " + std::to_string(life) + " a batch " +
                                               std::to_string(done + 1) + ".." +
                                               std::to_string(begun) + " was under way, " +
                                               std::to_string(last) + " came last");
    missing_maybe_ += begun - last;
  } else if (excused) {
    missing_maybe_ += begun - last;
  }
}

void delivery_checker::settle_gaps() {
  if (gap_messages_ < missing_ || gap_messages_ > missing_ + missing_maybe_)
    complain(complaint_kind::lost, "the gaps announced " + std::to_string(gap_messages_) +
                                       " messages, " + std::to_string(missing_) + " to " +
                                       std::to_string(missing_ + missing_maybe_) + " are missing");
}

std::uint64_t delivery_checker::last_of(std::uint32_t life) const {
  const auto found = states_.find(life);
  return found == states_.end() ? 0 : found->second.last;
}

bool delivery_checker::has(complaint_kind kind) const { return any_is(complaints_, kind); }
std::string delivery_checker::report() const { return report_of(complaints_, complaints_dropped_); }

bool any_is(const std::vector<complaint>& all, complaint_kind kind) noexcept {
  return std::any_of(all.begin(), all.end(), [&](const complaint& c) { return c.kind == kind; });
}

std::string report_of(const std::vector<complaint>& all, std::uint64_t more) {
  std::string text;
  for (const complaint& c : all)
    text += std::string("\n  ") + complaint_name(c.kind) + ": " + c.text;
  if (more != 0) text += "\n  and " + std::to_string(more) + " more";
  return text;
}

}  // namespace test
