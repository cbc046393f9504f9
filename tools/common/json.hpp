#pragma once
/// json: the objects that `--json` prints, defined once, so that all tools use the same names.

#include <bus/bus.hpp>

#include <nlohmann/json.hpp>

namespace tools {

using json = nlohmann::ordered_json;

json to_json(const bus::stream_info& stream);
json to_json(const bus::publisher_info& publisher);
json to_json(const bus::reader_info& reader);
json to_json(const bus::process_info& process);
json to_json(const bus::message& message);
json to_json(const bus::group_config& config);
json to_json(const bus::group_info& group);
json to_json(const bus::pending_message& message);
json to_json(const bus::peeked_message& message);
json to_json(const bus::dead_letter& letter);
json to_json(const bus::error& error);
json to_json(const bus::gap& gap);
/// The payload as text; also as base64 if it is not UTF-8.
void put_payload(json& object, std::string_view payload);
std::string_view text_of(const std::vector<std::byte>& payload);
/// Never throws: invalid UTF-8 is replaced.
std::string dump(const json& value, bool pretty = false);
const char* state_name(bus::process_state state);

}  // namespace tools
