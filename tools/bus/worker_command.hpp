#pragma once
/// worker_command: runs a shell command for one message.

#include <bus/bus.hpp>

#include <map>
#include <string>
#include <string_view>

namespace tools {

struct command_run {
  std::string command;  ///< for /bin/sh -c
  std::string_view input;
  std::map<std::string, std::string> environment;  ///< added to that of this process
  bool output_to_errors = false;
};

struct command_outcome {
  int status = 0;
  int signal = 0;               ///< that ended it, else 0
  bool interrupted = false;     ///< ended together with this process, before it was done
  std::string last_error = {};  ///< of its standard error, which is passed on
};

/// Runs the command until it ends. When this process is interrupted (interrupted()), the command
/// has a few seconds to end by itself. If this process dies, the command gets SIGTERM.
/// Errors: system
bus::result<command_outcome> run_command(const command_run& what);

}  // namespace tools
