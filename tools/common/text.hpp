#pragma once
/// text: parses and formats durations, sizes and rates as people write them.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tools {

/// "250ms", "5s", "2m", "1h", "1d", "90us", or a plain number of seconds.
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text);
/// "64KiB", "8MiB", "1GiB", "4096".
std::optional<std::uint64_t> parse_bytes(std::string_view text);
/// "2026-11-22T10:00:00", "10:00:00" today, or "5m" ago.
std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text);

std::string show_bytes(double bytes);                   // "8.0 MiB"
std::string show_count(double count);                   // "1.2 M"
std::string show_duration(std::chrono::nanoseconds t);  // "1.5 ms"
/// Without loss, in the form that parse_duration reads: "30s", "12h", "1500ms".
std::string exact_duration(std::chrono::nanoseconds t);
std::string exact_bytes(std::uint64_t bytes);                    // "16MiB"
std::string show_time(std::chrono::system_clock::time_point t);  // local, with milliseconds
std::string base64(std::string_view bytes);
bool is_utf8(std::string_view text);
/// Safe for a terminal: control characters and invalid UTF-8 become escapes.
std::string printable(std::string_view text);

}  // namespace tools
