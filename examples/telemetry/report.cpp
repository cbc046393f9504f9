#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "example.hpp"
#include "telemetry/processes.hpp"

namespace telemetry {

namespace {

using example::must;

/// 1234567 as 1,234,567.
std::string grouped(std::uint64_t value) {
  std::string text = std::to_string(value);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}
std::string rate(std::uint64_t count, double seconds) {
  return grouped(seconds > 0 ? static_cast<std::uint64_t>(static_cast<double>(count) / seconds)
                             : 0);
}

void print_subscriber(const char* name, const char* patterns, const subscriber_result& of,
                      std::uint64_t lost, double seconds) {
  std::printf("  %-10s  %-22s %12s %10s %12s\n", name, patterns, grouped(of.delivered).c_str(),
              rate(of.delivered - of.delivered_at_the_end, seconds).c_str(), grouped(lost).c_str());
}

void print_latency(const char* name, const histogram& of) {
  if (of.total() == 0) {
    std::printf("  %-46s needs two processors\n", name);
    return;
  }
  std::printf("  %-46s", name);
  for (const double share : {0.50, 0.99, 0.999}) std::printf(" %9.2f us", of.at(share) / 1000);
  std::printf("\n");
}

struct process_figures {
  std::string name;
  std::uint64_t rss_bytes = 0;
};

/// The newest figures of each process, read by a late joiner: it gets what the ring still has.
std::map<std::string, process_figures> newest_processes(bus::session& session) {
  std::map<std::string, process_figures> all;
  bus::subscriber_options options;
  options.start = bus::start::all();
  bus::subscriber subscriber = must(session.subscribe("host.proc.*.*", options));
  constexpr std::size_t prefix = std::string_view("host.proc.").size();
  while (subscriber.poll(256, [&](const bus::message& m) {
    const std::string_view subject = m.subject();
    const std::size_t dot = subject.rfind('.');
    process_figures& one = all[std::string(subject.substr(prefix, dot - prefix))];
    const std::string_view figure = subject.substr(dot + 1), text = m.text();
    if (figure == "name") one.name = text;
    if (figure == "rss") std::from_chars(text.data(), text.data() + text.size(), one.rss_bytes);
  }) != 0) {
  }
  return all;
}

void print_machine(bus::session& session, const run_state& state) {
  const std::uint64_t busy =
      state.cpu_last.user - state.cpu_first.user + state.cpu_last.system - state.cpu_first.system;
  const std::uint64_t all = busy + state.cpu_last.idle - state.cpu_first.idle;
  std::printf("\nthis machine, as received\n");
  std::printf("  cpu busy            %5.1f %%\n",
              all == 0 ? 0.0 : 100.0 * static_cast<double>(busy) / static_cast<double>(all));
  std::printf("  memory available    %s MiB\n",
              grouped(state.memory_available_bytes >> 20).c_str());

  const auto processes = newest_processes(session);
  std::vector<std::pair<std::string, process_figures>> largest(processes.begin(), processes.end());
  std::sort(largest.begin(), largest.end(),
            [](const auto& a, const auto& b) { return a.second.rss_bytes > b.second.rss_bytes; });
  largest.resize(std::min<std::size_t>(largest.size(), 5));
  std::printf("  largest processes   ");
  for (std::size_t i = 0; i < largest.size(); ++i)
    std::printf("%s%s (%s) %s MiB", i == 0 ? "" : ", ", largest[i].second.name.c_str(),
                largest[i].first.c_str(), grouped(largest[i].second.rss_bytes >> 20).c_str());
  std::printf("\n");
}

/// Prints the sums, and returns whether they agree.
bool print_accounts(const bus::stream_info& stream, const run_state& state) {
  const std::uint64_t slow = state.slow.delivered + state.slow.lost;
  const bool exact = state.published == stream.messages() && state.published == slow;
  std::printf("\nslow subscriber: %s published %s %s delivered + %s lost in %s gaps: %s\n",
              grouped(state.published).c_str(),
              exact ? "==" : "!=", grouped(state.slow.delivered).c_str(),
              grouped(state.slow.lost).c_str(), grouped(state.slow.gaps).c_str(),
              exact ? "accounted exactly" : "NOT ACCOUNTED");
  // With a pattern, only an upper bound of the loss is known: the loss of the whole lane.
  const std::uint64_t wanted = state.published_cpu_mem + 1;  // plus the last message
  const bool complete =
      state.fast.delivered <= wanted && wanted - state.fast.delivered <= state.fast.lost;
  std::printf("fast subscriber: %s published to its patterns, %s delivered: %s\n",
              grouped(wanted).c_str(), grouped(state.fast.delivered).c_str(),
              !complete                        ? "NOT ACCOUNTED"
              : wanted == state.fast.delivered ? "nothing lost"
                                               : "the loss was reported");
  return exact && complete;
}

}  // namespace

bool report(const std::string& bus_name, const run_state& state) {
  bus::session session = must(bus::open(bus_name));
  const bus::stream_info stream = must(session.stream(stream_name));
  std::printf(
      "telemetry of this machine for %.1f s: one publisher, two subscribers, a process each\n",
      state.seconds);
  std::printf(
      "  %s subjects, %s messages, %s/s; %s sweeps over the kernel's figures, %s/s; ring of %s "
      "KiB, drop_oldest\n",
      grouped(stream.subjects_interned).c_str(), grouped(state.published).c_str(),
      rate(state.published, state.seconds).c_str(), grouped(state.sweeps).c_str(),
      rate(state.sweeps, state.seconds).c_str(), grouped(ring_bytes >> 10).c_str());

  std::printf("\n  %-10s  %-22s %12s %10s %12s\n", "subscriber", "patterns", "delivered",
              "per second", "lost");
  const std::uint64_t fast_lost = state.published_cpu_mem + 1 - state.fast.delivered;
  print_subscriber("fast", "host.cpu.> host.mem.>", state.fast, fast_lost, state.seconds);
  print_subscriber("slow", "host.> (1 ms each)", state.slow, state.slow.lost, state.seconds);

  std::printf("\n  %-46s %12s %12s %12s\n", "from publish to delivery", "p50", "p99", "p99.9");
  print_latency("fast subscriber, which sleeps when idle", state.fast_latency);
  print_latency("floor: raw futex wake, nothing else running", state.futex_floor);
  print_latency("floor: raw cache line, both sides spinning", state.line_floor);

  print_machine(session, state);
  return print_accounts(stream, state);
}

}  // namespace telemetry
