#pragma once
/// group_events: publishes events of groups as messages in JSON: `_bus.event.group.KIND`.
///
/// An event does not wait for space. If it cannot be published, it is dropped, and so are all
/// others for a second. The group's counters still include them.
///
/// Threads    one at a time
/// Cost       none until the first event, which opens a publisher

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "registry/session_core.hpp"

namespace bus {
struct publisher_core;
}

namespace bus::events {

class group_events {
 public:
  explicit group_events(std::shared_ptr<session_core> session);
  ~group_events();

  /// A lease ended at `ack_wait` while its holder was alive.
  void expired(const std::string& stream, const std::string& group, std::uint32_t lane,
               std::uint64_t sequence, std::string_view holder);
  /// The active member of a failover group was found to hang; another one takes over.
  void failover(const std::string& stream, const std::string& group, std::string_view from);
  /// Messages were overwritten before any consumer claimed them.
  void lost(const std::string& stream, const std::string& group, std::uint32_t lane,
            std::uint64_t first, std::uint64_t count);

 private:
  void publish(const std::string& kind, const std::string& stream, const std::string& group,
               const std::string& more);

  std::shared_ptr<session_core> session_;
  std::map<std::string, std::unique_ptr<publisher_core>> publishers_;  // by kind
  std::chrono::steady_clock::time_point quiet_until_{};
};

}  // namespace bus::events
