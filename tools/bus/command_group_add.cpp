// bus group add: adds a group; each of its rules is an option.

#include <cstdio>
#include <memory>

#include "commands.hpp"

namespace tools {

namespace {

struct options {
  bus::group_config config;
  bool any = false;
};

[[noreturn]] void refuse(const std::string& option, const std::string& text, const char* why) {
  throw CLI::ValidationError(option, "'" + text + "' " + why);
}

std::chrono::nanoseconds duration_of(const std::string& option, const std::string& text) {
  const auto parsed = parse_duration(text);
  if (!parsed) refuse(option, text, "is not a duration such as 500ms, 30s or 12h");
  return *parsed;
}

void add_duration(CLI::App* to, const std::string& option, std::chrono::nanoseconds& field,
                  const char* text) {
  to->add_option_function<std::string>(
        option, [&field, option](const std::string& t) { field = duration_of(option, t); }, text)
      ->default_str(exact_duration(field));
}

// An option whose value is one of a few words.
template <class Value, class Parse>
void add_word(CLI::App* to, const std::string& option, Value& field, Parse parse, const char* first,
              const char* text) {
  to->add_option_function<std::string>(
        option,
        [&field, option, parse](const std::string& t) {
          auto parsed = parse(t);
          if (!parsed) refuse(option, t, parsed.error().fix.c_str());
          field = *parsed;
        },
        text)
      ->default_str(first);
}

std::string join(const std::vector<std::chrono::nanoseconds>& delays) {
  std::string text;
  for (const auto delay : delays) text += (text.empty() ? "" : ",") + exact_duration(delay);
  return text;
}

std::vector<std::chrono::nanoseconds> delays_of(const std::string& text) {
  std::vector<std::chrono::nanoseconds> all;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    all.push_back(duration_of("--backoff", text.substr(at, end - at)));
    at = end + 1;
  }
  return all;
}

std::pair<std::string, std::string> header_of(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0) refuse("--header", text, "is not KEY=VALUE");
  return {text.substr(0, equals), text.substr(equals + 1)};
}

bus::start start_of(const std::string& text) {
  const auto colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  const std::string value = colon == std::string::npos ? "" : text.substr(colon + 1);
  if (text == "all") return bus::start::all();
  if (text == "new") return bus::start::new_messages();
  if (text == "last") return bus::start::last();
  if (kind == "by_sequence" && !value.empty() &&
      value.find_first_not_of("0123456789") == std::string::npos && value.size() < 20)
    return bus::start::by_sequence(std::stoull(value));
  if (kind == "by_time")
    if (const auto time = parse_time(value)) return bus::start::by_time(*time);
  refuse("--deliver", text,
         "is not all, new, last, by_sequence:N, or by_time:T with T as 5m (ago) or 10:15:00");
}

// Names the requested rules that the existing group does not have. Where it started matters only
// when it is created.
std::string differences(const bus::group_config& there, const bus::group_config& wanted) {
  const json old = to_json(there), now = to_json(wanted);
  std::string fields;
  for (const auto& [key, value] : now.items())
    if (key != "deliver" && old.at(key) != value) fields += (fields.empty() ? "" : ", ") + key;
  return fields;
}

int add(const context& c, const options& o) {
  bus::group_config config = o.config;
  config.headers_all = !o.any;
  auto session = c.open("group add", false);
  if (!session) return c.fail(session.error());
  auto added = session->add_group(config);
  auto info = session->group(config.stream, config.name);
  if (!added) {
    if (added.error().code != bus::errc::conflict || !info) return c.fail(added.error());
    const std::string fields = differences(info->config, config);
    if (!fields.empty())
      return c.fail({bus::errc::conflict, 0,
                     "cannot add the group '" + config.name + "' of stream '" + config.stream + "'",
                     "it exists and differs in " + fields,
                     "bus group info " + config.stream + " " + config.name});
  }
  if (!info) return c.fail(info.error());
  if (c.json) {
    std::printf("%s\n", dump(to_json(*info), true).c_str());
    return 0;
  }
  std::string takes;
  for (const auto& pattern : config.filter) takes += (takes.empty() ? "" : ",") + pattern;
  std::printf("group %s of stream %s receives %s\n", config.name.c_str(), config.stream.c_str(),
              takes.empty() ? "everything" : takes.c_str());
  return 0;
}

void add_what(CLI::App* to, options& o) {
  auto& config = o.config;
  to->add_option("--filter", config.filter, "Take only these subjects: a pattern, repeatable")
      ->allow_extra_args(false);
  to->add_option_function<std::vector<std::string>>(
        "--header,-H",
        [&config](const std::vector<std::string>& all) {
          for (const auto& text : all) config.headers.push_back(header_of(text));
        },
        "Take only messages with this header: KEY=VALUE, repeatable")
      ->allow_extra_args(false);
  to->add_flag("--headers-any", o.any, "One matching header is enough");
  to->add_option_function<std::string>(
        "--deliver", [&config](const std::string& t) { config.deliver = start_of(t); },
        "Where the group starts: all, new, last, by_sequence:N or by_time:T")
      ->default_str("all");
}

void add_how(CLI::App* to, bus::group_config& config) {
  add_word(
      to, "--mode", config.mode, bus::parse_mode, "shared",
      "Which consumers get messages: shared (all), exclusive (one), failover (one, then the next)");
  add_word(to, "--ack", config.ack, bus::parse_ack, "explicit",
           "Acknowledge each message (explicit), none (none), or all up to one (all)");
  add_word(to, "--order", config.order, bus::parse_order, "none",
           "One message at a time: per key (key), or of the whole group (total)");
  add_word(to, "--on-fail", config.on_fail, bus::parse_on_fail, "block",
           "With an order, while a message waits for its retry, later ones wait (block) or "
           "not (skip)");
}

void add_failures(CLI::App* to, bus::group_config& config) {
  add_duration(to, "--ack-wait", config.ack_wait, "Duration of a lease; 0: unlimited");
  add_duration(to, "--max-lease", config.max_lease,
               "Longest duration of a lease with all extensions");
  to->add_option("--max-deliver", config.max_deliver,
                 "Failures after which a message becomes a dead letter; -1: unlimited")
      ->capture_default_str();
  to->add_option_function<std::string>(
        "--backoff", [&config](const std::string& t) { config.backoff = delays_of(t); },
        "Delays before each retry; the last one repeats")
      ->default_str(join(config.backoff));
  to->add_option("--jitter", config.jitter,
                 "Random variation of each delay, as a share of it, 0 to 1")
      ->capture_default_str();
  to->add_option_function<std::string>(
        "--dlq", [&config](const std::string& t) { config.dead_letters = t == "keep"; },
        "keep: store dead letters; none: drop and count them")
      ->default_str("keep")
      ->check(CLI::IsMember({"keep", "none"}));
}

void add_limits(CLI::App* to, bus::group_config& config) {
  to->add_option("--max-ack-pending", config.max_ack_pending, "Largest number of pending messages")
      ->capture_default_str();
  to->add_option("--max-delayed", config.max_delayed,
                 "Messages that wait for a retry; further ones count against --max-ack-pending")
      ->capture_default_str();
  to->add_option("--max-parked", config.max_parked, "Messages that wait for their key")
      ->capture_default_str();
  to->add_option_function<std::string>(
        "--hold-bytes",
        [&config](const std::string& t) {
          const auto bytes = parse_bytes(t);
          if (!bytes) refuse("--hold-bytes", t, "is not a size such as 16MiB");
          config.hold_bytes = *bytes;
        },
        "Memory for pending messages, so that they do not pin the ring")
      ->default_str(exact_bytes(config.hold_bytes));
  to->add_option("--max-consumers", config.max_consumers, "Largest number of consumers")
      ->capture_default_str();
  add_duration(to, "--idle-release", config.idle_release,
               "After this long without a consumer, the group no longer holds publishers back");
}

}  // namespace

void add_group_add(CLI::App& group, context& c) {
  auto o = std::make_shared<options>();
  auto* command = group.add_subcommand("add", "Add a group of consumers to a stream");
  command->add_option("stream", o->config.stream, "Name of the stream")->required();
  command->add_option("group", o->config.name, "Name of the group")->required();
  add_what(command, *o);
  add_how(command, o->config);
  add_failures(command, o->config);
  add_limits(command, o->config);
  command->footer(
      "Examples:\n  bus group add orders workers\n  bus group add orders billing --filter "
      "'orders.*.paid' --order key --max-deliver 3\n  bus group add orders eu --header region=eu "
      "--backoff 1s,10s,1m");
  command->callback([o, &c] { c.run = [o, &c] { return add(c, *o); }; });
}

}  // namespace tools
