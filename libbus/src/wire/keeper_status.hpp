#pragma once
/// keeper_status: the status of busd, in the JSON of the control protocol and in the public
/// structs.

#include <nlohmann/json.hpp>

#include <bus/statistics.hpp>

namespace bus::wire {

nlohmann::json to_json(const keeper_info& info);
/// Fields that are missing or have another type stay empty.
keeper_info keeper_from_json(const nlohmann::json& from);

}  // namespace bus::wire
