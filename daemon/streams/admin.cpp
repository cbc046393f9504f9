#include "streams/admin.hpp"

#include <algorithm>
#include <utility>

namespace bus::streams {

namespace {

constexpr auto longest_wait = std::chrono::hours(1);

}  // namespace

admin::admin(std::function<clock::time_point()> between)
    : between_(std::move(between)), thread_([this] { work(); }) {}

admin::~admin() {
  stop();
  thread_.join();
}

void admin::stop() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
}

bool admin::run(const std::function<void()>& order) {
  waiting mine{&order};
  std::unique_lock guard(mutex_);
  orders_.push_back(&mine);
  changed_.notify_all();
  changed_.wait(guard, [&] { return mine.done || (stop_ && !mine.begun); });
  if (!mine.begun) std::erase(orders_, &mine);
  return mine.done;
}

void admin::work() {
  std::unique_lock guard(mutex_);
  auto again_at = clock::now() + longest_wait;
  for (;;) {
    changed_.wait_until(guard, std::min(again_at, clock::now() + longest_wait),
                        [&] { return stop_ || !orders_.empty(); });
    if (stop_) return;
    if (orders_.empty()) {
      if (clock::now() < again_at) continue;
      guard.unlock();
      again_at = between_();
      guard.lock();
      continue;
    }
    waiting& due = *orders_.front();
    orders_.pop_front();
    due.begun = true;
    guard.unlock();
    (*due.order)();
    guard.lock();
    due.done = true;
    changed_.notify_all();
    again_at = clock::now();  // the order may have left work for between_
  }
}

}  // namespace bus::streams
