#include <bus/consumer.hpp>

#include <algorithm>
#include <exception>

#include "consume/consumer_core.hpp"

namespace bus {

const char* settle_result_name(settle_result outcome) noexcept {
  switch (outcome) {
    case settle_result::ok: return "ok";
    case settle_result::stale_lease: return "stale_lease";
    case settle_result::already_settled: return "already_settled";
    case settle_result::busy: return "busy";
    case settle_result::closed: return "closed";
  }
  return "unknown";
}

lease& lease::operator=(lease&& other) noexcept {
  if (this != &other) {
    if (entry_ != nullptr) give_up();
    entry_ = std::exchange(other.entry_, nullptr);
  }
  return *this;
}
void lease::give_up() noexcept { entry_->owner->give_up(std::exchange(entry_, nullptr)); }

const bus::message& lease::message() const noexcept { return entry_->message; }
std::uint32_t lease::acquired() const noexcept { return entry_->acquired; }
std::uint32_t lease::failed() const noexcept { return entry_->failed; }
std::uint64_t lease::fencing_token() const noexcept { return entry_->number; }
settle_result lease::ack() noexcept { return entry_->owner->ack(*entry_); }
settle_result lease::nack(std::optional<std::chrono::nanoseconds> delay,
                          std::string_view reason) noexcept {
  return entry_->owner->nack(*entry_, delay, reason);
}
settle_result lease::release() noexcept { return entry_->owner->release(*entry_); }
settle_result lease::reject(std::string_view reason) noexcept {
  return entry_->owner->reject(*entry_, reason);
}
settle_result lease::extend(std::optional<std::chrono::nanoseconds> duration) noexcept {
  return entry_->owner->extend(*entry_, duration);
}
settle_result lease::start() noexcept { return entry_->owner->start(*entry_); }
bool lease::held() const noexcept { return entry_->owner->is_held(*entry_); }

batch::~batch() {
  // Messages that were not reached were not worked on.
  for (std::size_t i = reached_; i < leases_.size(); ++i)
    if (leases_[i].entry_ != nullptr && !leases_[i].entry_->started) (void)leases_[i].release();
}

lease& batch::reach(std::size_t at) noexcept {
  if (at >= reached_) {
    reached_ = at + 1;
    (void)leases_[at].start();
  }
  return leases_[at];
}

consumer::consumer(std::unique_ptr<consumer_core> core) noexcept : core_(std::move(core)) {}
consumer::consumer(consumer&&) noexcept = default;
consumer& consumer::operator=(consumer&& other) noexcept {
  if (this != &other) {
    if (core_) consumer_core::retire(std::move(core_));
    core_ = std::move(other.core_);
  }
  return *this;
}
consumer::~consumer() {
  if (core_) consumer_core::retire(std::move(core_));
}

bus::batch consumer::fetch(const fetch_options& options) {
  bus::batch got;
  // Messages that next() claimed ahead come first.
  for (auto* entry = core_->take_ahead(); entry != nullptr; entry = core_->take_ahead()) {
    got.leases_.push_back(lease(entry));
    if (got.leases_.size() == options.batch) return got;
  }
  if (!got.empty()) return got;
  core_->fetch(options.batch, options.max_bytes, options.wait, options.batch == 1);
  core_->report_gaps();
  got.leases_.reserve(core_->claimed().size());
  for (auto* entry = core_->take_ahead(); entry != nullptr; entry = core_->take_ahead())
    got.leases_.push_back(lease(entry));
  return got;
}

std::optional<lease> consumer::next(std::chrono::nanoseconds wait) {
  for (;;) {
    if (core_->stopped()) return std::nullopt;
    auto* entry = core_->take_ahead();
    if (entry == nullptr) {
      const std::size_t count = core_->fetch(core_->options.prefetch, ~0ull, wait, true);
      core_->report_gaps();
      if (count == 0) return std::nullopt;
      entry = core_->take_ahead();
    }
    // A message that was claimed ahead may have lost its lease meanwhile. The first one of a claim
    // is started already.
    if (entry->started || core_->start(*entry) == settle_result::ok) return lease(entry);
    lease lost(entry);
  }
}

void consumer::run(const std::function<void(lease&)>& work) {
  while (auto one = next(std::chrono::hours(24 * 365))) {
    try {
      work(*one);
    } catch (const std::exception& e) {
      (void)one->nack(std::nullopt, e.what());
      throw;
    } catch (...) {
      (void)one->nack(std::nullopt, "an exception of unknown type");
      throw;
    }
    (void)one->ack();  // already_settled if the work settled it
  }
}

std::size_t consumer::ack_all(lease& upto) noexcept {
  return upto.entry_ == nullptr ? 0 : core_->ack_all(*upto.entry_);
}
void consumer::stop() noexcept { core_->stop(); }
bool consumer::stopped() const noexcept { return core_->stopped(); }
const group_config& consumer::group() const noexcept { return core_->config(); }
std::uint64_t consumer::active_token() const noexcept { return core_->active_token(); }
consumer_stats consumer::stats() const noexcept { return core_->stats; }
const std::optional<error>& consumer::failure() const noexcept { return core_->failure; }

}  // namespace bus
