#include "storage/engine.hpp"

#include <algorithm>
#include <array>
#include <climits>
#include <utility>

#include "base/cycles.hpp"
#include "log/posix_disk.hpp"
#include "os/futex.hpp"
#include "registry/keeper_link.hpp"
#include "storage/uring_disk.hpp"
#include "sync/words.hpp"

namespace bus::storage {

namespace {

// After activity more is likely, so the thread polls for this long, at the cost of a core.
constexpr auto stay_awake = std::chrono::microseconds(200);
// A process that waits for busd rings its bell. Without it a message may lie in the ring for this
// long.
constexpr auto nap = std::chrono::milliseconds(2);
constexpr auto long_nap = std::chrono::milliseconds(20);
constexpr auto quiet_for = std::chrono::seconds(2);
constexpr auto housekeeping_every = std::chrono::milliseconds(5);
constexpr auto space_every = std::chrono::milliseconds(25);
constexpr auto out_patience = std::chrono::milliseconds(500);
constexpr int rounds_at_the_end = 300;  // of 1 ms, while only the next file is awaited
constexpr std::uint64_t wait_for_disk_ns = 200'000;
constexpr std::size_t answers_at_once = 64;

}  // namespace

engine::engine(session_core& session, engine_options options, tell told)
    : session_(session),
      options_(std::move(options)),
      told_(std::move(told)),
      peers_(session.peers->directory(), session.peers->self(), session.me->id()),
      spares_([this] { registry::ring_keeper(session_.directory->control()); }) {
  thread_ = std::thread([this] { run(); });
  std::unique_lock guard(mutex_);
  changed_.wait(guard, [&] { return is_ready_; });  // now there is a disk
}

engine::~engine() {
  finish();
  thread_.join();
}

void engine::finish() {
  std::unique_lock guard(mutex_);
  stop_ = true;
  guard.unlock();
  registry::ring_keeper(session_.directory->control());
  guard.lock();
  changed_.wait(guard, [&] { return ended_; });
}

void engine::attach(loggers ready) {
  {
    const std::lock_guard guard(mutex_);
    for (auto& lane : ready) coming_.push_back(std::move(lane));
    are_out_ = false;
  }
  changed_.notify_all();
  registry::ring_keeper(session_.directory->control());
}

engine::loggers engine::detach(const std::string& stream) {
  std::unique_lock guard(mutex_);
  leaving_ = stream;
  guard.unlock();
  registry::ring_keeper(session_.directory->control());
  guard.lock();
  changed_.wait(guard, [&] { return left_ || ended_; });
  leaving_.clear();
  loggers gone = left_ ? std::move(*left_) : loggers();
  left_.reset();
  are_out_ = !gone.empty();
  return gone;
}

void engine::take_coming() {
  loggers come;
  {
    const std::lock_guard guard(mutex_);
    come.swap(coming_);
  }
  for (auto& lane : come) {
    lane->set_full(blocked_);
    lanes_.push_back(std::move(lane));
  }
}

// Takes loggers that the keeper attached, and returns those that it detaches.
void engine::take_orders() {
  take_coming();
  {
    const std::lock_guard guard(mutex_);
    if (!left_) leaves_ = leaving_;
  }
  if (leaves_.empty() || std::any_of(lanes_.begin(), lanes_.end(), [&](const auto& lane) {
        return is_leaving(*lane) && lane->in_flight();
      }))
    return;
  loggers leave;
  for (auto& lane : lanes_) {
    if (!is_leaving(*lane)) continue;
    lane->let_go();
    leave.push_back(std::move(lane));
  }
  std::erase(lanes_, nullptr);
  leaves_.clear();
  {
    const std::lock_guard guard(mutex_);
    left_ = std::move(leave);
  }
  changed_.notify_all();
}

bool engine::any_in_flight() const noexcept {
  return std::any_of(lanes_.begin(), lanes_.end(), [](const auto& l) { return l->in_flight(); });
}

void engine::hand_out_answers(std::uint64_t wait_ns) {
  std::array<log::disk_completion, answers_at_once> answers;
  const std::size_t count = disk_->reap(answers, wait_ns);
  for (std::size_t i = 0; i < count; ++i) {
    const auto lane = std::find_if(lanes_.begin(), lanes_.end(),
                                   [&](const auto& l) { return l->token() == answers[i].token; });
    if (lane != lanes_.end()) (*lane)->finished(answers[i].failure);
  }
  if (count != 0) step();
}

void engine::step() noexcept {
  if (finishes_ && options_.steps != nullptr) ++*options_.steps;
}

void engine::apply_results() {
  while (any_in_flight()) hand_out_answers(wait_for_disk_ns);
}

bool engine::round(clock::time_point now) {
  bool busy = false;
  for (auto& lane : lanes_)
    if (!is_leaving(*lane)) busy = lane->work(now) || busy;
  return busy;
}

void engine::look_at_space() {
  log::disk_space space;
  if (disk_->space(options_.data_directory, space) != 0 || space.total_bytes == 0) return;
  total_bytes_ = space.total_bytes;
  free_bytes_ = space.free_bytes;
  const double used =
      1.0 - static_cast<double>(space.free_bytes) / static_cast<double>(space.total_bytes);
  const bool full = used > options_.block_above;
  const bool warn = used > options_.warn_above;
  const bool was_warned = std::exchange(warned_, warn);
  if (full == blocked_ && (!warn || was_warned || full)) return;
  const auto percent = [](double share) {
    return std::to_string(static_cast<int>(share * 100)) + " %";
  };
  const error state{errc::no_space, 0, "the disk of " + options_.data_directory + " is filling up",
                    percent(used) + " is used (publishers are stopped above " +
                        percent(options_.block_above) + ")",
                    "free space, or lower the limits of the streams (bus stream edit)"};
  if (full == blocked_) return told_("warning", "", state);
  blocked_ = full;
  for (auto& lane : lanes_) lane->set_full(full);
  const error over{errc::ok, 0, "the disk of " + options_.data_directory + " has space again",
                   percent(used) + " is used", ""};
  told_(full ? "full" : "recovered", "", full ? state : over);
}

void engine::housekeep(clock::time_point now) {
  if (now >= next_space_) {
    next_space_ = now + space_every;
    look_at_space();
  }
  for (auto& lane : lanes_) {
    lane->housekeep(now);
    if (const auto news = lane->take_wake_request())
      told_(news->code == errc::ok         ? "recovered"
            : news->code == errc::no_space ? "full"
                                           : "failed",
            lane->stream().name(), *news);
  }
}

// Announces that it sleeps, checks once more, then sleeps: a process that needs it is seen by the
// check or sees the announcement, and no nap is long.
void engine::sleep() noexcept {
  auto& bell = session_.directory->control().keeper_bell;
  sync::exchange_both(bell, 1);
  sync::full_fence();
  bool wanted = std::any_of(lanes_.begin(), lanes_.end(), [](auto& l) { return l->has_news(); });
  {
    const std::lock_guard guard(mutex_);
    wanted = wanted || stop_ || !coming_.empty() || (!leaving_.empty() && !left_);
  }
  const bool has_problem =
      std::any_of(lanes_.begin(), lanes_.end(), [](const auto& l) { return l->has_problem(); });
  const auto length = clock::now() - last_activity_ > quiet_for && !has_problem ? long_nap : nap;
  if (!wanted) os::futex_wait(os::futex_half(bell), 1, length);
  sync::exchange_both(bell, 0);
}

void engine::run() {
  if (options_.use_uring) {
    auto made = uring_disk::make();
    if (made)
      disk_ = std::move(*made);
    else
      told_("warning", "", made.error());
  }
  if (!disk_) disk_ = std::make_unique<log::posix_disk>();
  buffers_ = std::make_unique<buffer_pool>(*disk_, options_.buffers, options_.buffer_bytes);
  look_at_space();  // before any log is opened, so that it is stopped if the disk is full
  {
    const std::lock_guard guard(mutex_);
    is_ready_ = true;
  }
  changed_.notify_all();
  run_rounds();
  write_the_rest();
  {
    const std::lock_guard guard(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  lanes_.clear();
}

void engine::run_rounds() {
  for (;;) {
    take_orders();
    {
      const std::lock_guard guard(mutex_);
      if (stop_) return;
    }
    const auto now = clock::now();
    bool busy = round(now);
    if (any_in_flight()) {
      // Messages published meanwhile go into the next commit.
      hand_out_answers(busy ? 0 : wait_for_disk_ns);
      busy = true;
    }
    if (busy) last_activity_ = now;
    if (now >= next_housekeeping_) {
      next_housekeeping_ = now + housekeeping_every;
      housekeep(now);
    }
    if (busy) continue;
    if (now - last_activity_ < stay_awake)
      for (int i = 0; i < 8; ++i) base::relax();
    else
      sleep();
  }
}

// While publishers are running, at most rounds_at_the_end rounds. After they have stopped
// (`is_final`), busy rounds do not count: each of them makes the rest smaller.
void engine::write_what_is_left(bool is_final) {
  for (int rounds = 0; rounds < rounds_at_the_end;) {
    const bool busy = round(clock::now());
    apply_results();
    if (!busy || !is_final) ++rounds;
    if (busy) continue;
    if (std::none_of(lanes_.begin(), lanes_.end(),
                     [](const auto& l) { return l->waits_for_space(); }))
      break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // until the next file is there
  }
  apply_results();
}

// Writes everything that was published before.
void engine::write_the_rest() {
  finishes_ = true;
  leaves_.clear();
  take_coming();
  write_what_is_left(false);
  {
    std::unique_lock guard(mutex_);
    changed_.wait_for(guard, out_patience, [&] { return !are_out_; });
  }
  take_coming();
  // From here on publishers record it in the log before they give out more. What was given out
  // meanwhile is written, too.
  for (auto& lane : lanes_) lane->stop_publishing();
  write_what_is_left(true);
  for (auto& lane : lanes_) {
    lane->close();
    step();
  }
  housekeep(clock::now());
}

}  // namespace bus::storage
