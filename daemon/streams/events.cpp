#include "streams/events.hpp"

#include <nlohmann/json.hpp>

#include "client/publisher_core.hpp"
#include "os/clock.hpp"

namespace bus::streams {

events::events(std::shared_ptr<session_core> session) : session_(std::move(session)) {}
events::~events() = default;

void events::publish(const char* kind, const std::string& stream, const error& what) {
  const std::lock_guard guard(mutex_);
  const std::string subject = std::string("_bus.event.storage.") + kind;
  if (!publisher_) {
    publisher_options options;
    options.name = "events";
    options.send_timeout = std::chrono::nanoseconds(0);
    auto made = publisher_core::make(session_, "_bus.event.storage", std::move(options));
    if (!made) return;
    publisher_ = std::move(*made);
  }
  const nlohmann::json event{
      {"kind", kind},    {"stream", stream}, {"code", errc_name(what.code)}, {"what", what.what},
      {"why", what.why}, {"fix", what.fix},  {"time_ns", os::wall_ns()}};
  const std::string text = event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  (void)publisher_->publish_with(subject, std::as_bytes(std::span(text.data(), text.size())), {});
}

}  // namespace bus::streams
