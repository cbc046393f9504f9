#include "config/check.hpp"

#include <bit>

#include "base/bits.hpp"
#include "layout/bus_files.hpp"
#include "layout/group.hpp"
#include "layout/lane.hpp"
#include "subject/subject.hpp"

namespace bus::config {

std::string_view name_flaw(std::string_view name) noexcept {
  if (name.empty()) return "it is empty";
  if (name.size() > 63) return "it is longer than 63 bytes";
  if (name.front() == '.') return "it starts with a dot";
  for (const char c : name) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || c == '-' || c == '.';
    if (!fine) return "only A-Z a-z 0-9 _ - . are allowed";
  }
  return {};
}

namespace {

// room for headers beside a payload of max_message_bytes
constexpr std::uint64_t record_overhead = 4096;

error bad_field(const stream_config& config, std::string field, std::string why) {
  return {errc::invalid_argument, 0, "invalid stream '" + config.name + "'",
          std::move(field) + ": " + std::move(why), "bus stream add --help shows the ranges"};
}

result<void> check_storage(const stream_config& config) {
  if (config.storage > storage_class::durable)
    return bad_field(config, "storage", "not one of memory, spill, durable");
  // A spill stream has what somebody has not read, and nothing else.
  if (config.storage != storage_class::durable) {
    const char* field = config.max_age.count() != 0            ? "max_age"
                        : config.max_bytes != 0                ? "max_bytes"
                        : config.max_messages != 0             ? "max_messages"
                        : config.max_messages_per_subject != 0 ? "max_messages_per_subject"
                        : config.compress != compression::none ? "compress"
                                                               : nullptr;
    if (field != nullptr)
      return bad_field(config, field, "only streams with storage durable support it");
  }
  if (config.storage == storage_class::memory) return {};
  if (config.overflow == overflow::drop_oldest)
    return bad_field(config, "overflow",
                     "drop_oldest loses messages, but a stream with a log must not: choose block, "
                     "reject or drop_new");
  if (config.ephemeral)
    return bad_field(config, "ephemeral",
                     "a stream with a log is not removed when its processes end");
  if (config.fsync < fsync_policy::batch || config.fsync > fsync_policy::never)
    return bad_field(config, "fsync", "not one of batch, interval, never");
  if (config.fsync_interval < std::chrono::milliseconds(1) ||
      config.fsync_interval > std::chrono::hours(1))
    return bad_field(config, "fsync_interval", "must be 1 ms to 1 h");
  if (config.segment_bytes < (1u << 20) || config.segment_bytes > (1ull << 32))
    return bad_field(config, "segment_bytes", "must be 1 MiB to 4 GiB");
  if (config.compress > compression::zstd)
    return bad_field(config, "compress", "not one of none, zstd");
  if (config.max_age.count() < 0) return bad_field(config, "max_age", "must not be negative");
  return {};
}

}  // namespace

result<void> check_config(const stream_config& config) {
  if (const auto flaw = name_flaw(config.name); !flaw.empty())
    return error{errc::invalid_argument, 0, "invalid stream name '" + config.name + "'",
                 std::string(flaw), ""};
  if (config.subjects.empty())
    return bad_field(config, "subjects", "at least one pattern is required");
  std::size_t bytes = 0;
  for (const std::string& text : config.subjects) {
    auto parsed = subject::pattern::parse(text);
    if (!parsed) return std::move(parsed.error());
    bytes += text.size() + 1;
  }
  if (bytes > layout::patterns_max_bytes)
    return bad_field(config, "subjects", "more than 4096 bytes of patterns");
  if (config.overflow < overflow::block || config.overflow > overflow::drop_new)
    return bad_field(config, "overflow", "not one of block, reject, drop_oldest, drop_new");
  if (config.mode != lane_mode::fixed && config.mode != lane_mode::per_publisher)
    return bad_field(config, "mode", "neither fixed nor per_publisher");
  if (config.lanes < 1 || config.lanes > 64) return bad_field(config, "lanes", "must be 1 to 64");
  if (!base::is_power_of_two(config.ring_bytes) || config.ring_bytes < layout::lane_min_capacity ||
      config.ring_bytes > layout::lane_max_capacity)
    return bad_field(config, "ring_bytes", "must be a power of two from 64 KiB to 64 GiB");
  if (config.max_message_bytes < 1 || config.max_message_bytes > 0xffff0000u)
    return bad_field(config, "max_message_bytes", "must be 1 byte to just below 4 GiB");
  if ((config.max_message_bytes + record_overhead) * layout::largest_record_share >
      config.ring_bytes)
    return bad_field(config, "max_message_bytes",
                     "a message of " + std::to_string(config.max_message_bytes) +
                         " bytes needs ring_bytes of at least " +
                         std::to_string(std::bit_ceil((config.max_message_bytes + record_overhead) *
                                                      layout::largest_record_share)));
  if (config.max_readers < 1 || config.max_readers > 65536)
    return bad_field(config, "max_readers", "must be 1 to 65536");
  if (config.max_subjects > 16'000'000)
    return bad_field(config, "max_subjects", "must be at most 16000000");
  if (config.send_timeout.count() < 0)
    return bad_field(config, "send_timeout", "must not be negative");
  return check_storage(config);
}

namespace {

constexpr auto ack_wait_max = std::chrono::hours(12);

error bad(const group_config& config, const char* field, std::string why) {
  return {errc::invalid_argument, 0,
          "invalid " + std::string(field) + " of group '" + config.name + "'", std::move(why), ""};
}

result<void> check_filter(const group_config& config) {
  std::size_t bytes = 0;
  for (const std::string& text : config.filter) {
    auto parsed = subject::pattern::parse(text);
    if (!parsed) return std::move(parsed.error());
    bytes += text.size() + 1;
  }
  for (const auto& [key, value] : config.headers) {
    if (key.empty() || key.find('=') != key.npos || key.find('\0') != key.npos ||
        value.find('\0') != value.npos)
      return bad(config, "headers", "a key must not be empty, nor contain '='");
    bytes += key.size() + value.size() + 2;
  }
  if (bytes > layout::group_filter_bytes)
    return bad(config, "filter", "more than 2048 bytes of patterns and headers");
  return {};
}

result<void> check_combination(const group_config& config, const stream_config& stream) {
  if (config.ack == ack_policy::all && config.mode == group_mode::shared)
    return bad(
        config, "ack",
        "ack=all settles messages of other consumers: it requires mode exclusive or failover");
  if (config.ack == ack_policy::all && config.order == group_order::key)
    return bad(config, "ack",
               "ack=all excludes order=key: the order of a key is not that of the lane");
  if (config.ack == ack_policy::none && config.order != group_order::none)
    return bad(
        config, "ack",
        "with ack=none no message is ever pending: there is no order to keep but the stream's");
  if (config.order == group_order::total) {
    if (stream.lanes != 1)
      return bad(config, "order",
                 "order=total requires a stream with one lane; this one may have " +
                     std::to_string(stream.lanes));
    if (config.on_fail == on_fail::skip)
      return bad(config, "on_fail", "order=total cannot skip a message");
  }
  if (stream.storage != storage_class::memory)
    return bad(config, "stream",
               std::string("groups of streams with storage ") + storage_name(stream.storage) +
                   " are not supported yet");
  return {};
}

}  // namespace

result<void> check_group(const group_config& config, const stream_config& stream) {
  if (const auto flaw = name_flaw(config.name); !flaw.empty())
    return error{errc::invalid_argument, 0, "invalid group name '" + config.name + "'",
                 std::string(flaw), ""};
  if (config.dead_letters && !name_flaw(dead_letter_stream(stream.name, config.name)).empty())
    return bad(
        config, "name",
        "combined with the stream's name it is too long for the name of the dead-letter stream");
  auto checked = check_filter(config);
  if (!checked) return checked;
  if (config.ack < ack_policy::explicit_ack || config.ack > ack_policy::all)
    return bad(config, "ack", "not one of explicit, none, all");
  if (config.order < group_order::none || config.order > group_order::total)
    return bad(config, "order", "not one of none, key, total");
  if (config.on_fail < on_fail::block || config.on_fail > on_fail::skip)
    return bad(config, "on_fail", "neither block nor skip");
  if (config.mode < group_mode::shared || config.mode > group_mode::failover)
    return bad(config, "mode", "not one of shared, exclusive, failover");
  if (config.max_ack_pending < 1 || config.max_ack_pending > 1'000'000)
    return bad(config, "max_ack_pending", "must be 1 to 1000000");
  if (config.max_delayed > 1'000'000) return bad(config, "max_delayed", "must be at most 1000000");
  if (config.max_parked > 1'000'000) return bad(config, "max_parked", "must be at most 1000000");
  if (config.ack_wait.count() < 0 || config.ack_wait > ack_wait_max)
    return bad(config, "ack_wait", "must be 0 (none) to 12 h");
  if (config.ack_wait.count() > 0 && config.ack_wait < std::chrono::milliseconds(1))
    return bad(config, "ack_wait", "must be at least 1 ms, or 0 for none");
  if (config.max_lease < config.ack_wait || config.max_lease > ack_wait_max)
    return bad(config, "max_lease", "must be ack_wait to 12 h");
  if (config.max_deliver != -1 && (config.max_deliver < 1 || config.max_deliver > 1000))
    return bad(config, "max_deliver", "must be 1 to 1000, or -1 for no limit");
  if (config.backoff.size() > layout::group_backoff_max)
    return bad(config, "backoff", "at most 16 delays");
  for (const auto delay : config.backoff)
    if (delay.count() < 0 || delay > std::chrono::hours(24 * 365))
      return bad(config, "backoff", "each must be 0 to 1 year");
  if (!(config.jitter >= 0) || config.jitter > 1) return bad(config, "jitter", "must be 0 to 1");
  if (config.hold_bytes < 64 * 1024 || config.hold_bytes > 1ull << 40)
    return bad(config, "hold_bytes", "must be 64 KiB to 1 TiB");
  if (config.max_consumers < 1 || config.max_consumers > layout::group_members_max)
    return bad(config, "max_consumers", "must be 1 to 4095");
  if (config.idle_release.count() < 0) return bad(config, "idle_release", "must not be negative");
  return check_combination(config, stream);
}

}  // namespace bus::config
