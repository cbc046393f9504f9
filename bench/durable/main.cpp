// bench_durable_peers: measures messages that are confirmed when they are on disk: by libbus, by
// other systems and by the disk itself, in one run on one disk and in turns.

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <set>

#include "confirmed.hpp"
#include "table.hpp"

namespace bench {

std::vector<durable_peer> all_durable_peers(const durable_question& asked) {
  return {disk_floor_peer(),    durable_libbus_peer(asked), redis_peer(1),
          redis_peer(16),       jetstream_peer(false),      jetstream_peer(true),
          rabbitmq_peer(false), rabbitmq_peer(true)};
}

namespace {

struct options {
  durable_question asked;
  int rounds = 2;
  double pause = 1.5;
  std::string directory = "/var/tmp";
  std::vector<std::string> only;
  bool json = false, quiet = false;
};

// Before the next system is measured, everything is on disk and the disk has rested.
void rest(double seconds) {
  ::sync();
  for (const auto until = from_now(seconds); bench_clock::now() < until && !interrupted();)
    ::usleep(20'000);
}

void measure(durable_row& into, const options& o) {
  rest(o.pause);
  if (interrupted()) return;
  const outcome got = into.system.run(o.asked);
  into.failure = got.failure;
  if (!got.failure.empty()) return;
  into.p50_ns.push_back(got.p50_ns);
  into.p99_ns.push_back(got.p99_ns);
  into.messages_per_s.push_back(got.messages_per_s);
}

int run(const options& o) {
  const std::set<std::string> wanted(o.only.begin(), o.only.end());
  std::vector<durable_row> rows;
  for (durable_peer& each : all_durable_peers(o.asked))
    if (wanted.empty() || wanted.contains(each.id))
      rows.push_back({std::move(each), {}, {}, {}, {}});
  if (!in_turns(rows, o.rounds, o.quiet, [&](durable_row& row) { measure(row, o); }))
    return std::fprintf(stderr, "\nbench_durable_peers: interrupted\n"), 130;
  if (o.json)
    std::printf("%s\n", to_json(rows, o.asked, o.rounds, o.directory).dump(2).c_str());
  else
    print_table(rows, o.asked, o.rounds);
  return std::any_of(rows.begin(), rows.end(), [](const durable_row& row) {
    return row.system.id == "libbus" && !row.failure.empty();
  });
}

}  // namespace

}  // namespace bench

int main(int argc, char** argv) {
  bench::options o;
  CLI::App app(
      "Messages confirmed when they are on a disk: libbus, other systems and the disk itself, in "
      "one run");
  std::set<std::string> known;
  for (const bench::durable_peer& each : bench::all_durable_peers(o.asked)) known.insert(each.id);
  app.add_option("--dir", o.directory, "Directory on the measured disk")
      ->capture_default_str()
      ->check(CLI::ExistingDirectory);
  app.add_option("--seconds", o.asked.seconds, "Time for one measurement of one round")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 600.0));
  app.add_option("--rounds", o.rounds, "Figures are medians of so many rounds")
      ->capture_default_str()
      ->check(CLI::Range(1, 99));
  app.add_option("--pause", o.pause, "Seconds of rest for the disk before each measurement")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 600.0));
  app.add_option("--bus-program", o.asked.bus_program,
                 "The program bus; default: beside this one, or in PATH");
  app.add_option("--only", o.only, "These systems")->delimiter(',')->check(CLI::IsMember(known));
  app.add_flag("--json", o.json, "One JSON object instead of the table");
  app.add_flag("--quiet", o.quiet, "No progress");
  CLI11_PARSE(app, argc, argv);
  o.directory = std::filesystem::absolute(o.directory).string();
  setenv("TMPDIR", o.directory.c_str(), 1);  // where scratch_directory makes its directory
  bench::watch_signals();
  return bench::run(o);
}
