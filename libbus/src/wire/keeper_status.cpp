#include "wire/keeper_status.hpp"

#include "wire/stream_json.hpp"

namespace bus::wire {

namespace {

using nlohmann::json;
using wire::number_of;
using wire::text_of;

std::int64_t ns_since_epoch(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

}  // namespace

json to_json(const keeper_info& info) {
  json logs = json::array();
  for (const log_info& log : info.logs)
    logs.push_back({{"stream", log.stream},
                    {"lane", log.lane},
                    {"health", log.health},
                    {"first_sequence", log.first_sequence},
                    {"written_sequence", log.written_sequence},
                    {"durable_sequence", log.durable_sequence},
                    {"segments", log.segments},
                    {"bytes", log.bytes},
                    {"bytes_written", log.bytes_written},
                    {"commits", log.commits},
                    {"recovery_bytes_read", log.recovery_bytes_read},
                    {"recovery_rewritten", log.recovery_rewritten},
                    {"damages", log.damages}});
  return {{"ok", true},
          {"pid", static_cast<std::uint64_t>(info.pid)},
          {"version", info.version},
          {"data_directory", info.data_directory},
          {"disk", info.disk},
          {"started_ns", static_cast<std::uint64_t>(ns_since_epoch(info.started))},
          {"recovery_ns", static_cast<std::uint64_t>(info.recovery.count())},
          {"disk_total_bytes", info.disk_total_bytes},
          {"disk_free_bytes", info.disk_free_bytes},
          {"logs", std::move(logs)},
          {"problems", info.problems}};
}

keeper_info keeper_from_json(const json& from) {
  keeper_info info;
  const auto number = [](const json& of, const char* field) {
    return number_of(of, field).value_or(0);
  };
  info.pid = static_cast<std::int64_t>(number(from, "pid"));
  info.version = text_of(from, "version").value_or("");
  info.data_directory = text_of(from, "data_directory").value_or("");
  info.disk = text_of(from, "disk").value_or("");
  info.started = std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::nanoseconds(number(from, "started_ns"))));
  info.recovery = std::chrono::nanoseconds(number(from, "recovery_ns"));
  info.disk_total_bytes = number(from, "disk_total_bytes");
  info.disk_free_bytes = number(from, "disk_free_bytes");
  if (const auto logs = from.find("logs"); logs != from.end() && logs->is_array()) {
    for (const json& one : *logs) {
      log_info log;
      log.stream = text_of(one, "stream").value_or("");
      log.lane = static_cast<std::uint32_t>(number(one, "lane"));
      log.health = text_of(one, "health").value_or("");
      log.first_sequence = number(one, "first_sequence");
      log.written_sequence = number(one, "written_sequence");
      log.durable_sequence = number(one, "durable_sequence");
      log.segments = number(one, "segments");
      log.bytes = number(one, "bytes");
      log.bytes_written = number(one, "bytes_written");
      log.commits = number(one, "commits");
      log.recovery_bytes_read = number(one, "recovery_bytes_read");
      log.recovery_rewritten = number(one, "recovery_rewritten");
      log.damages = number(one, "damages");
      info.logs.push_back(std::move(log));
    }
  }
  if (const auto list = from.find("problems"); list != from.end() && list->is_array())
    for (const json& one : *list)
      if (one.is_string()) info.problems.push_back(one.get<std::string>());
  return info;
}

}  // namespace bus::wire
