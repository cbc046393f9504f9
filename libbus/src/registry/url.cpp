#include "registry/url.hpp"

#include <charconv>
#include <cstdlib>

#include "config/check.hpp"
#include "layout/process.hpp"
#include "os/files.hpp"

namespace bus::registry {

namespace {

error bad_url(std::string_view url, std::string why) {
  return {errc::invalid_argument, 0, "invalid bus address '" + std::string(url) + "'",
          std::move(why),
          "use bus:///NAME, bus:///NAME?name=PROCESS&slots=N&root=DIR, or a plain name"};
}

}  // namespace

std::string bus_address::directory() const {
  return (root.empty() ? os::bus_root() : root) + "/bus-" + std::to_string(os::user_id()) + "." +
         name;
}

result<bus_address> parse_url(std::string_view url) {
  if (url.empty()) {
    const char* from_environment = std::getenv("BUS_URL");
    url = from_environment != nullptr ? from_environment : "";
  }
  bus_address address;
  const std::string_view whole = url;
  constexpr std::string_view scheme = "bus:";
  std::string_view query;
  if (const auto mark = url.find('?'); mark != std::string_view::npos) {
    query = url.substr(mark + 1);
    url = url.substr(0, mark);
  }
  if (url.substr(0, scheme.size()) == scheme) {
    url.remove_prefix(scheme.size());
    if (url.substr(0, 2) == "//") {
      url.remove_prefix(2);
      if (!url.empty() && url.front() != '/')
        return bad_url(whole,
                       "it names a host, but a bus is local to this host: use three slashes");
    }
    while (!url.empty() && url.front() == '/') url.remove_prefix(1);
  }
  if (!url.empty()) address.name = url;
  if (const auto flaw = config::name_flaw(address.name); !flaw.empty())
    return bad_url(whole, "bus name: " + std::string(flaw));
  while (!query.empty()) {
    const auto end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
    const auto equals = pair.find('=');
    const std::string_view key = pair.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1);
    if (key == "name") {
      address.process_name = value;
    } else if (key == "root") {
      if (value.empty() || value.front() != '/')
        return bad_url(whole, "root must be an absolute directory");
      address.root = value;
    } else if (key == "slots") {
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), address.slots);
      if (parsed.ec != std::errc() || parsed.ptr != value.data() + value.size() ||
          address.slots < 8 || address.slots > layout::max_slots)
        return bad_url(whole,
                       "slots must be a number from 8 to " + std::to_string(layout::max_slots));
    } else {
      return bad_url(whole, "unknown option '" + std::string(key) + "'");
    }
  }
  return address;
}

}  // namespace bus::registry
