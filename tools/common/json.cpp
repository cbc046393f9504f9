#include "json.hpp"

#include "text.hpp"

namespace tools {

std::string dump(const json& value, bool pretty) {
  return value.dump(pretty ? 2 : -1, ' ', false, json::error_handler_t::replace);
}

const char* state_name(bus::process_state state) {
  switch (state) {
    case bus::process_state::running: return "running";
    case bus::process_state::stopped: return "stopped";
    case bus::process_state::dead: return "dead";
  }
  return "unknown";
}

json to_json(const bus::stream_info& stream) {
  json lanes = json::array();
  for (const auto& lane : stream.lanes) {
    lanes.push_back({{"lane", lane.index},
                     {"first_sequence", lane.first_sequence},
                     {"last_sequence", lane.last_sequence},
                     {"bytes_published", lane.bytes_published},
                     {"used_bytes", lane.used_bytes},
                     {"dropped", lane.dropped},
                     {"rejected", lane.rejected},
                     {"blocked", lane.blocked},
                     {"repaired", lane.repaired},
                     {"aborted", lane.aborted},
                     {"exclusive_process", lane.exclusive_process},
                     {"logged_sequence", lane.logged_sequence},
                     {"durable_sequence", lane.durable_sequence},
                     {"skipped_sequences", lane.skipped_sequences}});
  }
  const auto& config = stream.config;
  const auto ms = [](std::chrono::nanoseconds time) {
    return std::chrono::duration<double, std::milli>(time).count();
  };
  json object = {
      {"name", config.name},
      {"subjects", config.subjects},
      {"overflow", bus::overflow_name(config.overflow)},
      {"lanes", config.lanes},
      {"lane_mode", config.mode == bus::lane_mode::per_publisher ? "publisher" : "fixed"},
      {"ring_bytes", config.ring_bytes},
      {"max_message_bytes", config.max_message_bytes},
      {"send_timeout_ms", ms(config.send_timeout)},
      {"max_subjects", config.max_subjects},
      {"max_readers", config.max_readers},
      {"ephemeral", config.ephemeral},
      {"storage", bus::storage_name(config.storage)},
      {"epoch", stream.epoch},
      {"sealed", stream.sealed},
      {"created", show_time(stream.created)},
      {"subjects_interned", stream.subjects_interned},
      {"messages", stream.messages()},
      {"lane", lanes}};
  if (config.storage == bus::storage_class::memory) return object;
  object["fsync"] = bus::fsync_name(config.fsync);
  object["fsync_interval_ms"] = ms(config.fsync_interval);
  object["segment_bytes"] = config.segment_bytes;
  if (config.storage == bus::storage_class::spill) return object;
  object["max_age_ms"] = ms(config.max_age);
  object["max_bytes"] = config.max_bytes;
  object["max_messages"] = config.max_messages;
  object["max_messages_per_subject"] = config.max_messages_per_subject;
  object["compress"] = bus::compression_name(config.compress);
  return object;
}

json to_json(const bus::publisher_info& p) {
  return {{"id", p.id},           {"name", p.name},         {"subject", p.subject},
          {"stream", p.stream},   {"lane", p.lane},         {"exclusive", p.exclusive},
          {"blocked", p.blocked}, {"messages", p.messages}, {"bytes", p.bytes},
          {"refused", p.refused}};
}

json to_json(const bus::reader_info& r) {
  return {{"id", r.id},
          {"name", r.name},
          {"stream", r.stream},
          {"lane", r.lane},
          {"gating", r.gating},
          {"sleeping", r.sleeping},
          {"next_sequence", r.next_sequence},
          {"lag_messages", r.lag_messages},
          {"lag_bytes", r.lag_bytes},
          {"delivered", r.delivered},
          {"lost", r.lost}};
}

json to_json(const bus::process_info& p) {
  json publishers = json::array(), readers = json::array();
  for (const auto& publisher : p.publishers) publishers.push_back(to_json(publisher));
  for (const auto& reader : p.readers) readers.push_back(to_json(reader));
  return {{"id", p.id},
          {"pid", p.pid},
          {"other_namespace", p.other_namespace},
          {"uid", p.uid},
          {"name", p.name},
          {"state", state_name(p.state)},
          {"joined", show_time(p.joined)},
          {"publishers", publishers},
          {"subscribers", readers}};
}

void put_payload(json& object, std::string_view payload) {
  object["payload"] = payload;
  if (!is_utf8(payload)) object["payload_base64"] = base64(payload);
}

std::string_view text_of(const std::vector<std::byte>& payload) {
  return {reinterpret_cast<const char*>(payload.data()), payload.size()};
}

json to_json(const bus::message& m) {
  json object = {{"sequence", m.sequence()},
                 {"subject", m.subject()},
                 {"stream", m.stream()},
                 {"lane", m.lane()},
                 {"time", show_time(m.publish_time())},
                 {"publish_ns", std::chrono::duration_cast<std::chrono::nanoseconds>(
                                    m.publish_time().time_since_epoch())
                                    .count()},
                 {"age_ns", m.age().count()},
                 {"publisher", m.publisher_id()}};
  put_payload(object, m.text());
  if (m.has_headers()) {
    json headers = json::object();
    for (const auto& h : m.headers()) headers[std::string(h.key)] = h.value;
    object["headers"] = headers;
  }
  return object;
}

json to_json(const bus::error& error) {
  return {{"error",
           {{"code", bus::errc_name(error.code)},
            {"errno", error.os_errno},
            {"what", error.what},
            {"why", error.why},
            {"fix", error.fix}}}};
}

json to_json(const bus::gap& gap) {
  return {{"gap",
           {{"first", gap.first},
            {"count", gap.count},
            {"stream", gap.stream},
            {"lane", gap.lane},
            {"reason", bus::gap_reason_name(gap.reason)}}}};
}

}  // namespace tools
