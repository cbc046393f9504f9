#include <cstdio>
#include <string>
#include <thread>

#include "bus_of_this_run.hpp"
#include "group_scenarios.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t payload_bytes = 64;
constexpr std::uint64_t record_bytes = 192;  // with a key among the headers, at most

void report_failure(const bus::error& error) {
  std::fprintf(stderr, "bus bench: %s\n", error.message().c_str());
}

bus::stream_config queue_stream(std::uint64_t messages) {
  bus::stream_config config;
  config.name = "queue";
  config.subjects = {"queue"};
  config.max_message_bytes = 64 * 1024;
  config.ring_bytes = 1 << 20;
  while (config.ring_bytes < messages * record_bytes + (512 << 10)) config.ring_bytes *= 2;
  return config;
}

bus::group_config queue_group(const queue_options& options) {
  bus::group_config config;
  config.name = "workers";
  config.stream = "queue";
  config.max_ack_pending =
      static_cast<std::uint32_t>(1000 + options.keys + options.batch * options.consumers);
  config.max_delayed = std::max<std::uint32_t>(8192, options.delayed);
  config.order = options.keys != 0 ? bus::group_order::key : bus::group_order::none;
  // A delayed message also has a text: its last holder.
  config.hold_bytes =
      std::max<std::uint64_t>(16ull << 20, (2ull * options.delayed + options.keys + 1024ull) * 256);
  config.dead_letters = false;
  config.ack_wait = 0s;
  return config;
}

bus::result<void> publish_many(bus::publisher& out, std::uint64_t count, std::uint32_t keys,
                               std::uint64_t& next_key) {
  const std::string payload(payload_bytes, 'x');
  for (std::uint64_t i = 0; i < count; ++i) {
    bus::published done;
    if (keys == 0) {
      done = out.publish(payload);
    } else {
      const std::string key = std::to_string(next_key++);
      const bus::header headers[] = {{"key", key}};
      done = out.publish(payload, headers);
    }
    if (!done) return out.last_error();
  }
  return {};
}

struct meeting {
  std::atomic<std::uint64_t> round{0};
  std::atomic<std::uint64_t> ready{0}, done{0};
  std::atomic<std::uint64_t> settled{0};
  std::atomic<std::uint64_t> first_begin{0}, last_end{0};
  std::atomic<bool> over{false};
};

// Drains the group once per round.
int consume_rounds(const std::string& url, const queue_options& options, meeting& meet) {
  auto session = bus::open(url);
  if (!session) return report_failure(session.error()), 1;
  bus::consumer_options joining{.group = "workers", .stream = "queue"};
  joining.wait = bus::wait_strategy::busy_spin;
  auto consumer = session->consume("", joining);
  if (!consumer) return report_failure(consumer.error()), 1;
  std::uint64_t round = 0;
  volatile std::uint64_t sink = 0;
  for (;;) {
    meet.ready.fetch_add(1);
    while (meet.round.load() == round && !meet.over.load()) {
    }
    if (meet.over.load()) return 0;
    round = meet.round.load();
    const std::uint64_t begin = ticks();
    std::uint64_t settled = 0;
    if (options.batch == 1) {
      while (auto one = consumer->next(0s)) {
        sink = sink + sum_of(one->payload().data(), one->payload().size());
        settled += one->ack() == bus::settle_result::ok ? 1 : 0;
      }
    } else {
      for (;;) {
        auto got = consumer->fetch(options.batch, 0s);
        if (got.empty()) break;
        for (auto& one : got) {
          sink = sink + sum_of(one.payload().data(), one.payload().size());
          settled += one.ack() == bus::settle_result::ok ? 1 : 0;
        }
      }
    }
    const std::uint64_t end = ticks();
    if (consumer->failure()) return report_failure(*consumer->failure()), 1;
    meet.settled.fetch_add(settled);
    for (std::uint64_t seen = meet.first_begin.load();
         (seen == 0 || begin < seen) && !meet.first_begin.compare_exchange_weak(seen, begin);) {
    }
    for (std::uint64_t seen = meet.last_end.load();
         end > seen && !meet.last_end.compare_exchange_weak(seen, end);) {
    }
    meet.done.fetch_add(1);
  }
}

bus::result<double> drain_rate(const queue_options& options) {
  bus_of_this_run here;
  auto session = bus::open(here.url);
  if (!session) return std::move(session.error());
  if (auto added =
          session->add_stream(queue_stream(options.waiting + options.delayed + options.keys));
      !added)
    return std::move(added.error());
  if (auto added = session->add_group(queue_group(options)); !added)
    return std::move(added.error());
  bus::publisher_options exclusive;
  exclusive.mode = bus::publish_mode::exclusive;
  auto out = session->publisher("queue", exclusive);
  if (!out) return std::move(out.error());
  std::uint64_t next_key = 0;
  // Messages that are not drained: delayed for longer than the run, or with keys that are held.
  std::vector<bus::lease> held;
  auto holder = session->consume("", {.group = "workers", .stream = "queue"});
  if (!holder) return std::move(holder.error());
  if (auto sent = publish_many(*out, options.delayed + options.keys, options.keys, next_key); !sent)
    return std::move(sent.error());
  for (std::uint32_t i = 0; i < options.delayed; ++i) {
    auto one = holder->next(0s);
    if (!one || one->nack(1h) != bus::settle_result::ok)
      return bus::error{bus::errc::system, 0, "bus bench", "a message cannot be delayed", ""};
  }
  for (std::uint32_t i = 0; i < options.keys; ++i) {
    auto one = holder->next(0s);
    if (!one) return bus::error{bus::errc::system, 0, "bus bench", "a key cannot be held", ""};
    held.push_back(std::move(*one));
  }
  // Overwrites their positions in the ring: in the steady state they are in the hold arena.
  for (std::uint64_t left = 2ull * (options.delayed + options.keys);
       left != 0 && options.waiting < options.delayed + options.keys; --left) {
    if (auto sent = publish_many(*out, 1, options.keys, next_key); !sent)
      return std::move(sent.error());
    auto one = holder->next(0s);
    if (!one || one->ack() != bus::settle_result::ok)
      return bus::error{bus::errc::system, 0, "bus bench", "a message cannot be settled", ""};
  }
  shared_value<meeting> meet;
  std::vector<pid_t> consumers;
  for (std::uint32_t i = 0; i < options.consumers; ++i)
    consumers.push_back(spawn(options.consumers == 1 ? 1 : static_cast<int>(i % 2),
                              [&] { return consume_rounds(here.url, options, *meet); }));
  std::uint64_t total = 0;
  double spent_ns = 0;
  bool works = true;
  const auto all = [&](std::atomic<std::uint64_t>& count, std::uint64_t wanted) {
    while (count.load() < wanted) {
      int status = 0;
      if (waitpid(-1, &status, WNOHANG) > 0) return works = false;
      std::this_thread::sleep_for(100us);
    }
    return true;
  };
  for (std::uint64_t round = 1; works && (spent_ns < options.seconds * 1e9 || round == 1);
       ++round) {
    if (auto sent = publish_many(*out, options.waiting, options.keys, next_key); !sent)
      works = false;
    if (!works || !all(meet->ready, round * options.consumers)) break;
    meet->first_begin = meet->last_end = meet->settled = 0;
    meet->round.store(round);
    if (!all(meet->done, round * options.consumers)) break;
    total += meet->settled;
    spent_ns += static_cast<double>(meet->last_end - meet->first_begin) / ticks_per_ns();
    if (meet->settled != options.waiting) works = false;
  }
  meet->over = true;
  for (const pid_t child : consumers) works = join(child) && works;
  for (auto& one : held) (void)one.ack();
  held.clear();
  if (!works)
    return bus::error{bus::errc::system, 0, "bus bench", "a consumer failed, or messages were lost",
                      ""};
  return static_cast<double>(total) * 1e9 / spent_ns;
}

struct exchange {
  std::atomic<std::uint64_t> sent{0}, taken{0};
  std::atomic<bool> joined{false}, over{false};
};

// One message at a time, from the call of publish until the other side has settled it. For a
// subscriber, until it has read it: the one-way latency.
bus::result<samples> one_at_a_time(bool as_group, std::uint64_t count) {
  bus_of_this_run here;
  auto session = bus::open(here.url);
  if (!session) return std::move(session.error());
  if (auto added = session->add_stream(queue_stream(1000)); !added) return std::move(added.error());
  queue_options plain;
  if (as_group)
    if (auto added = session->add_group(queue_group(plain)); !added)
      return std::move(added.error());
  shared_value<exchange> turn;
  struct stamps {
    std::uint64_t end[1 << 16];
  };
  shared_value<stamps> ends;
  const pid_t far = spawn(1, [&] {
    auto own = bus::open(here.url);
    if (!own) return report_failure(own.error()), 1;
    volatile std::uint64_t sink = 0;
    const auto note = [&](std::uint64_t i) {
      ends->end[i & 0xffff] = ticks();
      turn->taken.store(i + 1);
    };
    if (as_group) {
      bus::consumer_options joining{.group = "workers", .stream = "queue"};
      joining.wait = bus::wait_strategy::busy_spin;
      auto consumer = own->consume("", joining);
      if (!consumer) return report_failure(consumer.error()), 1;
      turn->joined = true;
      for (std::uint64_t i = 0; i < count; ++i) {
        auto one = consumer->next(10s);
        if (!one) return 1;
        sink = sink + sum_of(one->payload().data(), one->payload().size());
        if (one->ack() != bus::settle_result::ok) return 1;
        note(i);
      }
    } else {
      bus::subscriber_options reading;
      reading.wait = bus::wait_strategy::busy_spin;
      reading.start = bus::start::all();
      auto in = own->subscribe("queue", reading);
      if (!in) return report_failure(in.error()), 1;
      turn->joined = true;
      for (std::uint64_t i = 0; i < count;)
        in->poll(1, [&](const bus::message& m) {
          sink = sink + sum_of(m.payload().data(), m.size());
          note(i++);
        });
    }
    return 0;
  });
  pin_to(0);
  bus::publisher_options exclusive;
  exclusive.mode = bus::publish_mode::exclusive;
  auto out = session->publisher("queue", exclusive);
  if (!out) return std::move(out.error());
  const std::string payload(payload_bytes, 'x');
  samples measured;
  measured.reserve(count);
  const auto begin_wait = std::chrono::steady_clock::now();
  while (!turn->joined)
    if (std::chrono::steady_clock::now() - begin_wait > 20s) break;
  bool works = turn->joined;
  for (std::uint64_t i = 0; works && i < count; ++i) {
    // The other side waits again before the next message is published.
    for (const std::uint64_t until = ticks() + static_cast<std::uint64_t>(1000 * ticks_per_ns());
         ticks() < until;) {
    }
    const std::uint64_t begin = ticks();
    works = static_cast<bool>(out->publish(payload));
    while (works && turn->taken.load() != i + 1)
      if (ticks() - begin > static_cast<std::uint64_t>(20e9 * ticks_per_ns())) works = false;
    measured.add(ends->end[i & 0xffff] - begin);
  }
  works = join(far) && works;
  unpin();
  if (!works) return bus::error{bus::errc::system, 0, "bus bench", "the far side failed", ""};
  return measured;
}

}  // namespace

bus::result<queue_report> run_queue(const queue_options& options) {
  constexpr int rounds = 3;
  queue_report report;
  std::vector<double> rates, p50, p99, plain;
  for (int round = 0; round < rounds; ++round) {
    auto rate = drain_rate(options);
    if (!rate) return std::move(rate.error());
    rates.push_back(*rate);
    auto settle = one_at_a_time(true, 20'000);
    auto one_way = one_at_a_time(false, 20'000);
    if (!settle) return std::move(settle.error());
    if (!one_way) return std::move(one_way.error());
    p50.push_back(settle->at(0.5));
    p99.push_back(settle->at(0.99));
    plain.push_back(one_way->at(0.5));
  }
  report.messages_per_s = median(rates);
  report.settle_p50_ns = median(p50);
  report.settle_p99_ns = median(p99);
  report.one_way_p50_ns = median(plain);
  return report;
}

}  // namespace bench
