#include <bus/subscriber.hpp>
#include <bus/typed.hpp>

#include "subscribe/subscriber_core.hpp"

namespace bus {

subscriber::subscriber(std::unique_ptr<subscriber_core> core) noexcept : core_(std::move(core)) {}
subscriber::subscriber(subscriber&& other) noexcept
    : batch_(other.batch_), core_(std::move(other.core_)) {
  other.batch_ = {};
}
subscriber& subscriber::operator=(subscriber&& other) noexcept {
  batch_ = std::exchange(other.batch_, {});
  core_ = std::move(other.core_);
  return *this;
}
subscriber::~subscriber() = default;

bool subscriber::refill(std::size_t max) {
  std::size_t count = 0;
  try {
    count = core_->refill(max);
  } catch (...) {  // from on_gap; the messages are there at the next call
    batch_ = {core_->batch(), core_->batch() + core_->filled};
    throw;
  }
  batch_ = {core_->batch(), core_->batch() + count};
  return count != 0;
}

// The rest of a batch is memory of the process that polled it, not of a forked child.
bool subscriber::keeps_batch() {
  if (core_->same_process()) return true;
  batch_ = {};
  return refill(0);
}

void subscriber::end_poll() noexcept {
  if (batch_.next == batch_.end) core_->release_all();
}

std::optional<message> subscriber::next(std::chrono::nanoseconds wait) {
  if (!core_->same_process()) batch_ = {};  // views of the parent's memory
  if (batch_.next == batch_.end && !refill(SIZE_MAX)) {
    if (wait.count() <= 0) return std::nullopt;
    const auto deadline = std::chrono::steady_clock::now() +
                          std::min<std::chrono::nanoseconds>(wait, std::chrono::hours(24 * 365));
    do {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (core_->stopped() || left.count() <= 0 || !core_->wait(left)) return std::nullopt;
    } while (!refill(SIZE_MAX));
  }
  if (core_->stopped()) return std::nullopt;
  return *batch_.next++;
}

bool subscriber::wait(std::chrono::nanoseconds wait) {
  return !core_->stopped() && (batch_.next != batch_.end || core_->wait(wait));
}
void subscriber::stop() noexcept { core_->stop(); }
bool subscriber::stopped() const noexcept { return core_->stopped(); }
result<int> subscriber::fd() { return core_->fd(); }
bool subscriber::arm() { return batch_.next == batch_.end && core_->arm(); }
void subscriber::drain() { core_->drain(); }
subscriber_stats subscriber::stats() const noexcept { return core_->stats(); }
const std::optional<error>& subscriber::failure() const noexcept { return core_->failure; }

void detail::expect_type(subscriber_core& core, std::uint64_t type, std::string_view,
                         std::size_t bytes) {
  core.expect_type(type, bytes);
}

}  // namespace bus
