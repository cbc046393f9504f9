#pragma once
/// checked_text: JSON in a file, with a line behind it that holds its checksum.

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace bus::wire {

/// The text, two columns of indent, and "crc32c N".
std::string with_checksum(const nlohmann::json& what);
/// Empty: the checksum does not hold, or it is no JSON.
std::optional<nlohmann::json> checked(std::string_view text);

}  // namespace bus::wire
