#include <algorithm>

#include "consume/consumer_core.hpp"
#include "consume/group_control.hpp"

namespace bus::consume {

result<std::unique_ptr<group_handle>> open_group(session_core& session, std::string_view stream,
                                                 std::string_view group) {
  auto handle = session.stream(std::string(stream));
  if (!handle) return std::move(handle.error());
  return group_handle::open(session, std::move(*handle), group);
}

namespace {

bool is_dead_letters(const registry::stream_handle& stream) {
  return stream.facts().config.subjects.front().starts_with(registry::dead_letter_subjects);
}

// The one stream that captures such subjects.
result<std::shared_ptr<registry::stream_handle>> stream_of(session_core& session,
                                                           std::string_view subject,
                                                           const subject::pattern& pattern) {
  const bool wants_dead_letters = subject.starts_with(registry::dead_letter_subjects);
  std::shared_ptr<registry::stream_handle> found;
  for (auto& stream : session.streams_now()) {
    if (stream->is_default() || is_dead_letters(*stream) != wants_dead_letters ||
        !stream->may_match(pattern))
      continue;
    if (found)
      return error{errc::invalid_argument, 0, "cannot consume '" + std::string(subject) + "'",
                   "the streams '" + found->name() + "' and '" + stream->name() +
                       "' both capture such subjects, and a group belongs to one stream",
                   "name the stream (--stream)"};
    found = stream;
  }
  if (found) return found;
  // No declared stream has such subjects: use the one to which they are published.
  return session.stream_of_subject(subject::is_valid(subject) ? subject : "_");
}

group_config wanted_config(const registry::stream_handle& stream, std::string_view subject,
                           const consumer_options& options) {
  group_config config;
  config.name = options.group;
  config.stream = stream.name();
  const auto& all = stream.facts().config.subjects;
  if (!subject.empty() && subject != ">" && !(all.size() == 1 && all.front() == subject))
    config.filter = {std::string(subject)};
  const auto set = [](auto& field, const auto& option) {
    if (option) field = *option;
  };
  set(config.ack, options.ack);
  set(config.order, options.order);
  set(config.on_fail, options.on_fail);
  set(config.mode, options.mode);
  set(config.deliver, options.deliver);
  set(config.max_ack_pending, options.max_ack_pending);
  set(config.max_delayed, options.max_delayed);
  set(config.max_parked, options.max_parked);
  set(config.ack_wait, options.ack_wait);
  set(config.max_lease, options.max_lease);
  set(config.max_deliver, options.max_deliver);
  set(config.backoff, options.backoff);
  set(config.jitter, options.jitter);
  set(config.dead_letters, options.dead_letters);
  set(config.hold_bytes, options.hold_bytes);
  set(config.headers, options.headers);
  set(config.headers_all, options.headers_all);
  if (!options.max_lease) config.max_lease = std::max(config.max_lease, config.ack_wait);
  return config;
}

// Names of the requested settings that the group does not have.
std::string differences(const group_config& there, const group_config& wanted,
                        std::string_view subject, const consumer_options& options) {
  std::string all;
  const auto differs = [&](bool asked, bool yes, const char* field) {
    if (asked && yes) all += (all.empty() ? "" : ", ") + std::string(field);
  };
  differs(!subject.empty(), there.filter != wanted.filter, "filter");
  differs(options.ack.has_value(), there.ack != wanted.ack, "ack");
  differs(options.order.has_value(), there.order != wanted.order, "order");
  differs(options.on_fail.has_value(), there.on_fail != wanted.on_fail, "on_fail");
  differs(options.mode.has_value(), there.mode != wanted.mode, "mode");
  differs(options.max_ack_pending.has_value(), there.max_ack_pending != wanted.max_ack_pending,
          "max_ack_pending");
  differs(options.max_delayed.has_value(), there.max_delayed != wanted.max_delayed, "max_delayed");
  differs(options.max_parked.has_value(), there.max_parked != wanted.max_parked, "max_parked");
  differs(options.ack_wait.has_value(), there.ack_wait != wanted.ack_wait, "ack_wait");
  differs(options.max_lease.has_value(), there.max_lease != wanted.max_lease, "max_lease");
  differs(options.max_deliver.has_value(), there.max_deliver != wanted.max_deliver, "max_deliver");
  differs(options.backoff.has_value(), there.backoff != wanted.backoff, "backoff");
  differs(options.jitter.has_value(),
          there.jitter > wanted.jitter + 0.001 || there.jitter < wanted.jitter - 0.001, "jitter");
  differs(options.dead_letters.has_value(), there.dead_letters != wanted.dead_letters,
          "dead_letters");
  differs(options.hold_bytes.has_value(), there.hold_bytes != wanted.hold_bytes, "hold_bytes");
  differs(options.headers.has_value(), there.headers != wanted.headers, "headers");
  differs(options.headers_all.has_value(), there.headers_all != wanted.headers_all, "headers_all");
  return all;
}

}  // namespace

result<std::unique_ptr<group_handle>> open_or_create_group(session_core& session,
                                                           std::string_view subject,
                                                           const consumer_options& options) {
  std::shared_ptr<registry::stream_handle> stream;
  if (!subject.empty()) {
    auto pattern = subject::pattern::parse(subject);
    if (!pattern) return std::move(pattern.error());
    auto found = options.stream.empty() ? stream_of(session, subject, *pattern)
                                        : session.stream(options.stream);
    if (!found) return std::move(found.error());
    stream = std::move(*found);
  } else {
    if (options.stream.empty())
      return error{errc::invalid_argument, 0, "cannot consume",
                   "neither a subject nor a stream was named", ""};
    auto found = session.stream(options.stream);
    if (!found) return std::move(found.error());
    stream = std::move(*found);
  }
  const group_config wanted = wanted_config(*stream, subject, options);
  for (int attempt = 0;; ++attempt) {
    auto opened = group_handle::open(session, stream, options.group);
    if (opened) {
      const std::string fields = differences((*opened)->config(), wanted, subject, options);
      if (fields.empty()) return opened;
      return error{
          errc::conflict, 0,
          "cannot join the group '" + options.group + "' of stream '" + stream->name() + "'",
          "it already exists and differs in " + fields,
          "bus group info " + stream->name() + " " + options.group};
    }
    if (opened.error().code != errc::not_found || attempt == 3) return opened;
    auto made = create_group(session, *stream, wanted);
    if (!made && made.error().code != errc::conflict) return std::move(made.error());
  }
}

}  // namespace bus::consume

namespace bus {

result<std::unique_ptr<consumer_core>> consumer_core::make(std::shared_ptr<session_core> session,
                                                           std::string_view subject,
                                                           consumer_options options) {
  const auto bad = [&](const char* field, const char* why) {
    return error{
        errc::invalid_argument, 0,
        "invalid " + std::string(field) + " of a consumer of group '" + options.group + "'", why,
        ""};
  };
  if (options.group.empty()) return bad("group", "it has no name");
  if (options.prefetch < 1 || options.prefetch > 1000) return bad("prefetch", "must be 1 to 1000");
  auto group = consume::open_or_create_group(*session, subject, options);
  if (!group) return std::move(group.error());
  auto core = std::make_unique<consumer_core>();
  core->session = std::move(session);
  core->options = std::move(options);
  core->group_ = std::move(*group);
  core->look_for_deaths_every_ = core->group_->ticks(std::chrono::milliseconds(1));
  auto joined = core->join();
  if (!joined) return std::move(joined.error());
  if (core->options.keep_alive && core->config().ack_wait.count() != 0) {
    auto own = consume::group_handle::open(*core->session, core->group_->shared_stream(),
                                           core->config().name);
    if (!own) return std::move(own.error());
    core->keeper_ = std::make_unique<consume::lease_keeper>(std::move(*own));
  }
  return core;
}

}  // namespace bus
