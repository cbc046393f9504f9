// The names of all enumerations of the configuration, for files, options, JSON and output.

#include <array>
#include <string>
#include <utility>

#include <bus/group.hpp>
#include <bus/message.hpp>
#include <bus/stream_config.hpp>

namespace bus {

namespace {

template <class Value, std::size_t Count>
const char* name_in(const std::array<std::pair<Value, const char*>, Count>& names,
                    Value value) noexcept {
  for (const auto& [known, name] : names)
    if (known == value) return name;
  return "unknown";
}

template <class Value, std::size_t Count>
result<Value> value_in(const std::array<std::pair<Value, const char*>, Count>& names,
                       const char* field, std::string_view text) {
  std::string all;
  for (const auto& [known, name] : names) {
    if (text == name) return known;
    all += (all.empty() ? "" : ", ") + std::string(name);
  }
  return error{errc::invalid_argument, 0,
               "invalid " + std::string(field) + " '" + std::string(text) + "'", "no such value",
               "use one of " + all};
}

constexpr std::array<std::pair<overflow, const char*>, 4> overflow_names{
    {{overflow::block, "block"},
     {overflow::reject, "reject"},
     {overflow::drop_oldest, "drop_oldest"},
     {overflow::drop_new, "drop_new"}}};
constexpr std::array<std::pair<storage_class, const char*>, 3> storage_names{
    {{storage_class::memory, "memory"},
     {storage_class::spill, "spill"},
     {storage_class::durable, "durable"}}};
constexpr std::array<std::pair<fsync_policy, const char*>, 3> fsync_names{
    {{fsync_policy::batch, "batch"},
     {fsync_policy::interval, "interval"},
     {fsync_policy::never, "never"}}};
constexpr std::array<std::pair<compression, const char*>, 2> compression_names{
    {{compression::none, "none"}, {compression::zstd, "zstd"}}};
constexpr std::array<std::pair<gap_reason, const char*>, 5> gap_reason_names{
    {{gap_reason::overwritten, "overwritten"},
     {gap_reason::unsynced, "unsynced"},
     {gap_reason::corrupt, "corrupt"},
     {gap_reason::not_logged, "not_logged"},
     {gap_reason::removed, "removed"}}};
constexpr std::array<std::pair<ack_policy, const char*>, 3> ack_names{
    {{ack_policy::explicit_ack, "explicit"}, {ack_policy::none, "none"}, {ack_policy::all, "all"}}};
constexpr std::array<std::pair<group_order, const char*>, 3> order_names{
    {{group_order::none, "none"}, {group_order::key, "key"}, {group_order::total, "total"}}};
constexpr std::array<std::pair<on_fail, const char*>, 2> on_fail_names{
    {{on_fail::block, "block"}, {on_fail::skip, "skip"}}};
constexpr std::array<std::pair<group_mode, const char*>, 3> mode_names{
    {{group_mode::shared, "shared"},
     {group_mode::exclusive, "exclusive"},
     {group_mode::failover, "failover"}}};

}  // namespace

const char* overflow_name(overflow policy) noexcept { return name_in(overflow_names, policy); }
result<overflow> parse_overflow(std::string_view text) {
  return value_in(overflow_names, "overflow", text);
}
const char* storage_name(storage_class kept) noexcept { return name_in(storage_names, kept); }
result<storage_class> parse_storage(std::string_view text) {
  return value_in(storage_names, "storage", text);
}
const char* fsync_name(fsync_policy policy) noexcept { return name_in(fsync_names, policy); }
result<fsync_policy> parse_fsync(std::string_view text) {
  return value_in(fsync_names, "fsync", text);
}
const char* compression_name(compression method) noexcept {
  return name_in(compression_names, method);
}
result<compression> parse_compression(std::string_view text) {
  return value_in(compression_names, "compress", text);
}
const char* gap_reason_name(gap_reason reason) noexcept {
  return name_in(gap_reason_names, reason);
}
const char* ack_name(ack_policy policy) noexcept { return name_in(ack_names, policy); }
result<ack_policy> parse_ack(std::string_view text) { return value_in(ack_names, "ack", text); }
const char* order_name(group_order order) noexcept { return name_in(order_names, order); }
result<group_order> parse_order(std::string_view text) {
  return value_in(order_names, "order", text);
}
const char* on_fail_name(on_fail rule) noexcept { return name_in(on_fail_names, rule); }
result<on_fail> parse_on_fail(std::string_view text) {
  return value_in(on_fail_names, "on_fail", text);
}
const char* mode_name(group_mode mode) noexcept { return name_in(mode_names, mode); }
result<group_mode> parse_mode(std::string_view text) { return value_in(mode_names, "mode", text); }

std::string dead_letter_stream(std::string_view stream, std::string_view group) {
  return std::string(stream) + "." + std::string(group) + ".dlq";
}

}  // namespace bus
