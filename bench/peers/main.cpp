// bench_peers: measures all systems in the same way, in the same run and in turns, so that changes
// of the machine's state affect all of them.

#include <CLI/CLI.hpp>

#include <cstdio>
#include <fstream>
#include <set>

#include "peers.hpp"
#include "processes.hpp"
#include "report.hpp"

namespace bench {

std::vector<peer> all_peers() {
  return {cache_line_floor(),
          futex_floor(),
          minimal_ring_floor(),
          libbus_peer(),
          iceoryx_peer(),
          pipe_peer(),
          posix_message_queue_peer(),
          boost_message_queue_peer(),
          unix_socket_peer(),
          zeromq_peer(),
          nng_peer()};
}

namespace {

struct options {
  double seconds = 0.5;
  int rounds = 3;
  std::string json;
  std::vector<std::string> only;
  std::vector<std::uint32_t> sizes = {64, 1024, 65536, 1 << 20};
  bool quiet = false;
};

constexpr std::uint32_t stream_bytes_max = 64 * 1024;

std::vector<plan> questions(const options& o) {
  std::vector<plan> all;
  for (const std::uint32_t bytes : o.sizes)
    all.push_back({what::round_trip, bytes, waiting::spin, 0, 1, o.seconds});
  for (const std::uint32_t bytes : o.sizes)
    if (bytes <= stream_bytes_max)
      all.push_back({what::round_trip, bytes, waiting::block, 0, 1, o.seconds});
  all.push_back({what::round_trip, 64, waiting::block, 0, 0, o.seconds});
  for (const waiting wait : {waiting::spin, waiting::block})
    for (const std::uint32_t bytes : o.sizes)
      if (bytes <= stream_bytes_max) all.push_back({what::stream, bytes, wait, 0, 1, o.seconds});
  return all;
}

// A stream is measured with sleeping only if the system has no other way.
bool asks(const peer& system, const plan& asked) {
  if (!system.takes(asked)) return false;
  if (asked.kind != what::stream || asked.wait == waiting::spin) return true;
  plan spinning = asked;
  spinning.wait = waiting::spin;
  return !system.takes(spinning);
}

void measure(figure& into, const peer& system) {
  if (!into.failure.empty()) return;
  const outcome got = system.run(into.asked);
  if (!got.failure.empty()) {
    into.failure = got.failure;
  } else if (into.asked.kind == what::stream) {
    into.messages_per_s.push_back(got.messages_per_s);
  } else {
    into.p50_ns.push_back(got.p50_ns);
    into.p99_ns.push_back(got.p99_ns);
  }
}

int run(const options& o) {
  const std::set<std::string> wanted(o.only.begin(), o.only.end());
  std::vector<peer> systems;
  report results;
  for (peer& each : all_peers()) {
    if (!wanted.empty() && !wanted.contains(each.id)) continue;
    if (each.absent.empty())
      systems.push_back(std::move(each));
    else
      results.leave_out({each.id, each.title, each.absent});
  }
  std::vector<const peer*> owners;
  for (const plan& asked : questions(o)) {
    for (const peer& system : systems) {
      if (!asks(system, asked)) continue;
      results.add({system.id, system.title, asked, {}, {}, {}, {}});
      owners.push_back(&system);
    }
  }
  for (int round = 0; round < o.rounds; ++round) {
    for (std::size_t i = 0; i < owners.size(); ++i) {
      if (!o.quiet) {
        std::fprintf(stderr, "\r\033[Kround %d of %d, %zu of %zu: %s", round + 1, o.rounds, i + 1,
                     owners.size(), owners[i]->title.c_str());
      }
      measure(results.figures()[i], *owners[i]);
      if (interrupted()) {
        std::fprintf(stderr, "\nbench_peers: interrupted\n");
        return 130;
      }
    }
  }
  if (!o.quiet) std::fprintf(stderr, "\r\033[K");
  results.print();
  if (!o.json.empty()) {
    std::ofstream file(o.json);
    file << results.to_json(o.seconds, o.rounds).dump(2) << "\n";
    if (!file.flush()) {
      std::fprintf(stderr, "bench_peers: %s: cannot be written\n", o.json.c_str());
      return 1;
    }
  }
  return results.failed("libbus") ? 1 : 0;
}

}  // namespace

}  // namespace bench

int main(int argc, char** argv) {
  bench::options o;
  CLI::App app(
      "Round trips and streams of libbus, of other systems and of this machine's floor, in one "
      "run");
  std::set<std::string> known;
  for (const bench::peer& each : bench::all_peers()) known.insert(each.id);
  app.add_option("--seconds", o.seconds, "Time for one measurement of one round")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--rounds", o.rounds, "Figures are medians of so many rounds")
      ->capture_default_str()
      ->check(CLI::Range(1, 99));
  app.add_option("--json", o.json, "Write everything to this file");
  app.add_option("--only", o.only, "These systems")->delimiter(',')->check(CLI::IsMember(known));
  app.add_option("--sizes", o.sizes, "Bytes of payload, multiples of 8")
      ->delimiter(',')
      ->check(CLI::Range(8u, 16u << 20));
  app.add_flag("--quiet", o.quiet, "No progress");
  CLI11_PARSE(app, argc, argv);
  for (const std::uint32_t bytes : o.sizes)
    if (bytes % 8 != 0)
      return std::fprintf(stderr, "bench_peers: sizes must be multiples of 8\n"), 2;
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
    return std::fprintf(stderr, "bench_peers: this machine has one core\n"), 7;
  bench::watch_signals();
  return bench::run(o);
}
