#include "wire/stream_json.hpp"

namespace bus::wire {

namespace {

using nlohmann::json;

error bad(const char* field, const char* wanted) {
  return {errc::invalid_argument, 0, "invalid stream configuration",
          std::string(field) + " is not " + wanted, ""};
}

std::uint64_t ns(std::chrono::nanoseconds time) { return static_cast<std::uint64_t>(time.count()); }

}  // namespace

std::optional<std::uint64_t> number_of(const json& from, const char* field) {
  if (!from.is_object()) return std::nullopt;
  const auto found = from.find(field);
  if (found == from.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<std::uint64_t>();
}

std::optional<std::string> text_of(const json& from, const char* field) {
  if (!from.is_object()) return std::nullopt;
  const auto found = from.find(field);
  if (found == from.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

json to_json(const stream_config& config) {
  return {{"name", config.name},
          {"subjects", config.subjects},
          {"overflow", overflow_name(config.overflow)},
          {"mode", config.mode == lane_mode::fixed ? "fixed" : "per_publisher"},
          {"lanes", config.lanes},
          {"ring_bytes", config.ring_bytes},
          {"max_message_bytes", config.max_message_bytes},
          {"send_timeout_ns", ns(config.send_timeout)},
          {"max_subjects", config.max_subjects},
          {"max_readers", config.max_readers},
          {"ephemeral", config.ephemeral},
          {"storage", storage_name(config.storage)},
          {"fsync", fsync_name(config.fsync)},
          {"fsync_interval_ns", ns(config.fsync_interval)},
          {"segment_bytes", config.segment_bytes},
          {"max_age_ns", ns(config.max_age)},
          {"max_bytes", config.max_bytes},
          {"max_messages", config.max_messages},
          {"max_messages_per_subject", config.max_messages_per_subject},
          {"compress", compression_name(config.compress)}};
}

result<stream_config> stream_from_json(const json& from) {
  if (!from.is_object()) return bad("it", "an object");
  stream_config config;
  const char* wrong = nullptr;
  const auto number = [&](const char* field, auto& into) {
    if (!from.contains(field)) return;
    const auto value = number_of(from, field);
    if (!value || *value > std::numeric_limits<std::remove_reference_t<decltype(into)>>::max())
      wrong = field;
    else
      into = static_cast<std::remove_reference_t<decltype(into)>>(*value);
  };
  const auto time = [&](const char* field, std::chrono::nanoseconds& into) {
    std::int64_t value = into.count();
    number(field, value);
    into = std::chrono::nanoseconds(value);
  };
  const auto truth = [&](const char* field, bool& into) {
    const auto found = from.find(field);
    if (found == from.end()) return;
    if (!found->is_boolean())
      wrong = field;
    else
      into = found->get<bool>();
  };
  const auto name = text_of(from, "name");
  if (!name) return bad("name", "a string");
  config.name = *name;
  if (from.contains("subjects")) {
    if (!from["subjects"].is_array()) return bad("subjects", "a list");
    for (const json& subject : from["subjects"]) {
      if (!subject.is_string()) return bad("subjects", "a list of strings");
      config.subjects.push_back(subject.get<std::string>());
    }
  }
  if (from.contains("overflow")) {
    auto parsed = parse_overflow(text_of(from, "overflow").value_or(""));
    if (!parsed) return std::move(parsed.error());
    config.overflow = *parsed;
  }
  if (from.contains("mode")) {
    const auto mode = text_of(from, "mode");
    if (mode != "fixed" && mode != "per_publisher") return bad("mode", "fixed or per_publisher");
    config.mode = mode == "fixed" ? lane_mode::fixed : lane_mode::per_publisher;
  }
  if (from.contains("storage")) {
    auto parsed = parse_storage(text_of(from, "storage").value_or(""));
    if (!parsed) return std::move(parsed.error());
    config.storage = *parsed;
  }
  if (from.contains("fsync")) {
    auto parsed = parse_fsync(text_of(from, "fsync").value_or(""));
    if (!parsed) return std::move(parsed.error());
    config.fsync = *parsed;
  }
  if (from.contains("compress")) {
    auto parsed = parse_compression(text_of(from, "compress").value_or(""));
    if (!parsed) return std::move(parsed.error());
    config.compress = *parsed;
  }
  number("lanes", config.lanes);
  number("ring_bytes", config.ring_bytes);
  number("max_message_bytes", config.max_message_bytes);
  time("send_timeout_ns", config.send_timeout);
  number("max_subjects", config.max_subjects);
  number("max_readers", config.max_readers);
  truth("ephemeral", config.ephemeral);
  time("fsync_interval_ns", config.fsync_interval);
  number("segment_bytes", config.segment_bytes);
  time("max_age_ns", config.max_age);
  number("max_bytes", config.max_bytes);
  number("max_messages", config.max_messages);
  number("max_messages_per_subject", config.max_messages_per_subject);
  if (wrong != nullptr) return bad(wrong, "valid");
  return config;
}

}  // namespace bus::wire
