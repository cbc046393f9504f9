#pragma once
/// configuration: the settings of busd: defaults, overridden by a TOML file, overridden by the
/// command line.
///
/// Keys in the file are the long options with `_` for `-`. See docs/man/busd.8.

#include <string>

#include <bus/error.hpp>

namespace bus {

struct configuration {
  std::string bus;  ///< name of the bus; empty: that of $BUS_URL, else "default"
  std::string url;  ///< as given to --bus; may be empty
  std::string data;
  std::string io = "auto";  ///< auto, io_uring, posix
  std::string log_level = "info";
  std::string log_file;  ///< empty: standard error
  double disk_warn = 0.70;
  double disk_block = 0.85;
  std::uint64_t buffers = 8;
  std::uint64_t buffer_bytes = 4ull << 20;
};

/// Overrides settings of `into`.
/// Errors: not_found, invalid_argument: the file, line and key
result<void> read_configuration(const std::string& path, configuration& into);
/// The same for text. `name` stands for the file in errors.
result<void> parse_configuration(std::string_view text, const std::string& name,
                                 configuration& into);
/// Errors: invalid_argument: which setting, and its range
result<void> check_configuration(const configuration& settings);

}  // namespace bus
