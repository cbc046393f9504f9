#include <cstdio>

#include "bus_of_this_run.hpp"
#include "floor.hpp"
#include "scenarios.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;

bus::stream_config ring_config(const std::string& name, std::uint32_t bytes) {
  bus::stream_config config;
  config.name = name;
  config.subjects = {name};
  config.overflow = bus::overflow::block;
  config.max_message_bytes = std::max<std::uint32_t>(bytes, 64 * 1024);
  config.ring_bytes = 1 << 20;
  while (config.ring_bytes < 4 * (config.max_message_bytes + 4096)) config.ring_bytes *= 2;
  return config;
}

struct endpoint {
  bus::publisher out;
  bus::subscriber in;
};

bus::result<endpoint> open_endpoint(bus::session& session, const rtt_options& options,
                                    const char* to, const char* from) {
  bus::publisher_options sending;
  sending.mode = bus::publish_mode::exclusive;
  if (options.early) sending.early_bytes = 32 * 1024;
  auto out = session.publisher(to, sending);
  if (!out) return std::move(out.error());
  bus::subscriber_options receiving;
  receiving.wait = options.block ? bus::wait_strategy::block : bus::wait_strategy::busy_spin;
  receiving.start = bus::start::all();
  receiving.early = options.early;
  auto in = session.subscribe(from, receiving);
  if (!in) return std::move(in.error());
  return endpoint{std::move(*out), std::move(*in)};
}

// Reads every byte; of an early message, as it arrives.
std::uint64_t read_message(const bus::message& m) {
  std::uint64_t sum = 0;
  std::size_t done = 0;
  while (done < m.size()) {
    const std::size_t step =
        m.complete() ? m.size() - done : std::min<std::size_t>(16 * 1024, m.size() - done);
    if (!m.wait_available(done + step)) break;
    sum += sum_of(m.payload().data() + done, step);
    done += step;
  }
  return sum;
}

std::uint64_t receive(endpoint& side, bool block) {
  std::uint64_t sum = 0;
  while (side.in.poll(1, [&](const bus::message& m) { sum += read_message(m); }) == 0) {
    if (block) side.in.wait(10s);
  }
  return sum;
}

void report_failure(const bus::error& error) {
  std::fprintf(stderr, "bus bench: %s\n", error.message().c_str());
}

bus::result<samples> product_round_trip(const rtt_options& options, int near_core, int far_core,
                                        std::uint64_t trips) {
  bus_of_this_run here;
  const auto add_streams = [&](bus::session& session) -> bus::result<void> {
    auto ping = session.add_stream(ring_config("ping", options.bytes));
    if (!ping) return ping;
    return session.add_stream(ring_config("pong", options.bytes));
  };
  std::vector<char> payload(options.bytes);
  volatile std::uint64_t sink = 0;
  const pid_t far = spawn(far_core, [&] {
    auto session = bus::open(here.url);
    if (!session) return report_failure(session.error()), 1;
    if (auto added = add_streams(*session); !added) return report_failure(added.error()), 1;
    auto side = open_endpoint(*session, options, "pong", "ping");
    if (!side) return report_failure(side.error()), 1;
    for (std::uint64_t i = 0; i < trips; ++i) {
      sink = sink + receive(*side, options.block);
      if (!side->out.publish(std::string_view(payload.data(), payload.size())))
        return report_failure(side->out.last_error()), 1;
    }
    return 0;
  });
  pin_to(near_core);
  auto session = bus::open(here.url);
  if (!session) return std::move(session.error());
  if (auto added = add_streams(*session); !added) return std::move(added.error());
  auto side = open_endpoint(*session, options, "ping", "pong");
  if (!side) return std::move(side.error());
  samples measured;
  measured.reserve(trips);
  for (std::uint64_t i = 0; i < trips; ++i) {
    const std::uint64_t begin = ticks();
    std::memset(payload.data(), static_cast<int>(i), payload.size());
    if (!side->out.publish(std::string_view(payload.data(), payload.size())))
      return side->out.last_error();
    sink = sink + receive(*side, options.block);
    measured.add(ticks() - begin);
  }
  if (!join(far)) return bus::error{bus::errc::system, 0, "bus bench", "the far side failed", ""};
  return measured;
}

}  // namespace

bus::result<rtt_report> run_rtt(const rtt_options& options) {
  constexpr int rounds = 5;
  const int far_core = options.same_core ? 0 : 1;
  if (sysconf(_SC_NPROCESSORS_ONLN) < 2 && !options.same_core)
    return bus::error{bus::errc::unavailable, 0, "bus bench rtt", "this machine has one core",
                      "use --same-core --wait block"};
  // A rough estimate of a round trip, to fit a round into its share of the time.
  const double guess_ns =
      options.block ? (options.same_core ? 3e3 : 100e3) : 500 + options.bytes / 3.0;
  const auto trips = static_cast<std::uint64_t>(
      std::max(500.0, options.seconds * 1e9 / rounds / guess_ns / (options.block ? 2 : 3)));
  std::vector<double> p50, p99, p999, floor_p50, floor_p99, ring_p50;
  rtt_report report;
  for (int round = 0; round < rounds; ++round) {
    samples floor =
        options.block ? futex_round_trip(0, far_core, trips) : line_round_trip(0, far_core, trips);
    floor_p50.push_back(floor.at(0.5));
    floor_p99.push_back(floor.at(0.99));
    if (!options.block)
      ring_p50.push_back(minimal_ring_round_trip(0, far_core, options.bytes, trips).at(0.5));
    auto product = product_round_trip(options, 0, far_core, trips);
    if (!product) return std::move(product.error());
    p50.push_back(product->at(0.5));
    p99.push_back(product->at(0.99));
    p999.push_back(product->at(0.999));
    report.max_ns = std::max(report.max_ns, product->at(1.0));
    report.trips += product->size();
  }
  unpin();
  report.p50_ns = median(p50);
  report.p99_ns = median(p99);
  report.p999_ns = median(p999);
  report.floor_p50_ns = median(floor_p50);
  report.floor_p99_ns = median(floor_p99);
  report.ring_p50_ns = median(ring_p50);
  return report;
}

}  // namespace bench
