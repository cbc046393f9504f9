#include "text.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <utility>

namespace tools {

namespace {

struct number {
  double value;
  std::string_view unit;
};

std::optional<number> split_number(std::string_view text) {
  number found{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), found.value);
  if (parsed.ec != std::errc() || !std::isfinite(found.value) || found.value < 0)
    return std::nullopt;
  found.unit = text.substr(static_cast<std::size_t>(parsed.ptr - text.data()));
  return found;
}

std::string format(const char* pattern, double value, const char* unit) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), pattern, value, unit);
  return text.data();
}

}  // namespace

std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  const auto parsed = split_number(text);
  if (!parsed) return std::nullopt;
  double ns = 0;
  if (parsed->unit == "ns")
    ns = 1;
  else if (parsed->unit == "us")
    ns = 1e3;
  else if (parsed->unit == "ms")
    ns = 1e6;
  else if (parsed->unit == "s" || parsed->unit.empty())
    ns = 1e9;
  else if (parsed->unit == "m")
    ns = 60e9;
  else if (parsed->unit == "h")
    ns = 3600e9;
  else if (parsed->unit == "d")
    ns = 86400e9;
  else
    return std::nullopt;
  const double total = parsed->value * ns;
  if (total > 9e18) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  const auto parsed = split_number(text);
  if (!parsed) return std::nullopt;
  double factor = 0;
  if (parsed->unit.empty() || parsed->unit == "B")
    factor = 1;
  else if (parsed->unit == "KiB" || parsed->unit == "K" || parsed->unit == "k")
    factor = 1024;
  else if (parsed->unit == "MiB" || parsed->unit == "M")
    factor = 1024.0 * 1024;
  else if (parsed->unit == "GiB" || parsed->unit == "G")
    factor = 1024.0 * 1024 * 1024;
  else
    return std::nullopt;
  const double total = parsed->value * factor;
  if (total > 1e18) return std::nullopt;
  return static_cast<std::uint64_t>(total);
}

std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text) {
  const auto now = std::chrono::system_clock::now();
  if (const auto ago = parse_duration(text))
    return now - std::chrono::duration_cast<std::chrono::system_clock::duration>(*ago);
  const std::time_t now_seconds = std::chrono::system_clock::to_time_t(now);
  std::tm parts{};
  localtime_r(&now_seconds, &parts);
  const std::string copy(text);
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, used = 0;
  double second = 0;
  if (std::sscanf(copy.c_str(), "%d-%d-%d%*1[T ]%d:%d:%lf%n", &year, &month, &day, &hour, &minute,
                  &second, &used) == 6) {
    parts.tm_year = year - 1900;
    parts.tm_mon = month - 1;
    parts.tm_mday = day;
  } else if (std::sscanf(copy.c_str(), "%d:%d:%lf%n", &hour, &minute, &second, &used) != 3) {
    return std::nullopt;
  }
  if (static_cast<std::size_t>(used) != copy.size() || hour > 23 || minute > 59 || second >= 61 ||
      second < 0)
    return std::nullopt;
  parts.tm_hour = hour;
  parts.tm_min = minute;
  parts.tm_sec = static_cast<int>(second);
  parts.tm_isdst = -1;
  const std::time_t whole = std::mktime(&parts);
  if (whole < 0) return std::nullopt;
  const auto fraction =
      std::chrono::nanoseconds(static_cast<std::int64_t>((second - std::floor(second)) * 1e9));
  return std::chrono::system_clock::from_time_t(whole) +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(fraction);
}

std::string show_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) bytes /= 1024, ++unit;
  return format(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

std::string show_count(double count) {
  const char* units[] = {"", " k", " M", " G"};
  std::size_t unit = 0;
  while (count >= 10000 && unit + 1 < std::size(units)) count /= 1000, ++unit;
  return format(unit == 0 ? "%.0f%s" : "%.1f%s", count, units[unit]);
}

std::string show_duration(std::chrono::nanoseconds t) {
  const auto ns = static_cast<double>(t.count());
  if (ns < 1e3) return format("%.0f %s", ns, "ns");
  if (ns < 1e6) return format("%.1f %s", ns / 1e3, "us");
  if (ns < 1e9) return format("%.1f %s", ns / 1e6, "ms");
  if (ns < 120e9) return format("%.1f %s", ns / 1e9, "s");
  if (ns < 7200e9) return format("%.0f %s", ns / 60e9, "min");
  return format("%.1f %s", ns / 3600e9, "h");
}

std::string exact_duration(std::chrono::nanoseconds t) {
  static constexpr std::pair<std::int64_t, const char*> units[] = {
      {86'400'000'000'000, "d"}, {3'600'000'000'000, "h"}, {60'000'000'000, "m"},
      {1'000'000'000, "s"},      {1'000'000, "ms"},        {1'000, "us"}};
  if (t.count() == 0) return "0s";
  for (const auto& [unit, name] : units)
    if (t.count() % unit == 0) return std::to_string(t.count() / unit) + name;
  return std::to_string(t.count()) + "ns";
}

std::string exact_bytes(std::uint64_t bytes) {
  static constexpr std::pair<std::uint64_t, const char*> units[] = {
      {1ull << 30, "GiB"}, {1ull << 20, "MiB"}, {1ull << 10, "KiB"}};
  for (const auto& [unit, name] : units)
    if (bytes != 0 && bytes % unit == 0) return std::to_string(bytes / unit) + name;
  return std::to_string(bytes);
}

std::string show_time(std::chrono::system_clock::time_point t) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(t);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(t.time_since_epoch()).count() % 1000;
  const std::size_t used = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + used, text.size() - used, ".%03d", static_cast<int>(ms));
  return text.data();
}

std::string base64(std::string_view bytes) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](std::size_t at) {
      return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0u;
    };
    const unsigned group = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    text += digits[group >> 18 & 63];
    text += digits[group >> 12 & 63];
    text += i + 1 < bytes.size() ? digits[group >> 6 & 63] : '=';
    text += i + 2 < bytes.size() ? digits[group & 63] : '=';
  }
  return text;
}

namespace {

// Length of the well-formed UTF-8 sequence at the start, else 0.
std::size_t sequence_length(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t length = first < 0x80                    ? 1
                             : first >= 0xc2 && first < 0xe0 ? 2
                             : first >= 0xe0 && first < 0xf0 ? 3
                             : first >= 0xf0 && first < 0xf5 ? 4
                                                             : 0;
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0u) != 0x80u) return 0;
  const auto second = length > 1 ? static_cast<unsigned char>(text[1]) : 0u;
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (length == 0 || first < 0x20 || first == 0x7f ||
        (length == 2 && first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0)) {
      const std::size_t bad = length == 0 ? 1 : length;
      for (std::size_t i = 0; i < bad; ++i) {
        std::array<char, 8> escape{};
        std::snprintf(escape.data(), escape.size(), "\\x%02x",
                      static_cast<unsigned>(static_cast<unsigned char>(text[i])));
        shown += escape.data();
      }
      text.remove_prefix(bad);
    } else {
      shown += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return shown;
}

}  // namespace tools
