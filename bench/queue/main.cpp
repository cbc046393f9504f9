// bench_queue_peers: measures work queues of libbus and of other systems, in one run and in turns.

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <set>

#include "rounds.hpp"
#include "table.hpp"

namespace bench {

namespace {

std::vector<queue_peer> all_queue_peers() {
  return {libbus_queue(),   redis_queue(false),    redis_queue(true),   nats_queue(false),
          nats_queue(true), rabbitmq_queue(false), rabbitmq_queue(true)};
}

struct options {
  queue_question asked;
  int rounds = 3;
  std::vector<std::string> only;
  bool json = false, quiet = false;
};

void measure(queue_row& into, const queue_question& asked) {
  const std::vector<outcome> got = into.system.run(asked);
  for (std::size_t mode = 0; mode < got.size(); ++mode) {
    into.failure = got[mode].failure;
    if (!into.failure.empty()) return;
    into.messages_per_s[mode].push_back(got[mode].messages_per_s);
  }
}

int run(const options& o) {
  const std::set<std::string> wanted(o.only.begin(), o.only.end());
  std::vector<queue_row> rows;
  for (queue_peer& each : all_queue_peers())
    if (wanted.empty() || wanted.contains(each.id)) rows.push_back({std::move(each), {}, {}});
  if (!in_turns(rows, o.rounds, o.quiet, [&](queue_row& row) { measure(row, o.asked); }))
    return std::fprintf(stderr, "\nbench_queue_peers: interrupted\n"), 130;
  if (o.json)
    std::printf("%s\n", to_json(rows, o.asked, o.rounds).dump(2).c_str());
  else
    print_table(rows, o.asked, o.rounds);
  return std::any_of(rows.begin(), rows.end(), [](const queue_row& row) {
    return row.system.id == "libbus" && !row.failure.empty();
  });
}

}  // namespace

}  // namespace bench

int main(int argc, char** argv) {
  bench::options o;
  CLI::App app(
      "Work queues: messages that wait are claimed and acknowledged, by libbus and other systems, "
      "in one run");
  std::set<std::string> known;
  for (const bench::queue_peer& each : bench::all_queue_peers()) known.insert(each.id);
  app.add_option("--size", o.asked.bytes, "Bytes of a message")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  app.add_option("--seconds", o.asked.seconds, "Time for one measurement of one round")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 60.0));
  app.add_option("--rounds", o.rounds, "Figures are medians of so many rounds")
      ->capture_default_str()
      ->check(CLI::Range(1, 99));
  app.add_option("--only", o.only, "These systems")->delimiter(',')->check(CLI::IsMember(known));
  app.add_flag("--json", o.json, "One JSON object instead of the table");
  app.add_flag("--quiet", o.quiet, "No progress");
  CLI11_PARSE(app, argc, argv);
  bench::watch_signals();
  return bench::run(o);
}
