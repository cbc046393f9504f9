#pragma once
/// stream_json: a stream's configuration as JSON, in requests to busd and in busd's own directory.
/// The names are those of the fields, and of the options of `bus stream add`.

#include <nlohmann/json.hpp>

#include <bus/error.hpp>
#include <bus/stream_config.hpp>

namespace bus::wire {

nlohmann::json to_json(const stream_config& config);
/// Missing fields keep their defaults; unknown ones are ignored.
/// Errors: invalid_argument (a field of the wrong type, an unknown name)
result<stream_config> stream_from_json(const nlohmann::json& from);

/// A number or a text; empty when the field is missing or has another type.
std::optional<std::uint64_t> number_of(const nlohmann::json& from, const char* field);
std::optional<std::string> text_of(const nlohmann::json& from, const char* field);

}  // namespace bus::wire
