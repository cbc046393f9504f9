#include "control/requests.hpp"

#include "wire/keeper_status.hpp"
#include "wire/stream_json.hpp"

namespace bus::control {

namespace {

using nlohmann::json;

error misses(const char* field) {
  return {errc::invalid_argument, 0, "busd cannot carry out the request",
          std::string("the request has no usable '") + field + "'", ""};
}

result<json> agree(result<void> outcome) {
  if (!outcome) return std::move(outcome.error());
  return json{{"ok", true}};
}

}  // namespace

result<json> answer(streams::keeper& keeper, const json& request) {
  const std::string wanted = wire::text_of(request, "do").value_or("");
  if (wanted == "status") return wire::to_json(keeper.status());
  if (wanted == "add_stream" || wanted == "edit_stream") {
    if (!request.contains("stream")) return misses("stream");
    auto config = wire::stream_from_json(request["stream"]);
    if (!config) return std::move(config.error());
    return agree(wanted == "add_stream" ? keeper.add_stream(*config) : keeper.edit_stream(*config));
  }
  const auto name = wire::text_of(request, "name");
  if (wanted == "remove_stream")
    return name ? agree(keeper.remove_stream(*name)) : result<json>(misses("name"));
  if (wanted == "purge_stream") {
    const auto below = wire::number_of(request, "below");
    if (!name || !below) return misses(name ? "below" : "name");
    return agree(keeper.purge_stream(*name, *below));
  }
  if (wanted == "seal_stream") {
    const auto sealed = request.find("sealed");
    if (!name || sealed == request.end() || !sealed->is_boolean())
      return misses(name ? "sealed" : "name");
    return agree(keeper.seal_stream(*name, sealed->get<bool>()));
  }
  if (wanted == "restore_stream") {
    const auto from = wire::text_of(request, "from");
    if (!name || !from) return misses(name ? "from" : "name");
    const auto damaged = request.find("damaged");
    auto counts = keeper.restore_stream(
        *name, *from, damaged != request.end() && damaged->is_boolean() && damaged->get<bool>());
    if (!counts) return std::move(counts.error());
    return json{{"ok", true}, {"messages", counts->found}, {"announced", counts->announced}};
  }
  if (wanted == "add_lane") {
    const auto lane = wire::number_of(request, "lane");
    if (!name || !lane || *lane > 64) return misses(name ? "lane" : "name");
    return agree(keeper.add_lane(*name, static_cast<std::uint32_t>(*lane)));
  }
  return error{errc::invalid_argument, 0, "busd cannot carry out the request",
               "unknown request '" + wanted.substr(0, 64) + "'",
               "use the same version of libbus and busd"};
}

}  // namespace bus::control
