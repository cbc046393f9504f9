#pragma once
/// commands: shared by the files command_*.cpp. Each adds its subcommand to the application and
/// runs it through `context`.

#include <CLI/CLI.hpp>
#include <bus/bus.hpp>

#include <functional>
#include <string>

#include "json.hpp"
#include "text.hpp"

namespace tools {

/// Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 conflict, 5 permission, 6 timeout, 7
/// unavailable, 8 loss, 9 corruption.
inline constexpr int exit_failure = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_timeout = 6;
inline constexpr int exit_loss = 8;

struct context {
  std::string url;           // --bus
  bool json = false;         // --json, on every command that prints
  int status = 0;            // of the command that ran
  std::function<int()> run;  // set by the subcommand that was given

  /// Prints what, why and fix, and returns the exit status.
  int fail(const bus::error& error) const;
  int usage(const std::string& what, const std::string& why) const;
  /// Prints what was done, or why it was not; returns the exit status.
  int say(const bus::result<void>& outcome, const std::string& done) const;
  bus::result<bus::session> open(const char* as, bool create) const;
  /// A session for inspecting the bus. It needs no memory of its own, so it works when none is
  /// left. With `guest_if_full` it also takes locks, while there is memory or some of the reserve
  /// is left.
  bus::result<bus::session> look(const char* as,
                                 bus::membership joins = bus::membership::guest) const;
};

void add_pub(CLI::App& app, context& c);
void add_sub(CLI::App& app, context& c);
void add_stream(CLI::App& app, context& c);
void add_group(CLI::App& app, context& c);
/// `bus group add` and `bus group next`; below `bus group`.
void add_group_add(CLI::App& group, context& c);
void add_group_next(CLI::App& group, context& c);
void add_queue(CLI::App& app, context& c);
void add_dlq(CLI::App& app, context& c);
void add_ps(CLI::App& app, context& c);
void add_record(CLI::App& app, context& c);
/// Commands for the log; below `bus stream`.
void add_log(CLI::App& stream, context& c);
void add_bench(CLI::App& app, context& c);
void add_bench_group(CLI::App& command, context& c);  // below `bench`
void add_doctor(CLI::App& app, context& c);
void add_completion(CLI::App& app, context& c);

/// Stops on SIGINT and SIGTERM.
bool interrupted();
void catch_interrupts(std::function<void()> on_interrupt = {});

}  // namespace tools
