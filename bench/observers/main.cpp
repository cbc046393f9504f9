// What a consumer notices of programs that look at its group: it claims and acknowledges one
// message after another on core 0, while 1,000 other messages are held and core 1 is idle, or
// looks. A group of max_ack_pending 1,000,000.
//
// Each round measures all cases, each time in another order; medians of the rounds are printed.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <bus/bus.hpp>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "samples.hpp"

extern char** environ;

namespace {

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

constexpr std::size_t held_messages = 1000;
constexpr auto look_every = 100ms;

struct settings {
  std::string tools = ".";
  double seconds = 2;
  int rounds = 11;
};

enum watcher : std::size_t { alone, looks, ps_loop, top_loop, watchers };
constexpr std::array<const char*, watchers> names{"alone", "looks, 10 a second",
                                                  "bus ps, in a loop", "bus-top, in a loop"};

struct shared_words {
  std::atomic<bool> ready{false}, stop{false};
  std::atomic<std::uint64_t> looks{0};
};

template <class T>
T must(bus::result<T> outcome) {
  if (outcome) return std::move(*outcome);
  std::fprintf(stderr, "%s\n", outcome.error().message().c_str());
  std::exit(1);
}
void must(bus::result<void> outcome) {
  if (outcome) return;
  std::fprintf(stderr, "%s\n", outcome.error().message().c_str());
  std::exit(1);
}

// The whole of what an operator's program asks for.
int look_until_stopped(shared_words& words, const std::string& bus_name) {
  auto session = bus::open(bus_name);
  if (!session) return 1;
  words.ready = true;
  while (!words.stop) {
    const auto next = clock_type::now() + look_every;
    const bool good = session->group("work", "g") && session->pending("work", "g", 2000) &&
                      session->peek("work", "g", 10) && session->groups() && session->streams() &&
                      session->processes();
    if (!good) return 1;
    ++words.looks;
    std::this_thread::sleep_until(next);
  }
  return 0;
}

int run_until_stopped(shared_words& words, const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& one : command) arguments.push_back(const_cast<char*>(one.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  words.ready = true;
  while (!words.stop) {
    pid_t child = 0;
    if (::posix_spawn(&child, arguments[0], &quiet, nullptr, arguments.data(), environ) != 0)
      return 1;
    if (!bench::join(child)) return 1;
    ++words.looks;
  }
  posix_spawn_file_actions_destroy(&quiet);
  return 0;
}

pid_t start(watcher who, shared_words& words, const settings& s, const std::string& bus_name) {
  return bench::spawn(1, [&] {
    switch (who) {
      case looks: return look_until_stopped(words, bus_name);
      case ps_loop: return run_until_stopped(words, {s.tools + "/bus", "ps", "--bus", bus_name});
      default:
        return run_until_stopped(
            words, {s.tools + "/bus-top", "--once", "--interval", "0.05", "--bus", bus_name});
    }
  });
}

struct figures {
  std::vector<double> p50, p99, p999, max, looks;
};

void print(const std::array<figures, watchers>& all) {
  std::printf("%-22s %10s %10s %10s %10s %8s\n", "claim and ack, ns", "p50", "p99", "p99.9", "max",
              "looks");
  for (std::size_t who = 0; who < watchers; ++who) {
    const figures& f = all[who];
    std::printf("%-22s %10.0f %10.0f %10.0f %10.0f %8.0f\n", names[who], bench::median(f.p50),
                bench::median(f.p99), bench::median(f.p999), bench::median(f.max),
                bench::median(f.looks));
  }
  std::printf("\nspread of the rounds alone: p99.9 %.0f to %.0f, max %.0f to %.0f\n",
              *std::ranges::min_element(all[alone].p999),
              *std::ranges::max_element(all[alone].p999), *std::ranges::min_element(all[alone].max),
              *std::ranges::max_element(all[alone].max));
}

int run(const settings& s) {
  const std::string bus_name = "bench-observers-" + std::to_string(::getpid());
  std::array<figures, watchers> all;
  {
    bus::session session = must(bus::open(bus_name));
    must(session.add_stream({.name = "work", .subjects = {"work"}, .ring_bytes = 8u << 20}));
    must(session.add_group({.name = "g",
                            .stream = "work",
                            .max_ack_pending = 1'000'000,
                            .ack_wait = 1h,
                            .max_lease = 1h}));
    bus::publisher publisher = must(session.publisher("work"));
    bus::consumer holder = must(session.consume("", {.group = "g", .stream = "work"}));
    bus::consumer consumer = must(session.consume("", {.group = "g", .stream = "work"}));
    for (std::size_t i = 0; i < held_messages; ++i)
      if (!publisher.publish("held")) return 1;
    std::vector<bus::batch> held;
    for (std::size_t count = 0; count < held_messages; count += held.back().size()) {
      held.push_back(holder.fetch(held_messages - count, 1s));
      if (held.back().empty()) return 1;
    }
    bench::pin_to(0);
    for (int round = -1; round < s.rounds; ++round) {
      for (std::size_t turn = 0; turn < watchers; ++turn) {
        const auto who =
            static_cast<watcher>((turn + static_cast<std::size_t>(round + 1)) % watchers);
        bench::shared_value<shared_words> words;
        pid_t child = -1;
        if (who != alone) {
          child = start(who, *words, s, bus_name);
          while (!words->ready) std::this_thread::sleep_for(1ms);
        }
        bench::samples measured;
        measured.reserve(static_cast<std::size_t>(4e6 * s.seconds));
        for (const auto end = clock_type::now() + std::chrono::duration<double>(s.seconds);
             clock_type::now() < end;)
          for (int i = 0; i < 64; ++i) {
            if (!publisher.publish("work")) return 1;
            const std::uint64_t begin = bench::ticks();
            auto one = consumer.next(0s);
            if (!one || one->ack() != bus::settle_result::ok) return 1;
            measured.add(bench::ticks() - begin);
          }
        words->stop = true;
        if (child > 0 && !bench::join(child)) {
          std::fprintf(stderr, "%s failed\n", names[who]);
          return 1;
        }
        if (round < 0) continue;
        figures& f = all[who];
        f.p50.push_back(measured.at(0.5));
        f.p99.push_back(measured.at(0.99));
        f.p999.push_back(measured.at(0.999));
        f.max.push_back(measured.at(1));
        f.looks.push_back(static_cast<double>(words->looks.load()));
      }
    }
  }
  must(bus::remove_bus(bus_name, true));
  print(all);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("What a consumer notices of programs that look at its group");
  app.add_option("--tools", s.tools, "Directory of the build's tools")->required();
  app.add_option("--seconds", s.seconds, "Of each case in each round")->capture_default_str();
  app.add_option("--rounds", s.rounds, "How many rounds")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return run(s);
}
