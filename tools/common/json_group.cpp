// The JSON objects for groups, their messages and their dead letters.

#include "json.hpp"
#include "text.hpp"

namespace tools {

namespace {

double milliseconds(std::chrono::nanoseconds t) {
  return std::chrono::duration<double, std::milli>(t).count();
}

// In the form that `bus group add --deliver` accepts.
std::string show_start(const bus::start& from) {
  switch (from.at) {
    case bus::start::kind::from_new: return "new";
    case bus::start::kind::from_all: return "all";
    case bus::start::kind::from_last: return "last";
    case bus::start::kind::from_sequence: return "by_sequence:" + std::to_string(from.sequence);
    case bus::start::kind::from_time: return "by_time:" + show_time(from.time);
    case bus::start::kind::from_last_per_subject: return "last_per_subject";
  }
  return "unknown";
}

json headers_of(const std::vector<std::pair<std::string, std::string>>& headers) {
  json object = json::object();
  for (const auto& [key, value] : headers) object[key] = value;
  return object;
}

template <class Duration>
json optional_ns(const std::optional<Duration>& t) {
  return t ? json(t->count()) : json(nullptr);
}

}  // namespace

json to_json(const bus::group_config& config) {
  json backoff = json::array();
  for (const auto delay : config.backoff) backoff.push_back(milliseconds(delay));
  return {{"filter", config.filter},
          {"headers", headers_of(config.headers)},
          {"headers_all", config.headers_all},
          {"ack", bus::ack_name(config.ack)},
          {"order", bus::order_name(config.order)},
          {"on_fail", bus::on_fail_name(config.on_fail)},
          {"mode", bus::mode_name(config.mode)},
          {"deliver", show_start(config.deliver)},
          {"max_ack_pending", config.max_ack_pending},
          {"max_delayed", config.max_delayed},
          {"max_parked", config.max_parked},
          {"ack_wait_ms", milliseconds(config.ack_wait)},
          {"max_lease_ms", milliseconds(config.max_lease)},
          {"max_deliver", config.max_deliver},
          {"backoff_ms", std::move(backoff)},
          {"jitter", config.jitter},
          {"dead_letters", config.dead_letters},
          {"hold_bytes", config.hold_bytes},
          {"max_consumers", config.max_consumers},
          {"idle_release_ms", milliseconds(config.idle_release)}};
}

json to_json(const bus::group_info& group) {
  const auto& c = group.counts;
  json consumers = json::array();
  for (const auto& one : group.consumers)
    consumers.push_back({{"name", one.name},
                         {"process", one.process_id},
                         {"alive", one.alive},
                         {"active", one.active},
                         {"claimed", one.claimed},
                         {"settled", one.settled}});
  return {{"stream", group.config.stream},
          {"group", group.config.name},
          {"config", to_json(group.config)},
          {"counts",
           {{"settled", c.settled},
            {"filtered", c.filtered},
            {"dropped", c.dropped},
            {"dead", c.dead},
            {"pending", c.pending},
            {"unclaimed", c.unclaimed}}},
          {"pending",
           {{"leased", c.leased},
            {"ready", c.ready},
            {"delayed", c.delayed},
            {"parked", c.parked},
            {"dying", c.dying}}},
          {"redelivered", group.redelivered},
          {"expired", group.expired},
          {"nacked", group.nacked},
          {"released", group.released},
          {"returned_by_death", group.returned_by_death},
          {"repaired", group.repaired},
          {"consumers", std::move(consumers)},
          {"damaged", group.damaged},
          {"paused", group.paused},
          {"paused_for_ns", optional_ns(group.paused_for)},
          {"hold_used_bytes", group.hold_used_bytes},
          {"oldest_age_ns", optional_ns(group.oldest_age)},
          {"dead_letters_kept", group.dead_letters_kept},
          {"consistent", group.is_consistent},
          {"why", group.why}};
}

json to_json(const bus::pending_message& m) {
  return {{"sequence", m.sequence},
          {"lane", m.lane},
          {"state", m.state},
          {"started", m.started},
          {"acquired", m.acquired},
          {"failed", m.failed},
          {"holder", m.holder},
          {"pid", m.pid},
          {"thread", m.thread},
          {"age_ns", m.age.count()},
          {"held_for_ns", m.held_for.count()},
          {"remaining_ns", m.remaining.count()},
          {"subject", m.subject},
          {"bytes", m.bytes}};
}

json to_json(const bus::peeked_message& m) {
  json object = {{"sequence", m.sequence},
                 {"subject", m.subject},
                 {"lane", m.lane},
                 {"age_ns", m.age.count()}};
  put_payload(object, text_of(m.payload));
  if (!m.headers.empty()) object["headers"] = headers_of(m.headers);
  return object;
}

json to_json(const bus::dead_letter& d) {
  json object = {{"sequence", d.sequence},
                 {"reason", d.reason},
                 {"error", d.error},
                 {"attempts", d.attempts},
                 {"first_time", show_time(d.first_time)},
                 {"last_time", show_time(d.last_time)},
                 {"publish_time", show_time(d.publish_time)},
                 {"stream", d.stream},
                 {"group", d.group},
                 {"subject", d.subject},
                 {"origin_lane", d.origin_lane},
                 {"origin_sequence", d.origin_sequence},
                 {"process", d.process}};
  put_payload(object, text_of(d.payload));
  if (!d.headers.empty()) object["headers"] = headers_of(d.headers);
  return object;
}

}  // namespace tools
