#include "configuration.hpp"

#include <string_view>

#include "base/bits.hpp"
#include "target.hpp"

namespace bus::fuzz {

// Input: the text of the file.
void configuration(input bytes) {
  bus::configuration settings;
  settings.data = "/var/lib/bus";
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto parsed = parse_configuration(text, "busd.toml", settings);
  if (!parsed) {
    require(parsed.error().code == errc::invalid_argument,
            "a text that is refused is a wrong argument");
    require(
        parsed.error().what.find("busd.toml") != std::string::npos && !parsed.error().why.empty(),
        "a refusal names the file, and says why");
    return;
  }
  const auto checked = check_configuration(settings);
  if (!checked) {
    require(checked.error().code == errc::invalid_argument && !checked.error().why.empty(),
            "a refusal says why");
    return;
  }
  require(!settings.bus.empty() && !settings.data.empty(), "there is a bus and a directory");
  require(settings.disk_warn > 0 && settings.disk_block <= 1, "shares are shares");
  require(base::is_power_of_two(settings.buffer_bytes) && settings.buffers >= 2,
          "buffers are buffers");
}

}  // namespace bus::fuzz
