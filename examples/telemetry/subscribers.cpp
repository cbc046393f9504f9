#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <string_view>
#include <thread>

#include "example.hpp"
#include "telemetry/processes.hpp"

namespace telemetry {

namespace {

using namespace std::chrono_literals;
using example::must;

std::uint64_t number(const bus::message& m) {
  std::uint64_t value = 0;
  std::from_chars(m.text().data(), m.text().data() + m.text().size(), value);
  return value;
}

subscriber_result result_of(const bus::subscriber& subscriber) {
  if (subscriber.failure()) throw std::runtime_error(subscriber.failure()->message());
  const bus::subscriber_stats stats = subscriber.stats();
  return {stats.delivered, 0, stats.lost, stats.gaps};
}

/// Keeps the first and last figures of all processors together, for the report.
void note_cpu(run_state& state, std::string_view figure, std::uint64_t value) {
  const auto keep = [value](std::uint64_t& first, std::uint64_t& last) {
    if (first == 0) first = value;
    last = value;
  };
  if (figure == "user") keep(state.cpu_first.user, state.cpu_last.user);
  if (figure == "system") keep(state.cpu_first.system, state.cpu_last.system);
  if (figure == "idle") keep(state.cpu_first.idle, state.cpu_last.idle);
}

}  // namespace

void run_fast_subscriber(const std::string& bus_name, run_state& state) {
  if (!wait_for(state, [&] { return state.stream_ready.load(); })) return;
  bus::session session = must(bus::open(bus_name));
  bus::subscriber_options options;
  options.name = "fast";
  // sleeps when there is no message: uses no processor time
  options.wait = bus::wait_strategy::block;
  constexpr std::array<std::string_view, 3> patterns = {"host.cpu.>", "host.mem.>", end_subject};
  bus::subscriber subscriber = must(session.subscribe(patterns, options));
  ++state.subscribed;

  constexpr std::string_view all_cpus = "host.cpu.all.";
  bool ended = false;
  while (!ended) {
    const std::size_t got = subscriber.poll(256, [&](const bus::message& m) {
      state.fast_latency.add(
          static_cast<std::uint64_t>(std::max<std::int64_t>(m.age().count(), 0)));
      const std::string_view subject = m.subject();
      if (subject.starts_with(all_cpus))
        note_cpu(state, subject.substr(all_cpus.size()), number(m));
      if (subject == "host.mem.available") state.memory_available_bytes = number(m);
      if (subject == end_subject) ended = true;
    });
    if (got == 0 && !subscriber.wait(10s))
      throw std::runtime_error("fast subscriber: nothing for 10 seconds");
  }
  state.fast = result_of(subscriber);
}

void run_slow_subscriber(const std::string& bus_name, run_state& state) {
  if (!wait_for(state, [&] { return state.stream_ready.load(); })) return;
  bus::session session = must(bus::open(bus_name));
  bus::subscriber_options options;
  options.name = "slow";
  options.wait = bus::wait_strategy::block;
  // Each gap is reported between the messages before and after it.
  std::uint64_t reported_lost = 0;
  options.on_gap = [&](const bus::gap& gap) { reported_lost += gap.count; };
  bus::subscriber subscriber = must(session.subscribe("host.>", options));
  ++state.subscribed;

  std::uint64_t late = 0;
  for (bool ended = false; !ended;) {
    const auto m = subscriber.next(10s);
    if (!m) throw std::runtime_error("slow subscriber: nothing for 10 seconds");
    ended = m->subject() == end_subject;
    if (!state.all_published)
      std::this_thread::sleep_for(slowness);
    else
      ++late;
  }
  state.slow = result_of(subscriber);
  state.slow.delivered_at_the_end = late;
  if (state.slow.lost != reported_lost)
    throw std::runtime_error("slow subscriber: reported gaps and statistics differ");
}

}  // namespace telemetry
