#pragma once
/// keeper_status: how busd does, in the words of the control protocol and of the public header.

#include <nlohmann/json.hpp>

#include <bus/statistics.hpp>

namespace bus::client {

nlohmann::json to_json(const keeper_info& info);
/// What is missing or of another type is left empty.
keeper_info keeper_from_json(const nlohmann::json& from);

}  // namespace bus::client
