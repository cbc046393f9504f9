#include "group_stage.hpp"

#include <algorithm>

#include "consume/group_control.hpp"

#include "failpoint_plan.hpp"
#include "group_file.hpp"

namespace test {

namespace {

constexpr const char* stream_name = "k";
constexpr const char* group_name = "g";

std::uint64_t key_of(const bus::message& m) {
  const auto found = m.header("key");
  return found ? std::max<std::uint64_t>(fnv(*found), 1) : 0;
}

answer answer_of(bus::settle_result outcome) noexcept {
  switch (outcome) {
    case bus::settle_result::ok: return answer::ok;
    case bus::settle_result::busy: return answer::busy;
    default: return answer::stale;
  }
}

}  // namespace

// --- a worker

bus::result<group_worker> group_worker::open(bus::session& session, group_history& history,
                                             std::uint32_t life, const bus::group_config& group) {
  bus::consumer_options how;
  how.group = group.name;
  how.stream = group.stream;
  how.wait = bus::wait_strategy::block;
  how.name = "life " + std::to_string(life);
  auto made = session.consume("", how);
  if (!made) return std::move(made.error());
  return group_worker(std::move(*made), history, life);
}

group_worker::~group_worker() {
  if (history_ == nullptr || hand_.empty()) return;
  for (piece& one : hand_) {
    one.note->begun_ns.store(now_ns());
    one.note->what.store(verb::let_go);
    one.note->said.store(answer::begun, std::memory_order_release);
  }
}

std::size_t group_worker::fetch(std::size_t most, std::chrono::nanoseconds wait, bool start) {
  const std::int64_t asked = now_ns();
  auto got = consumer_.fetch(most, wait);
  const std::int64_t came = now_ns();
  history_->operations.fetch_add(1, std::memory_order_relaxed);
  const std::size_t count = got.size();
  for (std::size_t i = 0; i < count; ++i) {
    bus::lease& lease = got[i];
    const bus::message& m = lease.message();
    if (!is_intact(m)) ++altered_;
    hold* note = history_->next();
    if (note == nullptr) std::abort();
    note->key = key_of(m);
    note->asked_ns = asked;
    note->got_ns = came;
    note->life = life_;
    note->token = static_cast<std::uint32_t>(lease.fencing_token());
    note->acquired = lease.acquired();
    note->origin.store(m.sequence() << 8 | m.lane(), std::memory_order_release);
    if (start) (void)lease.start();
    hand_.push_back({std::move(lease), note});
  }
  return count;
}

answer group_worker::settle(std::size_t at, verb how, std::chrono::nanoseconds delay) {
  piece one = std::move(hand_[at]);
  hand_.erase(hand_.begin() + static_cast<std::ptrdiff_t>(at));
  one.note->begun_ns.store(now_ns());
  one.note->what.store(how);
  one.note->said.store(answer::begun, std::memory_order_release);
  history_->operations.fetch_add(1, std::memory_order_relaxed);
  bus::settle_result outcome = bus::settle_result::ok;
  switch (how) {
    case verb::ack: outcome = one.lease.ack(); break;
    case verb::nack: outcome = one.lease.nack(delay, "because"); break;
    case verb::release: outcome = one.lease.release(); break;
    case verb::reject: outcome = one.lease.reject("no good"); break;
    default: return answer::begun;  // the lease is destroyed unsettled
  }
  one.note->said.store(answer_of(outcome), std::memory_order_release);
  // the lease is destroyed unsettled
  if (outcome == bus::settle_result::busy) one.note->said.store(answer::begun);
  return answer_of(outcome);
}

answer group_worker::extend(std::size_t at, std::optional<std::chrono::nanoseconds> duration) {
  history_->operations.fetch_add(1, std::memory_order_relaxed);
  const std::int64_t asked = now_ns();
  const answer got = answer_of(hand_[at].lease.extend(duration));
  if (got == answer::ok) hand_[at].note->extended_ns.store(asked);
  return got;
}

void group_worker::settle_all(verb how, std::chrono::nanoseconds delay) {
  while (!hand_.empty()) settle(hand_.size() - 1, how, delay);
}

// --- a publisher

bus::result<keyed_publisher> keyed_publisher::open(bus::session& session,
                                                   const std::string& subject, std::uint32_t life,
                                                   std::uint32_t lane, unsigned keys) {
  bus::publisher_options how;
  how.lane = lane;
  auto made = session.publisher(subject, how);
  if (!made) return std::move(made.error());
  return keyed_publisher(std::move(*made), subject, life, keys);
}

bus::publish_status keyed_publisher::one(std::mt19937_64& random, std::size_t bytes, unsigned key) {
  const std::string name = "key" + std::to_string(key != 0 ? key : 1 + random() % keys_);
  const auto payload = make_payload(bytes, life_, ++number_, subject_, name);
  const bus::header headers[] = {{"key", name}, {"n", name}};
  return publisher_.publish(payload, headers).status;
}

// --- the stage

group_stage::group_stage(options wanted)
    : wanted_(std::move(wanted)), checker_([this] {
        wanted_.group.name = group_name;
        wanted_.group.stream = stream_name;
        return wanted_.group;
      }()) {
  if (auto made = set_up(); !made) {
    checker_.complain(complaint_kind::other, made.error().message());
    failed_ = true;
  }
}

bus::result<void> group_stage::set_up() {
  auto opened = bus::open(url("&name=judge"));
  if (!opened) return std::move(opened.error());
  session_.emplace(std::move(*opened));
  if (auto made = session_->add_stream(wanted_.stream); !made) return made;
  if (auto made = session_->add_group(wanted_.group); !made) return made;
  for (std::uint32_t lane = 0; lane < wanted_.stream.lanes; ++lane) {
    auto made = keyed_publisher::open(*session_, stream_name, lane, lane, wanted_.keys);
    if (!made) return std::move(made.error());
    publishers_.push_back(std::move(*made));
  }
  auto made = group_worker::open(*session_, *history_, 0, wanted_.group);
  if (!made) return std::move(made.error());
  survivor_.emplace(std::move(*made));
  return {};
}

// A killed consumer may hold the lock in the middle of a change. Looking repairs nothing, so this
// takes the lock over, as the next consumer would, and looks again.
void group_stage::take_lock_over() {
  if (!repairer_) {
    auto opened = bus::session_core::open({url(), "repairer"});
    if (!opened) return;
    repairer_ = std::move(*opened);
  }
  const auto group = bus::consume::open_group(*repairer_, stream_name, group_name);
  if (group && (*group)->lock(1s)) (*group)->unlock();
}

bus::group_counts group_stage::counts() {
  auto found = session_->group(stream_name, group_name);
  if (found && !found->is_consistent) {
    take_lock_over();
    found = session_->group(stream_name, group_name);
  }
  if (found) return found->counts;
  checker_.complain(complaint_kind::other, found.error().message());
  failed_ = true;
  return {};
}

std::vector<lane_span> group_stage::spans() {
  std::vector<lane_span> all;
  const auto found = session_->stream(stream_name);
  if (!found) return all;
  begun_at_.resize(std::max(begun_at_.size(), found->lanes.size()));
  for (const auto& lane : found->lanes) {
    if (all.size() <= lane.index) all.resize(lane.index + 1);
    all[lane.index] = {begun_at_[lane.index] + 1, lane.last_sequence};
  }
  return all;
}

void group_stage::read_letters() {
  if (!wanted_.group.dead_letters) return;
  const auto found = session_->dead_letters(stream_name, group_name, next_letter_, 1'000'000);
  if (!found) return checker_.complain(complaint_kind::other, found.error().message());
  for (const auto& letter : *found) {
    if (letter.sequence != next_letter_)
      checker_.complain(complaint_kind::sequence, "dead letter " + std::to_string(letter.sequence) +
                                                      " came, " + std::to_string(next_letter_) +
                                                      " was expected");
    next_letter_ = letter.sequence + 1;
    const std::size_t lane = letter.origin_lane;
    if (lane < begun_at_.size() && letter.origin_sequence > begun_at_[lane])
      letters_.push_back(letter.origin_sequence << 8 | letter.origin_lane);
  }
}

group_outcome group_stage::outcome(bool drained) {
  group_outcome o;
  o.lanes = spans();
  o.before = before_;
  o.now = counts();
  read_letters();
  o.dead = letters_;
  o.letters = next_letter_ - letters_before_;
  o.drained = drained;
  return o;
}

void group_stage::begin_round() {
  if (failed_) return;
  history_->forget();
  if (wanted_.fill_letters) fill_letters();
  const auto now = spans();
  for (std::size_t lane = 0; lane < now.size(); ++lane) begun_at_[lane] = now[lane].last;
  before_ = counts();
  read_letters();
  letters_.clear();
  letters_before_ = next_letter_;
}

void group_stage::publish(std::size_t count) {
  for (std::size_t i = 0; i < count && !failed_; ++i) {
    const std::size_t bytes = i % 16 == 7 ? 3000 : sizeof(stamp) + random_() % 200;
    if (publishers_[i % publishers_.size()].one(random_, bytes) == bus::publish_status::ok)
      continue;
    checker_.complain(
        complaint_kind::stalled,
        "cannot publish: " + publishers_[i % publishers_.size()].last_error().message());
    failed_ = true;
  }
}

void group_stage::look() {
  if (!failed_) checker_.judge(*history_, outcome(false));
}

bool group_stage::settle_until_empty(std::int64_t since_ns, std::int64_t& first_ns) {
  const auto end = std::chrono::steady_clock::now() + watchdog_patience;
  while (std::chrono::steady_clock::now() < end) {
    const std::size_t got = survivor_->fetch(16, 5ms);
    if (got != 0 && first_ns == 0 && since_ns != 0)
      first_ns = std::max<std::int64_t>(1, now_ns() - since_ns);
    survivor_->settle_all(verb::ack);
    if (survivor_->consumer().failure()) {
      checker_.complain(complaint_kind::other,
                        "the survivor: " + survivor_->consumer().failure()->message());
      return false;
    }
    if (got != 0) continue;
    const auto now = counts();
    if (failed_) return false;
    if (now.pending == 0 && now.unclaimed == 0) return true;
    if (now.dying == 0) continue;
    read_letters();
    (void)session_->drop_dead_letters(stream_name, group_name, next_letter_ - 1);
  }
  return false;
}

std::int64_t group_stage::drain(std::int64_t since_ns) {
  if (failed_) return 0;
  std::int64_t first_ns = 0;
  if (!settle_until_empty(since_ns, first_ns)) {
    failed_ = true;
    const auto info = session_->group(stream_name, group_name);
    std::string text = "the survivor does not get the rest";
    if (info) {
      const auto& c = info->counts;
      text += ": unclaimed " + std::to_string(c.unclaimed) + ", leased " +
              std::to_string(c.leased) + ", ready " + std::to_string(c.ready) + ", delayed " +
              std::to_string(c.delayed) + ", parked " + std::to_string(c.parked) + ", dying " +
              std::to_string(c.dying);
      for (const auto& reason : info->why) text += "; " + reason;
    }
    checker_.complain(complaint_kind::stalled,
                      text + "; " + group_file(place_, stream_name, group_name).facts());
    return 0;
  }
  if (survivor_->altered() != 0)
    checker_.complain(complaint_kind::altered, "the survivor got other bytes");
  checker_.judge(*history_, outcome(true));
  return first_ns;
}

void group_stage::expect_as_new() {
  if (failed_) return;
  const std::size_t window = std::min<std::size_t>(wanted_.group.max_ack_pending, 64);
  for (std::size_t i = 0; i < window; ++i)  // each with its own key
    if (publishers_[i % publishers_.size()].one(
            random_, sizeof(stamp), 1000 + static_cast<unsigned>(i)) != bus::publish_status::ok)
      checker_.complain(complaint_kind::stalled, "cannot publish a window's worth");
  const std::size_t wanted = wanted_.group.order == bus::group_order::total ? 1 : window;
  std::size_t got = 0;
  for (int looks = 0; looks < 100 && got < wanted; ++looks)
    got += survivor_->fetch(wanted - got, 1ms);
  if (got != wanted)
    checker_.complain(complaint_kind::lost, "of a window of " + std::to_string(wanted) +
                                                " messages " + std::to_string(got) +
                                                " can be claimed");
  std::int64_t ignored = 0;
  survivor_->settle_all(verb::ack);
  if (!settle_until_empty(0, ignored)) {
    checker_.complain(complaint_kind::stalled, "a window's worth is not settled");
    failed_ = true;
  }
  if (const std::string left = group_file(place_, stream_name, group_name).leftovers();
      !left.empty())
    checker_.complain(complaint_kind::other, "left behind:" + left);
}

// Dead letters of 8 KB each, until one waits for space.
void group_stage::fill_letters() {
  std::size_t rejected = 0;
  while (!failed_ && counts().dying == 0) {
    for (int turn = 0; turn < 32 && !failed_; ++turn) {
      for (unsigned i = 0; i < 3; ++i)  // the ring is small
        if (publishers_[0].one(random_, wanted_.stream.max_message_bytes - 200, 2000 + i) !=
            bus::publish_status::ok)
          failed_ = true;
      while (survivor_->fetch(16, 0ms) != 0) {
        rejected += survivor_->in_hand();
        survivor_->settle_all(verb::reject);
      }
    }
    if (rejected > 5000) failed_ = true;
  }
  if (failed_) checker_.complain(complaint_kind::other, "the dead letters cannot be filled");
  history_->forget();
}

}  // namespace test
