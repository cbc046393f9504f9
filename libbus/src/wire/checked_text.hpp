#pragma once
/// checked_text: JSON in a file, followed by a line with its checksum.

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace bus::wire {

/// The JSON, indented by two columns, then the line "crc32c N".
std::string with_checksum(const nlohmann::json& what);
/// Empty: the checksum does not match, or the text is not JSON.
std::optional<nlohmann::json> checked(std::string_view text);

}  // namespace bus::wire
