#pragma once
/// configuration: busd's settings: defaults, then a TOML file, then the command line.
///
/// The file's keys are the long options with `_` for `-`; docs/man/busd.8.

#include <string>

#include <bus/error.hpp>

namespace bus {

struct configuration {
  std::string bus;  // its name; empty: that of $BUS_URL, else default
  std::string url;  // of it
  std::string data;
  std::string io = "auto";  // auto, io_uring, posix
  std::string log_level = "info";
  std::string log_file;  // empty: standard error
  double disk_warn = 0.70;
  double disk_block = 0.85;
  std::uint64_t buffers = 8;
  std::uint64_t buffer_bytes = 4ull << 20;
};

/// Over what `into` has.
/// Errors: not_found, invalid_argument: the file, line and key
result<void> read_configuration(const std::string& path, configuration& into);
/// The same, of a text. `name` stands for the file in errors.
result<void> parse_configuration(std::string_view text, const std::string& name,
                                 configuration& into);
/// Errors: invalid_argument: which setting, and its range
result<void> check_configuration(const configuration& settings);

}  // namespace bus
