/// pingpong: the round trip of a message between two processes.
///
///   pingpong [TRIPS]     default 200000
///
/// Each direction is a separate stream, so that each side is the exclusive publisher of its stream
/// and takes no lock. Both sides declare both streams: the first one creates them, so the sides can
/// start in any order.

#include "example.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::must;

constexpr std::uint64_t warm_up_trips = 1000;

void declare_streams(bus::session& session) {
  for (const char* name : {"ping", "pong"}) {
    bus::stream_config config;
    config.name = name;
    config.subjects = {name};
    // no message may be lost: a publisher waits while the ring is full
    config.overflow = bus::overflow::block;
    must(session.add_stream(config));
  }
}

bus::publisher exclusive_publisher(bus::session& session, const char* subject) {
  bus::publisher_options options;
  options.mode = bus::publish_mode::exclusive;
  return must(session.publisher(subject, options));
}

bus::subscriber subscriber_of(bus::session& session, const char* subject) {
  bus::subscriber_options options;
  options.start = bus::start::all();  // the first ping may precede the subscriber
  // spins for 20 us, then sleeps; busy_spin would occupy a core
  options.wait = bus::wait_strategy::adaptive;
  return must(session.subscribe(subject, options));
}

/// The far process: sends every message back.
void echo(const std::string& bus_name, std::uint64_t trips) {
  bus::session session = must(bus::open(bus_name));
  declare_streams(session);
  bus::publisher pong = exclusive_publisher(session, "pong");
  bus::subscriber pings = subscriber_of(session, "ping");
  for (std::uint64_t i = 0; i < trips; ++i) {
    const auto ping = pings.next(10s);
    if (!ping) throw std::runtime_error("no ping for 10 seconds");
    must(pong.publish(ping->payload()), pong);
  }
}

void print(std::vector<double>& us) {
  std::sort(us.begin(), us.end());
  const auto at = [&](double share) {
    return us[static_cast<std::size_t>(share * static_cast<double>(us.size() - 1))];
  };
  std::printf("%zu round trips of 64 B: p50 %.2f us, p99 %.2f us, p99.9 %.2f us, slowest %.1f us\n",
              us.size(), at(0.50), at(0.99), at(0.999), us.back());
}

void ping_pong(std::uint64_t trips) {
  const example::bus_of_this_run bus("pingpong");
  example::process far([&] {
    echo(bus.name(), trips + warm_up_trips);
  });  // forked before this process opens its session

  bus::session session = must(bus::open(bus.name()));
  declare_streams(session);
  bus::publisher ping = exclusive_publisher(session, "ping");
  bus::subscriber pongs = subscriber_of(session, "pong");

  char payload[64] = "ping";
  std::vector<double> round_trips_us;
  round_trips_us.reserve(trips);
  for (std::uint64_t i = 0; i < trips + warm_up_trips; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    must(ping.publish(std::string_view(payload, sizeof(payload))), ping);
    if (!pongs.next(10s)) throw std::runtime_error("no answer for 10 seconds");
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    if (i >= warm_up_trips) round_trips_us.push_back(took.count());
  }
  far.join("echoing process");
  print(round_trips_us);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t trips = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200'000;
  if (trips == 0) {
    std::fprintf(stderr, "usage: pingpong [TRIPS]\n");
    return 2;
  }
  return example::run([&] { ping_pong(trips); });
}
