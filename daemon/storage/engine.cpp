#include "storage/engine.hpp"

#include <algorithm>
#include <array>
#include <climits>

#include "base/cycles.hpp"
#include "client/keeper_link.hpp"
#include "log/posix_disk.hpp"
#include "os/futex.hpp"
#include "storage/uring_disk.hpp"
#include "sync/words.hpp"

namespace bus::storage {

namespace {

// After something happened more is likely to: looking costs a core for so long.
constexpr auto stay_awake = std::chrono::microseconds(200);
// Whoever waits for busd rings its bell: without a bell a message may lie in the ring for so long.
constexpr auto nap = std::chrono::milliseconds(2);
constexpr auto long_nap = std::chrono::milliseconds(20);
constexpr auto quiet_for = std::chrono::seconds(2);
constexpr auto housekeeping_every = std::chrono::milliseconds(5);
constexpr auto space_every = std::chrono::milliseconds(25);
constexpr std::uint64_t wait_for_disk_ns = 200'000;
constexpr std::size_t answers_at_once = 64;

}  // namespace

engine::engine(session_core& session, engine_options options, tell told)
    : session_(session), options_(std::move(options)), told_(std::move(told)) {
  thread_ = std::thread([this] { run(); });
  call([] {});  // from here on there is a disk
}

engine::~engine() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  client::ring_keeper(session_.directory->control());
  thread_.join();
}

void engine::call(const std::function<void()>& fn) {
  std::unique_lock guard(mutex_);
  calls_.push_back(&fn);
  const std::uint64_t mine = ++calls_made_;
  guard.unlock();
  client::ring_keeper(session_.directory->control());
  guard.lock();
  done_.wait(guard, [&] { return calls_done_ >= mine; });
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
}

void engine::settle() {
  while (any_in_flight()) hand_out_answers(wait_for_disk_ns);
}

bool engine::round(clock::time_point now) {
  bool busy = false;
  for (auto& lane : lanes_) busy = lane->work(now) || busy;
  return busy;
}

void engine::attach(std::unique_ptr<lane_logger> lane) {
  lane->set_full(blocked_);
  lanes_.push_back(std::move(lane));
}

void engine::look_at_space() {
    if (disk_->space(options_.data_directory, space_) == 0 && space_.total_bytes != 0) {
      const double used =
          1.0 - static_cast<double>(space_.free_bytes) / static_cast<double>(space_.total_bytes);
      const bool full = used > options_.block_above;
      const bool warn = used > options_.warn_above;
      const auto percent = [](double share) {
        return std::to_string(static_cast<int>(share * 100)) + " %";
      };
      const error state{errc::no_space, 0, "the disk of " + options_.data_directory + " fills up",
                        percent(used) + " of it is used (publishers are stopped above " +
                            percent(options_.block_above) + ")",
                        "free space, or lower the limits of the streams (bus stream edit)"};
      if (full != blocked_) {
        blocked_ = full;
        for (auto& lane : lanes_) lane->set_full(full);
        const error over{errc::ok, 0, "the disk of " + options_.data_directory + " has space again",
                         percent(used) + " of it is used", ""};
        told_(full ? "full" : "recovered", "", full ? state : over);
      } else if (warn && !warned_ && !full) {
        told_("warning", "", state);
      }
      warned_ = warn;
    }
}

void engine::housekeep(clock::time_point now) {
  if (now >= next_space_) {
    next_space_ = now + space_every;
    look_at_space();
  }
  for (auto& lane : lanes_) {
    lane->housekeep(now);
    if (const auto news = lane->take_news())
      told_(news->code == errc::ok         ? "recovered"
            : news->code == errc::no_space ? "full"
                                           : "failed",
            lane->stream().name(), *news);
  }
}

// Says that it sleeps, looks once more, sleeps: whoever needs it sees one or the other, and no nap
// is long.
void engine::sleep() noexcept {
  auto& bell = session_.directory->control().keeper_bell;
  sync::exchange_both(bell, 1);
  sync::full_fence();
  bool wanted = std::any_of(lanes_.begin(), lanes_.end(), [](auto& l) { return l->has_news(); });
  {
    const std::lock_guard guard(mutex_);
    wanted = wanted || stop_ || !calls_.empty();
  }
  const bool troubled =
      std::any_of(lanes_.begin(), lanes_.end(), [](const auto& l) { return l->is_troubled(); });
  const auto length = clock::now() - last_activity_ > quiet_for && !troubled ? long_nap : nap;
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
  look_at_space();  // before there is any log: what is opened next is stopped, too
  for (;;) {
    const std::function<void()>* due = nullptr;
    bool stop = false;
    {
      const std::lock_guard guard(mutex_);
      if (!calls_.empty()) due = calls_.front();
      stop = stop_;
    }
    if (due != nullptr) {
      settle();
      (*due)();
      const std::lock_guard guard(mutex_);
      calls_.pop_front();
      ++calls_done_;
      done_.notify_all();
      continue;
    }
    if (stop) break;
    auto now = clock::now();
    bool busy = round(now);
    const bool flying = any_in_flight();
    if (flying) {
      // What is published meanwhile goes into the next commit.
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
  // What was published before is written.
  for (int rounds = 0; rounds < 1000 && round(clock::now()); ++rounds) settle();
  settle();
  for (auto& lane : lanes_) lane->stop_publishing();
  for (int rounds = 0; rounds < 1000 && round(clock::now()); ++rounds) settle();
  settle();
  for (auto& lane : lanes_) lane->close();
  housekeep(clock::now());
  lanes_.clear();
}

}  // namespace bus::storage
