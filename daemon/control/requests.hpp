#pragma once
/// requests: carries out the requests that a client may send to busd, named by `do`.

#include <nlohmann/json.hpp>

#include <bus/error.hpp>

#include "streams/keeper.hpp"

namespace bus::control {

/// Errors: invalid_argument (unknown request, missing field), those of the keeper
result<nlohmann::json> answer(streams::keeper& keeper, const nlohmann::json& request);

}  // namespace bus::control
