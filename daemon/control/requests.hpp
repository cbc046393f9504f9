#pragma once
/// requests: what a client may ask of busd, by the word in `do`.

#include <nlohmann/json.hpp>

#include <bus/error.hpp>

#include "streams/keeper.hpp"

namespace bus::control {

/// Errors: invalid_argument (unknown request, missing field), what the keeper answers
result<nlohmann::json> answer(streams::keeper& keeper, const nlohmann::json& request);

}  // namespace bus::control
