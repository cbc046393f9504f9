#pragma once
/// group_events: what groups meet, as messages for whoever listens: `_bus.event.group.KIND`, JSON.
///
/// Threads    one at a time
/// Cost       nothing until something happens; the first event opens a publisher

#include <memory>
#include <string>
#include <string_view>

#include "client/session_core.hpp"

namespace bus {
struct publisher_core;
}

namespace bus::client {

class group_events {
 public:
  explicit group_events(std::shared_ptr<session_core> session);
  ~group_events();

  /// A lease ended at `ack_wait` while its holder lived. Never waits for anybody: an event that
  /// cannot be published is dropped; the group's counters have it.
  void expired(const std::string& stream, const std::string& group, std::uint32_t lane,
               std::uint64_t sequence, std::string_view holder);

 private:
  std::shared_ptr<session_core> session_;
  std::unique_ptr<publisher_core> publisher_;
};

}  // namespace bus::client
