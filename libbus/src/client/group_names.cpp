#include <array>
#include <string>
#include <utility>

#include <bus/group.hpp>

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
               "invalid " + std::string(field) + " '" + std::string(text) + "'",
               "there is no such value", "use one of " + all};
}

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
