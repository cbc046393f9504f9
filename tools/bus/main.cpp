// bus: the command line. One file per command; this one parses the arguments and returns the exit
// status.

#include <csignal>
#include <cstdio>
#include <iostream>

#include "commands.hpp"
#include "standard_files.hpp"

namespace tools {

namespace {

volatile std::sig_atomic_t interrupt_seen = 0;
std::function<void()> interrupt_action;

void on_signal(int) {
  interrupt_seen = 1;
  if (interrupt_action) interrupt_action();  // only stop(), which is async-signal-safe
}

}  // namespace

bool interrupted() { return interrupt_seen != 0; }

void catch_interrupts(std::function<void()> on_interrupt) {
  interrupt_action = std::move(on_interrupt);
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGPIPE, SIG_IGN);
}

int context::fail(const bus::error& error) const {
  if (json) {
    std::fprintf(stderr, "%s\n", dump(to_json(error)).c_str());
  } else {
    std::fprintf(stderr, "bus: %s\n", printable(error.what).c_str());
    if (!error.why.empty()) std::fprintf(stderr, "  why: %s\n", printable(error.why).c_str());
    if (!error.fix.empty()) std::fprintf(stderr, "  fix: %s\n", printable(error.fix).c_str());
  }
  return bus::exit_status(error.code);
}

int context::usage(const std::string& what, const std::string& why) const {
  return fail({bus::errc::invalid_argument, 0, what, why, "bus --help, or bus COMMAND --help"});
}

int context::say(const bus::result<void>& outcome, const std::string& done) const {
  if (!outcome) return fail(outcome.error());
  std::printf("%s\n", json ? dump({{"done", done}}).c_str() : done.c_str());
  return 0;
}

bus::result<bus::session> context::open(const char* as, bool create) const {
  // A command for an existing bus must also work when memory is full, so that problems can be
  // fixed.
  return bus::session::open(
      {url, std::string("bus ") + as, create, bus::membership::member, !create});
}

bus::result<bus::session> context::look(const char* as, bus::membership joins) const {
  return bus::session::open(
      {url, std::string("bus ") + as, false, joins, joins != bus::membership::guest});
}

namespace {

/// CLI11 reports a missing command when an unknown one was given.
std::string unknown_command(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  std::string path = app.get_name();
  for (int i = 1; i < argc && at->get_require_subcommand_min() != 0; ++i) {
    const std::string_view word = argv[i];
    if (word.starts_with('-')) {
      i += word == "-b" || word == "--bus" ? 1 : 0;
      continue;
    }
    const auto known = at->get_subcommands(
        [&](const CLI::App* one) { return one->check_name(std::string(word)); });
    if (known.empty())
      return "unknown command '" + path + " " + std::string(word) + "': see " + path + " --help";
    at = known.front();
    path += " " + at->get_name();
  }
  return {};
}

}  // namespace

}  // namespace tools

int main(int argc, char** argv) {
  tools::hold_standard_files();
  tools::context c;
  CLI::App app{"The message bus of this host: publish, subscribe, inspect, measure.", "bus"};
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", "bus " BUS_VERSION);
  app.add_option("--bus,-b", c.url,
                 "Bus: a name, or bus:///NAME?root=DIR (default: $BUS_URL, else 'default')");
  app.add_flag("--json", c.json, "Print JSON");
  app.footer(
      "Try it in two terminals:\n"
      "  bus sub 'md.>'\n"
      "  bus pub md.eq.AAPL 101.25\n\n"
      "Exit status: 0 ok, 1 failure, 2 usage, 3 not found, 4 conflict, 5 permission, 6 timeout,\n"
      "7 unavailable, 8 messages lost, 9 corruption. See bus(1).");
  tools::add_pub(app, c);
  tools::add_sub(app, c);
  tools::add_stream(app, c);
  tools::add_group(app, c);
  tools::add_queue(app, c);
  tools::add_dlq(app, c);
  tools::add_ps(app, c);
  tools::add_record(app, c);
  tools::add_bench(app, c);
  tools::add_doctor(app, c);
  tools::add_completion(app, c);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& wrong) {
    const std::string unknown = tools::unknown_command(app, argc, argv);
    return c.usage("cannot understand the command", unknown.empty() ? wrong.what() : unknown);
  }
  try {
    return c.run ? c.run() : tools::exit_usage;
  } catch (const std::exception& thrown) {  // out of memory, a broken pipe under a stream
    return c.fail({bus::errc::system, 0, "internal error", thrown.what(), ""});
  }
}
