#pragma once
/// url: `bus:///NAME?name=PROCESS&slots=N&root=DIR` or just NAME.

#include <cstdint>
#include <string>
#include <string_view>

#include <bus/error.hpp>

namespace bus::client {

struct bus_address {
  std::string name = "default";
  std::string root;          // directory that holds buses; empty: $BUS_ROOT, else /dev/shm
  std::string process_name;  // empty: the program's
  std::uint32_t slots = 0;   // 0: default

  std::string directory() const;  // ROOT/bus-UID.NAME
};

/// Empty: $BUS_URL, else the default bus.
/// Errors: invalid_argument
result<bus_address> parse_url(std::string_view url);
/// 1-63 of A-Z a-z 0-9 _ - . and not starting with a dot. Empty: valid; else the reason.
std::string_view name_flaw(std::string_view name) noexcept;

}  // namespace bus::client
