#include "configuration.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/bits.hpp"
#include "config/check.hpp"
#include "registry/url.hpp"

namespace bus {

namespace {

error bad(const std::string& where, std::string why) {
  return {errc::invalid_argument, 0, "invalid configuration " + where, std::move(why),
          "man busd lists the settings"};
}

// Returns what is wrong with a line. Accepts an empty line, or KEY = VALUE with a quoted text or a
// word, each with an optional comment. The parser (toml++ 3.3) accepts more, but fails, or worse,
// on some non-ASCII characters, table names and times.
const char* flaw_of_line(std::string_view line) noexcept {
  std::size_t at = 0;
  const auto skip = [&](const char* these) {
    const std::size_t begin = at;
    at = std::min(line.find_first_not_of(these, at), line.size());
    return at != begin;
  };
  constexpr const char* word = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._";
  const auto at_end = [&] {
    skip(" \t");
    return at == line.size() || line[at] == '#';
  };
  if (at_end()) return nullptr;
  if (!skip(word)) return "expected KEY = VALUE";
  skip(" \t");
  if (at == line.size() || line[at++] != '=') return "expected KEY = VALUE";
  skip(" \t");
  if (at < line.size() && (line[at] == '"' || line[at] == '\'')) {
    const char quote = line[at++];
    while (at < line.size() && line[at] != quote) at += line[at] == '\\' && quote == '"' ? 2 : 1;
    if (at >= line.size()) return "the quoted text does not end on its line";
    ++at;
  } else if (!skip(word)) {
    return "a value must be a quoted text or a number";
  }
  return at_end() ? nullptr : "unexpected text after the value";
}

}  // namespace

result<void> parse_configuration(std::string_view text, const std::string& name,
                                 configuration& into) {
  for (std::size_t number = 1, at = 0; at < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const char* flaw = flaw_of_line(line); flaw != nullptr)
      return bad(name + ":" + std::to_string(number), flaw);
    at = end + 1;
  }
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
      if (!value.is_string()) return wrong("a quoted text");
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
    if (field == "bus")
      done = text_into(into.bus);
    else if (field == "data")
      done = text_into(into.data);
    else if (field == "io")
      done = text_into(into.io);
    else if (field == "log_level")
      done = text_into(into.log_level);
    else if (field == "log_file")
      done = text_into(into.log_file);
    else if (field == "disk_warn")
      done = share_into(into.disk_warn);
    else if (field == "disk_block")
      done = share_into(into.disk_block);
    else if (field == "buffers")
      done = number_into(into.buffers);
    else if (field == "buffer_bytes")
      done = number_into(into.buffer_bytes);
    else
      done = bad(at.str(), "unknown setting '" + field + "'");
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
  if (const auto flaw = config::name_flaw(settings.bus); !flaw.empty())
    return bad("of busd", "bus: " + std::string(flaw));
  if (settings.data.empty()) return wrong("data", "a directory: busd --data DIR");
  if (settings.io != "auto" && settings.io != "io_uring" && settings.io != "posix")
    return wrong("io", "auto, io_uring or posix");
  if (settings.log_level != "debug" && settings.log_level != "info" &&
      settings.log_level != "warning" && settings.log_level != "error")
    return wrong("log_level", "debug, info, warning or error");
  if (!(settings.disk_warn > 0 && settings.disk_warn <= settings.disk_block &&
        settings.disk_block <= 1))
    return wrong("disk_warn and disk_block",
                 "above 0 and at most 1, and disk_warn at most disk_block");
  if (settings.buffers < 2 || settings.buffers > 1024) return wrong("buffers", "2 to 1024");
  if (!base::is_power_of_two(settings.buffer_bytes) || settings.buffer_bytes < (256u << 10) ||
      settings.buffer_bytes > (1u << 30))
    return wrong("buffer_bytes", "a power of two from 256 KiB to 1 GiB");
  return {};
}

}  // namespace bus
