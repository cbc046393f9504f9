#include "client/group_events.hpp"

#include <span>

#include "client/publisher_core.hpp"
#include "os/clock.hpp"

namespace bus::client {

namespace {

// Names of processes are anything; the other names here are checked where they are made.
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
  const std::string subject = "_bus.event.group." + kind;
  if (!publisher_) {
    publisher_options options;
    options.name = "events";
    options.send_timeout = std::chrono::nanoseconds(0);
    auto made = publisher_core::make(session_, subject, std::move(options));
    if (!made) return;
    publisher_ = std::move(*made);
  }
  const std::string text = "{\"kind\":" + quoted(kind) + ",\"stream\":" + quoted(stream) +
                           ",\"group\":" + quoted(group) + more +
                           ",\"time_ns\":" + std::to_string(os::wall_ns()) + "}";
  (void)publisher_->publish_with(subject, std::as_bytes(std::span(text.data(), text.size())), {});
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

}  // namespace bus::client
