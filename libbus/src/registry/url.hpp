#pragma once
/// url: `bus:///NAME?name=PROCESS&slots=N&root=DIR` or just NAME.

#include <cstdint>
#include <string>
#include <string_view>

#include <bus/error.hpp>

namespace bus::registry {

struct bus_address {
  std::string name = "default";
  std::string root;          // directory that holds buses; empty: $BUS_ROOT, else /dev/shm
  std::string process_name;  // empty: the program's
  std::uint32_t slots = 0;   // 0: default

  std::string directory() const;  // ROOT/bus-UID.NAME
};

/// If `url` is empty: $BUS_URL, else the default bus.
/// Errors: invalid_argument
result<bus_address> parse_url(std::string_view url);

}  // namespace bus::registry
