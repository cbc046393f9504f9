#include "streams/events.hpp"

#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "os/clock.hpp"
#include "publish/publisher_core.hpp"

namespace bus::streams {

namespace {

constexpr std::size_t waiting_max = 1000;

}  // namespace

events::events(std::shared_ptr<session_core> session)
    : session_(std::move(session)), thread_([this] { run(); }) {}

events::~events() {
  {
    const std::lock_guard guard(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void events::tell(const char* kind, const std::string& stream, const error& what) {
  {
    const std::lock_guard guard(mutex_);
    waiting_.push_back({kind, stream, what});
    if (waiting_.size() > waiting_max) waiting_.pop_front();
  }
  changed_.notify_all();
}

void events::run() {
  std::unique_lock guard(mutex_);
  for (;;) {
    changed_.wait(guard, [&] { return stop_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const event one = std::move(waiting_.front());
    waiting_.pop_front();
    const bool ends = stop_;
    guard.unlock();
    spdlog::log(one.kind == "recovered" ? spdlog::level::info
                : one.kind == "warning" ? spdlog::level::warn
                                        : spdlog::level::err,
                "{}", one.what.message());
    if (!ends || publisher_)
      publish(one);  // at the end: making the publisher may wait for the lock of changes
    guard.lock();
  }
}

void events::publish(const event& one) {
  const std::string subject = "_bus.event.storage." + one.kind;
  if (!publisher_) {
    publisher_options options;
    options.name = "events";
    options.send_timeout = std::chrono::nanoseconds(0);
    auto made = publisher_core::make(session_, "_bus.event.storage", std::move(options));
    if (!made) return;
    publisher_ = std::move(*made);
  }
  const error& what = one.what;
  const nlohmann::json said{
      {"kind", one.kind},        {"stream", one.stream}, {"code", errc_name(what.code)},
      {"what", what.what},       {"why", what.why},      {"fix", what.fix},
      {"time_ns", os::wall_ns()}};
  const std::string text = said.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  (void)publisher_->publish_with(subject, std::as_bytes(std::span(text.data(), text.size())), {});
}

}  // namespace bus::streams
