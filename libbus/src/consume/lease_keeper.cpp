#include "consume/lease_keeper.hpp"

#include <algorithm>

namespace bus::consume {

lease_keeper::lease_keeper(std::unique_ptr<group_handle> group)
    : group_(std::move(group)), thread_([this] { run(); }) {}

lease_keeper::~lease_keeper() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  stopping_.notify_all();
  thread_.join();
}

void lease_keeper::hold(const group::lease_token& token) {
  const std::lock_guard guard(mutex_);
  held_.push_back(token);
}

void lease_keeper::let_go(const group::lease_token& token) noexcept {
  const std::lock_guard guard(mutex_);
  const auto at = std::find_if(held_.begin(), held_.end(), [&](const auto& t) {
    return t.slot == token.slot && t.generation == token.generation;
  });
  if (at == held_.end()) return;
  *at = held_.back();
  held_.pop_back();
}

void lease_keeper::run() {
  const auto every = std::max<std::chrono::nanoseconds>(group_->config().ack_wait / 3,
                                                        std::chrono::milliseconds(1));
  std::unique_lock guard(mutex_);
  while (!stopping_.wait_for(guard, every, [this] { return stop_; })) {
    const auto held = held_;
    guard.unlock();
    if (!held.empty() && group_->lock(every)) {
      // A lease that was settled meanwhile is not extended: its generation differs.
      for (const auto& token : held) (void)group_->core().extend(token, group_->now(), nullptr);
      group_->unlock();
    }
    guard.lock();
  }
}

}  // namespace bus::consume
