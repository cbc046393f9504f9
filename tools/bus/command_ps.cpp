// bus ps: lists the processes on the bus, and what they publish, read and consume.

#include <cstdio>
#include <utility>

#include "commands.hpp"

namespace tools {

namespace {

// What a process consumes, and from which group.
struct membership {
  const bus::group_info* group;
  const bus::group_info::consumer* consumer;
};

std::vector<membership> memberships_of(std::uint32_t process,
                                       const std::vector<bus::group_info>& groups) {
  std::vector<membership> all;
  for (const auto& group : groups)
    for (const auto& consumer : group.consumers)
      if (consumer.process_id == process) all.push_back({&group, &consumer});
  return all;
}

int run(const context& c) {
  auto session = c.look("ps");
  if (!session) return c.fail(session.error());
  auto processes = session->processes();
  if (!processes) return c.fail(processes.error());
  auto found = session->groups();  // bus doctor reports a broken one
  const auto groups = found ? std::move(*found) : std::vector<bus::group_info>();
  if (c.json) {
    json all = json::array();
    for (const auto& process : *processes) {
      json object = to_json(process);
      object["consumers"] = json::array();
      for (const auto& m : memberships_of(process.id, groups))
        object["consumers"].push_back({{"stream", m.group->config.stream},
                                       {"group", m.group->config.name},
                                       {"active", m.consumer->active},
                                       {"claimed", m.consumer->claimed},
                                       {"settled", m.consumer->settled}});
      all.push_back(std::move(object));
    }
    std::printf("%s\n", dump(all, true).c_str());
    return 0;
  }
  if (const auto keeper = session->keeper()) {
    std::printf("busd pid %lld keeps %zu logs in %s\n", static_cast<long long>(keeper->pid),
                keeper->logs.size(), keeper->data_directory.c_str());
    for (const auto& log : keeper->logs)
      std::printf("  logs       stream %-20s lane %-3u #%llu to #%llu on disk  %-10s %s\n",
                  log.stream.c_str(), log.lane, static_cast<unsigned long long>(log.first_sequence),
                  static_cast<unsigned long long>(log.durable_sequence),
                  show_bytes(static_cast<double>(log.bytes)).c_str(),
                  log.health == "good" ? "" : log.health.c_str());
  }
  for (const auto& p : *processes) {
    std::printf("%-24s pid %-8lld %-8s since %s%s\n", printable(p.name).c_str(),
                static_cast<long long>(p.pid), state_name(p.state), show_time(p.joined).c_str(),
                p.other_namespace ? "  (other namespace)" : "");
    for (const auto& q : p.publishers)
      std::printf("  publishes  %-28s stream %-16s %12llu messages%s%s\n",
                  printable(q.subject).c_str(), q.stream.c_str(),
                  static_cast<unsigned long long>(q.messages), q.exclusive ? "  exclusive" : "",
                  q.blocked ? "  BLOCKED" : "");
    for (const auto& r : p.readers)
      std::printf(
          "  reads      %-28s stream %-16s lag %12llu  %llu lost%s\n", printable(r.name).c_str(),
          r.stream.c_str(), static_cast<unsigned long long>(r.lag_messages),
          static_cast<unsigned long long>(r.lost), r.gating ? "  holds publishers back" : "");
    for (const auto& m : memberships_of(p.id, groups))
      std::printf("  consumes   %-28s stream %-16s %12llu settled%s\n",
                  m.group->config.name.c_str(), m.group->config.stream.c_str(),
                  static_cast<unsigned long long>(m.consumer->settled),
                  m.consumer->active ? "" : "  standby");
  }
  return 0;
}

}  // namespace

void add_ps(CLI::App& app, context& c) {
  app.add_subcommand("ps", "List processes, their publishers, subscribers and consumers")
      ->callback([&c] { c.run = [&c] { return run(c); }; });
}

}  // namespace tools
