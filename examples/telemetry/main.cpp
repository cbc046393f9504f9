/// telemetry: publishes live figures of this machine on a bus.
///
///   telemetry [--seconds N]     default 5
///
/// One process reads the kernel's figures up to 200 times a second and publishes each under its
/// subject (kernel_figures.hpp). Two subscriber processes receive them: a fast one with two
/// patterns, and a deliberately slow one that reads all and loses most, since the ring is small and
/// the stream drops the oldest. The report shows rates, latencies beside this machine's floor, and
/// the sums: published messages = delivered messages + reported losses, exactly.

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

#include "example.hpp"
#include "telemetry/processes.hpp"

namespace {

using namespace std::chrono_literals;
using telemetry::run_state;

run_state* interruptible = nullptr;  // for the signal handler

void end_at(int signal) { interruptible->stop = signal; }

/// Ctrl-C ends the run early, with a report, and still removes the bus.
void handle_signals(run_state& state) {
  interruptible = &state;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, end_at);
  std::signal(SIGPIPE, SIG_IGN);
}

/// Ctrl-C reaches all processes of a terminal. These ignore it: the parent stops the publisher, and
/// the publisher's last message stops the subscribers.
void ignore_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_IGN);
}

/// Waits for `process` to exit by itself; throws after 20 s.
void join(example::process& process, const char* who) {
  for (const auto end = std::chrono::steady_clock::now() + 20s; !process.ended();
       std::this_thread::sleep_for(1ms))
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error(std::string("the ") + who + " does not end");
  process.join(who);
}

int run(double seconds) {
  telemetry::shared<run_state> state;
  handle_signals(*state);
  telemetry::measure_floors(*state);

  const example::bus_of_this_run bus("telemetry");
  const auto in_process = [&](auto work) {
    return [&state, &bus, work] {
      ignore_signals();
      work(bus.name(), *state);
    };
  };
  // Forked before any process opens a session.
  example::process publisher(in_process(telemetry::run_publisher));
  example::process fast(in_process(telemetry::run_fast_subscriber));
  example::process slow(in_process(telemetry::run_slow_subscriber));

  const auto any_ended = [&] { return publisher.ended() || fast.ended() || slow.ended(); };
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (state->stop == 0 && std::chrono::steady_clock::now() < end && !any_ended())
    std::this_thread::sleep_for(5ms);
  int going_on = 0;
  state->stop.compare_exchange_strong(going_on, 1);

  join(publisher, "publisher");
  if (!state->all_published) throw std::runtime_error("ended before the first message");
  join(fast, "fast subscriber");
  join(slow, "slow subscriber");
  const bool right = telemetry::report(bus.name(), *state);
  if (!right) return 1;
  return going_on == 0 ? 0 : 128 + going_on;
}

bool parse(int argc, char** argv, double& seconds) {
  if (argc == 1) return true;
  if (argc != 3 || std::strcmp(argv[1], "--seconds") != 0) return false;
  const char* end = argv[2] + std::strlen(argv[2]);
  const auto [stopped, code] = std::from_chars(argv[2], end, seconds);
  return code == std::errc() && stopped == end && seconds > 0 && seconds <= 3600;
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 5;
  if (!parse(argc, argv, seconds)) {
    std::fprintf(stderr, "usage: telemetry [--seconds N]\n");
    return 2;
  }
  int status = 1;
  const int failed = example::run([&] { status = run(seconds); });
  return failed != 0 ? failed : status;
}
