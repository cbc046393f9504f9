#include "configuration.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/bits.hpp"
#include "client/url.hpp"

namespace bus {

namespace {

error bad(const std::string& where, std::string why) {
  return {errc::invalid_argument, 0, "cannot use the configuration " + where, std::move(why),
          "man busd tells the settings"};
}

// The parser (toml++ 3.3) must not meet characters outside of ASCII but in comments and in texts of
// one line: where it looks for white space, some of them are undefined behaviour. Answers the first
// line with such a character; 0: there is none. A file with texts of several lines has ASCII only.
std::size_t strange_line(std::string_view text) noexcept {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; }))
    return 0;
  const bool has_long_texts = text.find("\"\"\"") != text.npos || text.find("'''") != text.npos;
  std::size_t line = 1;
  char quote = 0;
  bool comment = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') {
      ++line;
      quote = 0;
      comment = false;
    } else if (static_cast<signed char>(c) < 0) {
      if (has_long_texts || (quote == 0 && !comment)) return line;
    } else if (comment) {
      continue;
    } else if (quote != 0) {
      const char next = i + 1 < text.size() ? text[i + 1] : '\0';
      if (c == '\\' && quote == '"' && (next == '"' || next == '\\'))
        ++i;
      else if (c == quote)
        quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#') {
      comment = true;
    }
  }
  return 0;
}

}  // namespace

result<void> parse_configuration(std::string_view text, const std::string& name,
                                 configuration& into) {
  if (const std::size_t line = strange_line(text); line != 0)
    return bad(name + ":" + std::to_string(line),
               "a character outside of ASCII belongs into a text on one line, or a comment");
  const toml::parse_result parsed = toml::parse(text, name);
  if (!parsed) {
    std::ostringstream where;
    where << name << ":" << parsed.error().source().begin.line;
    return bad(where.str(), std::string(parsed.error().description()));
  }
  for (const auto& entry : parsed.table()) {
    const std::string field(entry.first.str());
    const toml::node& value = entry.second;
    std::ostringstream at;
    at << name << ":" << value.source().begin.line;
    const auto wrong = [&](const char* wanted) {
      return bad(at.str(), field + " is not " + wanted);
    };
    const auto text_into = [&](std::string& to) -> result<void> {
      if (!value.is_string()) return wrong("a text");
      to = value.as_string()->get();
      return {};
    };
    const auto number_into = [&](std::uint64_t& to) -> result<void> {
      if (!value.is_integer() || value.as_integer()->get() < 0) return wrong("a whole number");
      to = static_cast<std::uint64_t>(value.as_integer()->get());
      return {};
    };
    const auto share_into = [&](double& to) -> result<void> {
      const auto found = value.value<double>();
      if (!found || (!value.is_floating_point() && !value.is_integer())) return wrong("a number");
      to = *found;
      return {};
    };
    result<void> done;
    if (field == "bus") done = text_into(into.bus);
    else if (field == "data") done = text_into(into.data);
    else if (field == "io") done = text_into(into.io);
    else if (field == "log_level") done = text_into(into.log_level);
    else if (field == "log_file") done = text_into(into.log_file);
    else if (field == "disk_warn") done = share_into(into.disk_warn);
    else if (field == "disk_block") done = share_into(into.disk_block);
    else if (field == "buffers") done = number_into(into.buffers);
    else if (field == "buffer_bytes") done = number_into(into.buffer_bytes);
    else done = bad(at.str(), "there is no setting '" + field + "'");
    if (!done) return done;
  }
  return {};
}

result<void> read_configuration(const std::string& path, configuration& into) {
  std::ifstream file(path);
  if (!file)
    return error{errc::not_found, errno, "cannot read the configuration " + path,
                 std::strerror(errno), "name another with --config"};
  std::ostringstream text;
  text << file.rdbuf();
  return parse_configuration(text.str(), path, into);
}

result<void> check_configuration(const configuration& settings) {
  const auto wrong = [](const char* field, const char* range) {
    return bad("of busd", std::string(field) + " must be " + range);
  };
  if (const auto flaw = client::name_flaw(settings.bus); !flaw.empty())
    return bad("of busd", "bus: " + std::string(flaw));
  if (settings.data.empty()) return wrong("data", "a directory: busd --data DIR");
  if (settings.io != "auto" && settings.io != "io_uring" && settings.io != "posix")
    return wrong("io", "auto, io_uring or posix");
  if (settings.log_level != "debug" && settings.log_level != "info" &&
      settings.log_level != "warning" && settings.log_level != "error")
    return wrong("log_level", "debug, info, warning or error");
  if (!(settings.disk_warn > 0 && settings.disk_warn <= settings.disk_block &&
        settings.disk_block <= 1))
    return wrong("disk_warn and disk_block", "above 0, not above 1, and in this order");
  if (settings.buffers < 2 || settings.buffers > 1024) return wrong("buffers", "2 to 1024");
  if (!base::is_power_of_two(settings.buffer_bytes) || settings.buffer_bytes < (256u << 10) ||
      settings.buffer_bytes > (1u << 30))
    return wrong("buffer_bytes", "a power of two from 256 KiB to 1 GiB");
  return {};
}

}  // namespace bus
