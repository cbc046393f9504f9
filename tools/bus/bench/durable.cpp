#include "disk_floor.hpp"
#include "private_bus.hpp"
#include "scenarios.hpp"

namespace bench {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

bus::result<durable_report> run_durable(const durable_options& options) {
  private_bus here(options.directory, 1);
  if (here.failure()) return *here.failure();
  auto added = here.session().add_stream(stream_of(options.bytes, options.storage));
  if (!added) return std::move(added.error());
  bus::publisher_options how;
  how.mode = bus::publish_mode::exclusive;
  how.send_timeout = 30s;
  auto publisher = here.session().publisher("bench", how);
  if (!publisher) return std::move(publisher.error());
  disk_floor floor(here.data);
  if (!floor.works())
    return bus::error{bus::errc::no_space, errno, "cannot write to " + here.data,
                      std::strerror(errno), "choose another directory with --dir"};
  pin_to(0);
  durable_report report;
  const std::vector<std::byte> payload(options.bytes, std::byte{1});
  const bool waits = options.disk && options.storage == bus::storage_class::durable;

  // One message at a time, alternating with the floor.
  samples confirms, floors;
  const auto begin = clock::now();
  while (seconds_since(begin) < options.seconds / 2) {
    for (int i = 0; i < 50; ++i) {
      const std::uint64_t start = ticks();
      const bus::published done = publisher->publish(payload);
      if (!done) return of(*publisher, done.status);
      if (waits) {
        auto confirmed = publisher->wait_confirmed(publisher->last_receipt(), 30s);
        if (!confirmed) return std::move(confirmed.error());
      }
      confirms.add(ticks() - start);
    }
    for (int i = 0; i < 50; ++i) floor.commit(4096, floors);
  }
  report.confirm_p50_us = confirms.at(0.5) / 1000;
  report.confirm_p99_us = confirms.at(0.99) / 1000;
  report.floor_p50_us = floors.at(0.5) / 1000;
  report.floor_p99_us = floors.at(0.99) / 1000;

  // Under load; only confirmed messages count.
  std::vector<double> rates, bandwidths;
  for (int round = 0; round < 3; ++round) {
    const auto from = clock::now();
    std::uint64_t sent = 0;
    while (seconds_since(from) < options.seconds / 6) {
      for (int i = 0; i < 64; ++i, ++sent)
        if (const auto done = publisher->publish(payload); !done)
          return of(*publisher, done.status);
    }
    if (waits) {
      auto confirmed = publisher->wait_confirmed(publisher->last_receipt(), 60s);
      if (!confirmed) return std::move(confirmed.error());
    }
    rates.push_back(static_cast<double>(sent) / seconds_since(from));
    bandwidths.push_back(floor.bandwidth(1 << 20, 0.3));
  }
  report.messages_per_s = median(rates);
  report.bytes_per_s = report.messages_per_s * options.bytes;
  report.floor_bytes_per_s = median(bandwidths);
  auto kept = here.session().keeper();
  if (kept) {
    report.disk = kept->disk;
    for (const auto& log : kept->logs) report.bytes_written += log.bytes_written;
  }
  unpin();
  return report;
}

bus::result<replay_report> run_replay(const replay_options& options) {
  private_bus here(options.directory, 1);
  if (here.failure()) return *here.failure();
  auto added = here.session().add_stream(stream_of(options.bytes));
  if (!added) return std::move(added.error());
  bus::publisher_options sending;
  sending.mode = bus::publish_mode::exclusive;
  sending.send_timeout = 30s;
  auto publisher = here.session().publisher("bench", sending);
  if (!publisher) return std::move(publisher.error());
  const std::vector<std::byte> payload(options.bytes, std::byte{1});
  const std::uint64_t total = options.messages;
  for (std::uint64_t i = 0; i < total; ++i)
    if (const auto done = publisher->publish(payload); !done) return of(*publisher, done.status);
  auto confirmed = publisher->wait_confirmed(publisher->last_receipt(), 60s);
  if (!confirmed) return std::move(confirmed.error());
  // The last messages may still be in the ring: they are not counted.
  const std::uint64_t in_ring = stream_of(options.bytes).ring_bytes / 64;
  const std::uint64_t wanted = total > 2 * in_ring * 64 / (options.bytes + 64)
                                   ? total - in_ring * 64 / (options.bytes + 64)
                                   : total / 2;
  replay_report report;
  std::vector<double> rates;
  report.floor_bytes_per_s = read_bandwidth(here.lane());
  for (int round = 0; round < 4; ++round) {
    shared_value<std::array<double, 64>> taken;
    std::vector<pid_t> readers;
    for (std::uint32_t r = 0; r < options.readers; ++r)
      readers.push_back(spawn(static_cast<int>(r % 2), [&, r] {
        auto session = bus::open(here.name);
        if (!session) return 1;
        bus::subscriber_options reading;
        reading.start = bus::start::all();
        reading.wait = bus::wait_strategy::busy_spin;
        auto subscriber = session->subscribe("bench", reading);
        if (!subscriber) return 2;
        std::uint64_t seen = 0, sum = 0, last = 0;
        const auto begin = clock::now();
        while (seen < wanted) {
          seen += subscriber->poll(wanted - seen, [&](const bus::message& m) {
            sum += sum_of(m.payload().data(), m.size());
            last = m.sequence();
          });
          if (subscriber->failure()) return 3;
        }
        (*taken)[r] = seconds_since(begin);
        return last == wanted && sum != 1 && subscriber->stats().replayed == seen ? 0 : 4;
      }));
    bool good = true;
    for (const pid_t reader : readers) good = join(reader) && good;
    if (!good)
      return bus::error{bus::errc::system, 0, "the replay failed",
                        "a reader did not get all messages", ""};
    if (round == 0) continue;  // brings the files into the page cache
    double slowest = 0;
    for (std::uint32_t r = 0; r < options.readers; ++r) slowest = std::max(slowest, (*taken)[r]);
    rates.push_back(static_cast<double>(wanted) / slowest);
  }
  report.messages_per_s = median(rates);
  report.bytes_per_s = report.messages_per_s * options.bytes;
  return report;
}

}  // namespace bench
