#include "events/group_events.hpp"

#include <span>

#include "os/clock.hpp"
#include "publish/publisher_core.hpp"

namespace bus::events {

namespace {

constexpr auto quiet_after_failure = std::chrono::seconds(1);

// Names of processes may contain anything; the other names here are checked at creation.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
    out += plain ? c : '?';
  }
  return out + '"';
}

}  // namespace

group_events::group_events(std::shared_ptr<session_core> session) : session_(std::move(session)) {}
group_events::~group_events() = default;

void group_events::publish(const std::string& kind, const std::string& stream,
                           const std::string& group, const std::string& more) {
  if (std::chrono::steady_clock::now() < quiet_until_) return;
  const std::string subject = "_bus.event.group." + kind;
  auto& publisher = publishers_[kind];  // a stream may capture one kind and not another
  if (!publisher) {
    publisher_options options;
    options.name = "events";
    options.send_timeout = std::chrono::nanoseconds(0);
    auto made = publisher_core::make(session_, subject, std::move(options));
    if (!made) {
      quiet_until_ = std::chrono::steady_clock::now() + quiet_after_failure;
      return;
    }
    publisher = std::move(*made);
  }
  const std::string text = "{\"kind\":" + quoted(kind) + ",\"stream\":" + quoted(stream) +
                           ",\"group\":" + quoted(group) + more +
                           ",\"time_ns\":" + std::to_string(os::wall_ns()) + "}";
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  if (publisher->publish_with({}, bytes, {}).status != publish_status::ok)
    quiet_until_ = std::chrono::steady_clock::now() + quiet_after_failure;
}

void group_events::expired(const std::string& stream, const std::string& group, std::uint32_t lane,
                           std::uint64_t sequence, std::string_view holder) {
  publish("expired", stream, group,
          ",\"lane\":" + std::to_string(lane) + ",\"sequence\":" + std::to_string(sequence) +
              ",\"holder\":" + quoted(holder));
}

void group_events::failover(const std::string& stream, const std::string& group,
                            std::string_view from) {
  publish("failover", stream, group, ",\"from\":" + quoted(from));
}

void group_events::lost(const std::string& stream, const std::string& group, std::uint32_t lane,
                        std::uint64_t first, std::uint64_t count) {
  publish("lost", stream, group,
          ",\"lane\":" + std::to_string(lane) + ",\"first\":" + std::to_string(first) +
              ",\"count\":" + std::to_string(count));
}

}  // namespace bus::events
