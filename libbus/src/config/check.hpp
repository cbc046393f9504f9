#pragma once
/// check: whether a configuration can be meant. The error names the field and its range.
///
/// Threads    any

#include <string_view>

#include <bus/error.hpp>
#include <bus/group.hpp>
#include <bus/stream_config.hpp>

namespace bus::config {

/// Names of buses, streams and groups: 1-63 of A-Z a-z 0-9 _ - . and not starting with a dot.
/// Empty: the name is valid; else the reason why it is not.
std::string_view name_flaw(std::string_view name) noexcept;

/// Errors: invalid_argument
result<void> check_config(const stream_config& config);
/// Errors: invalid_argument
result<void> check_group(const group_config& config, const stream_config& stream);

}  // namespace bus::config
