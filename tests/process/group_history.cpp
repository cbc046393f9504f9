#include "group_history.hpp"

#include <algorithm>
#include <cstring>

namespace test {

namespace {

constexpr std::size_t complaints_max = 20;

std::string name_of(std::uint64_t origin) {
  return "message " + std::to_string(origin >> 8) + " of lane " + std::to_string(origin & 0xff);
}
std::string who(const hold& one) {
  return "consumer " + std::to_string(one.life) + " (token " + std::to_string(one.token) + ")";
}
std::uint64_t origin_of(const hold& one) { return one.origin.load(std::memory_order_relaxed); }
verb what(const hold& one) { return one.what.load(std::memory_order_relaxed); }
answer said(const hold& one) { return one.said.load(std::memory_order_acquire); }
std::int64_t begun(const hold& one) { return one.begun_ns.load(std::memory_order_relaxed); }

}  // namespace

void group_history::forget() noexcept {
  const std::uint64_t count = std::min<std::uint64_t>(used.load(), holds_max);
  for (std::uint64_t i = 0; i < count; ++i) new (&holds[i]) hold{};
  used.store(0);
}

void group_checker::complain(complaint_kind kind, std::string text) {
  if (complaints_.size() < complaints_max)
    complaints_.push_back({kind, std::move(text)});
  else
    ++complaints_dropped_;
}

bool group_checker::has(complaint_kind kind) const { return any_is(complaints_, kind); }
std::string group_checker::report() const { return report_of(complaints_, complaints_dropped_); }

// `all` is sorted by token, which is the order of the leases.
group_checker::fate group_checker::judge_message(const group_history& history, const holds_of& all,
                                                 std::uint64_t dead) {
  fate found;
  std::int64_t held_until = 0;
  const hold* before = nullptr;
  for (const hold* one : all) {
    const std::string name = name_of(origin_of(*one));
    if (before != nullptr) {
      if (before->token == one->token)
        complain(complaint_kind::two_holders,
                 name + ": " + who(*one) + " and " + who(*before) + " have one lease");
      if (found.settled)
        complain(complaint_kind::duplicate,
                 name + " came to " + who(*one) + " after it was settled");
      if (one->got_ns < held_until)
        complain(complaint_kind::two_holders,
                 name + " had gone to " + who(*one) + " when an older lease got ok");
      const verb did = what(*before);
      const bool gave =
          (said(*before) == answer::begun && did != verb::ack) ||
          (said(*before) == answer::ok && (did == verb::nack || did == verb::release));
      const std::int64_t ended = history.ended_ns[before->life].load(std::memory_order_acquire);
      const std::int64_t since = std::max(before->asked_ns, before->extended_ns.load());
      // The bus's clock may be slightly faster than this one.
      const std::int64_t wait = config_.ack_wait.count() - config_.ack_wait.count() / 1000;
      const bool expired = wait != 0 && one->got_ns - since >= wait;
      if (!gave && !(ended != 0 && ended <= one->got_ns) && !expired)
        complain(complaint_kind::duplicate,
                 name + " came to " + who(*one) + ", but " + who(*before) + " had it");
    }
    if (said(*one) == answer::ok) held_until = std::max(held_until, begun(*one));
    if (what(*one) == verb::ack) {
      if (said(*one) == answer::ok) {
        if (found.settled) complain(complaint_kind::two_holders, name + " was settled twice");
        found.settled = true;
      } else if (said(*one) == answer::begun) {
        found.maybe = true;
      }
    }
    if (config_.max_deliver > 0 && one->acquired > 4000)
      complain(complaint_kind::other, name + " goes round and round");
    before = one;
  }
  if (dead > 1)
    complain(complaint_kind::dead_letters, name_of(origin_of(*all[0])) + " is a dead letter twice");
  if (dead != 0 && found.settled)
    complain(complaint_kind::dead_letters,
             name_of(origin_of(*all[0])) + " is settled, and a dead letter");
  return found;
}

// For the messages of one key, or all: a hold that got ok lasted from claim to settlement.
void group_checker::judge_key(std::vector<const hold*> all) {
  std::sort(all.begin(), all.end(),
            [](const hold* a, const hold* b) { return a->got_ns < b->got_ns; });
  const hold* longest = nullptr;
  for (const hold* one : all) {
    if (said(*one) != answer::ok) continue;
    if (longest != nullptr && one->got_ns < begun(*longest) &&
        origin_of(*one) != origin_of(*longest))
      complain(complaint_kind::reordered, name_of(origin_of(*one)) + " and " +
                                              name_of(origin_of(*longest)) +
                                              " of one key were out at once");
    if (longest == nullptr || begun(*one) > begun(*longest)) longest = one;
  }
  if (config_.on_fail == bus::on_fail::skip) return;
  // Every claim of the earlier message precedes the first claim of the later one.
  std::sort(all.begin(), all.end(), [](const hold* a, const hold* b) {
    return std::pair(a->lane(), a->sequence()) < std::pair(b->lane(), b->sequence());
  });
  std::int64_t last_asked = 0;
  const hold* last = nullptr;
  for (std::size_t i = 0, end = 0; i < all.size(); i = end) {
    std::int64_t first_got = INT64_MAX, asked = 0;
    for (end = i; end < all.size() && origin_of(*all[end]) == origin_of(*all[i]); ++end) {
      first_got = std::min(first_got, all[end]->got_ns);
      asked = std::max(
          {asked, all[end]->asked_ns, said(*all[end]) == answer::ok ? begun(*all[end]) : 0});
    }
    if (last != nullptr && last->lane() == all[i]->lane() && first_got < last_asked)
      complain(complaint_kind::reordered, name_of(origin_of(*all[i])) + " came before " +
                                              name_of(origin_of(*last)) + " of its key was done");
    if (last == nullptr || last->lane() != all[i]->lane() || asked > last_asked)
      last_asked = asked, last = all[i];
  }
}

void group_checker::judge_counts(const group_outcome& outcome, std::uint64_t settled,
                                 std::uint64_t maybe, std::uint64_t nowhere) {
  const auto& b = outcome.before;
  const auto& n = outcome.now;
  std::uint64_t published = 0;
  for (const lane_span& lane : outcome.lanes) published += lane.last + 1 - lane.first;
  const std::string parts = std::to_string(n.settled - b.settled) + " settled, " +
                            std::to_string(n.filtered - b.filtered) + " filtered, " +
                            std::to_string(n.dropped - b.dropped) + " dropped, " +
                            std::to_string(n.dead - b.dead) + " dead, " +
                            std::to_string(n.pending + n.unclaimed) + " pending";
  const auto must = [&](const char* name, std::uint64_t is, std::uint64_t least,
                        std::uint64_t most) {
    if (is < least || is > most)
      complain(complaint_kind::sums, std::string(name) + " counts " + std::to_string(is) +
                                         ", the history says " + std::to_string(least) +
                                         (most == least ? "" : " to " + std::to_string(most)) +
                                         "; of " + std::to_string(published) + " " + parts);
  };
  const std::uint64_t pending = n.pending + n.unclaimed, pending_before = b.pending + b.unclaimed;
  must("all",
       (n.settled - b.settled) + (n.filtered - b.filtered) + (n.dropped - b.dropped) +
           (n.dead - b.dead) + pending,
       published + pending_before, published + pending_before);
  must("settled", n.settled - b.settled, settled, settled + maybe);
  if (!outcome.drained) return;
  must("pending", pending, 0, 0);
  must("filtered", n.filtered - b.filtered, outcome.filtered, outcome.filtered);
  if (config_.dead_letters) must("dead", n.dead - b.dead, outcome.letters, outcome.letters);
  // A message that no consumer reports as settled was lost by the ring or given up without a dead
  // letter.
  const std::uint64_t excused =
      (n.dropped - b.dropped) + (config_.dead_letters ? 0 : n.dead - b.dead) + outcome.filtered;
  if (nowhere > excused)
    complain(complaint_kind::lost, std::to_string(nowhere) +
                                       " messages are neither settled nor dead letters, " +
                                       std::to_string(excused) + " of them may be");
}

void group_checker::judge(const group_history& history, const group_outcome& outcome) {
  holds_of all;
  const auto used = std::min<std::uint64_t>(history.used.load(std::memory_order_acquire),
                                            group_history::holds_max);
  for (std::uint64_t i = 0; i < used; ++i)
    if (history.holds[i].origin.load(std::memory_order_acquire) != 0)
      all.push_back(&history.holds[i]);
  std::sort(all.begin(), all.end(), [](const hold* a, const hold* b) {
    return std::pair(origin_of(*a), a->token) < std::pair(origin_of(*b), b->token);
  });
  std::map<std::uint64_t, std::uint64_t> dead;
  for (const std::uint64_t origin : outcome.dead) ++dead[origin];

  std::uint64_t settled = 0, maybe = 0, nowhere = 0, seen = 0;
  const auto next_message = [&](std::size_t from) {
    std::size_t end = from;
    while (end < all.size() && origin_of(*all[end]) == origin_of(*all[from])) ++end;
    return end;
  };
  for (std::size_t i = 0, end = 0; i < all.size(); i = end, ++seen) {
    end = next_message(i);
    const std::uint64_t origin = origin_of(*all[i]);
    const auto letters = dead.find(origin);
    const std::uint64_t times = letters == dead.end() ? 0 : letters->second;
    const lane_span span =
        all[i]->lane() < outcome.lanes.size() ? outcome.lanes[all[i]->lane()] : lane_span();
    if (all[i]->sequence() < span.first || all[i]->sequence() > span.last)
      complain(complaint_kind::uncommitted, name_of(origin) + " came, but it is none of these");
    const holds_of one(all.begin() + static_cast<std::ptrdiff_t>(i),
                       all.begin() + static_cast<std::ptrdiff_t>(end));
    const fate found = judge_message(history, one, times);
    settled += found.settled ? 1 : 0;
    maybe += !found.settled && times == 0 && found.maybe ? 1 : 0;
    if (times == 0 && !found.settled && !found.maybe) ++nowhere;
    if (times != 0) dead.erase(letters);
  }
  for (const auto& [origin, times] : dead) {  // letters of messages that no surviving hold reports
    ++seen;
    if (times > 1)
      complain(complaint_kind::dead_letters, name_of(origin) + " is a dead letter twice");
  }
  std::uint64_t published = 0;
  for (const lane_span& lane : outcome.lanes) published += lane.last + 1 - lane.first;
  if (outcome.drained && published > seen) nowhere += published - seen;

  if (config_.order != bus::group_order::none) {
    const bool total = config_.order == bus::group_order::total;
    std::stable_sort(all.begin(), all.end(),
                     [&](const hold* a, const hold* b) { return !total && a->key < b->key; });
    for (std::size_t i = 0, end = 0; i < all.size(); i = end) {
      for (end = i; end < all.size() && (total || all[end]->key == all[i]->key);) ++end;
      if (total || all[i]->key != 0)
        judge_key({all.begin() + static_cast<std::ptrdiff_t>(i),
                   all.begin() + static_cast<std::ptrdiff_t>(end)});
    }
  }
  judge_counts(outcome, settled, maybe, nowhere);
  if (outcome.drained) judged_ += published;
}

}  // namespace test
