// bus-top: the live monitor of one bus.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <thread>

#include "picture.hpp"
#include "screen.hpp"
#include "standard_files.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  tools::hold_standard_files();
  std::string url;
  bool once = false, json = false;
  double interval = 1;
  CLI::App app{"Live monitor: streams, publishers, subscribers, processes.", "bus-top"};
  app.set_version_flag("--version", "bus-top " BUS_VERSION);
  app.add_option("--bus,-b", url,
                 "Bus: a name, or bus:///NAME (default: $BUS_URL, else 'default')");
  app.add_option("--interval,-i", interval, "Seconds between two samples")
      ->capture_default_str()
      ->check(CLI::Range(0.05, 3600.0));
  app.add_flag("--once", once, "Take two samples, one interval apart, print and exit");
  app.add_flag("--json", json,
               "With --once: one object with streams, publishers, subscribers, processes");
  app.footer(
      "Keys: Tab or 1-4 choose a table, s sorts by the next column, r reverses, / filters,\nEnter "
      "explains a row, p pauses, q quits.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& wrong) {
    std::fprintf(stderr,
                 "bus-top: cannot understand the command\n  why: %s\n  fix: bus-top --help\n",
                 wrong.what());
    return 2;
  }
  auto session = bus::session::open({url, "bus-top", false, bus::membership::guest});
  if (!session) {
    const auto& error = session.error();
    if (json)
      std::fprintf(stderr, "%s\n", tools::dump(tools::to_json(error)).c_str());
    else
      std::fprintf(stderr, "bus-top: %s\n  why: %s\n  fix: %s\n", error.what.c_str(),
                   error.why.c_str(), error.fix.c_str());
    return bus::exit_status(error.code);
  }
  top::observer observer(std::move(*session));
  if (!once && !json && ::isatty(STDOUT_FILENO) != 0) return top::run_screen(observer, interval);
  auto first = observer.look();
  if (first) {
    std::this_thread::sleep_for(std::chrono::duration<double>(interval));
    first = observer.look();
  }
  if (!first) {
    std::fprintf(stderr, "bus-top: %s\n", first.error().message().c_str());
    return bus::exit_status(first.error().code);
  }
  if (json) {
    std::printf("%s\n", tools::dump(first->to_json(), true).c_str());
    return 0;
  }
  for (const auto& s : first->streams)
    std::printf("stream      %-24s %12s msg/s  %s %s\n", s.info.config.name.c_str(),
                tools::show_count(s.messages_per_s).c_str(), s.state.c_str(), s.reason.c_str());
  for (const auto& p : first->publishers)
    std::printf("publisher   %-24s %12s msg/s  %s %s\n", tools::printable(p.info.subject).c_str(),
                tools::show_count(p.messages_per_s).c_str(), p.state.c_str(), p.reason.c_str());
  for (const auto& r : first->subscribers)
    std::printf("subscriber  %-24s %12s msg/s  lag %llu, lost %llu  %s %s\n",
                tools::printable(r.info.name).c_str(), tools::show_count(r.messages_per_s).c_str(),
                static_cast<unsigned long long>(r.info.lag_messages),
                static_cast<unsigned long long>(r.info.lost), r.state.c_str(), r.reason.c_str());
  for (const auto& q : first->processes)
    std::printf("process     %-24s pid %lld  %s %s\n", tools::printable(q.info.name).c_str(),
                static_cast<long long>(q.info.pid), q.state.c_str(), q.reason.c_str());
  return 0;
}
