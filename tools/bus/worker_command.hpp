#pragma once
/// worker_command: one run of a shell command for one message.

#include <bus/bus.hpp>

#include <map>
#include <string>
#include <string_view>

namespace tools {

struct command_run {
  std::string command;  ///< for /bin/sh -c
  std::string_view input;
  std::map<std::string, std::string> environment;  ///< beside that of this process
  bool output_to_errors = false;
};

struct command_outcome {
  int status = 0;
  int signal = 0;               ///< that ended it, else 0
  bool interrupted = false;     ///< ended with this process, before it was done
  std::string last_error = {};  ///< last line of its standard error, which is passed on
};

/// Runs it to its end. When this process is told to end (interrupted()), it has some seconds to end
/// by itself. It dies with this process.
/// Errors: system
bus::result<command_outcome> run_command(const command_run& what);

}  // namespace tools
