#include <atomic>
#include <cstdio>

#include "floor.hpp"
#include "scenarios.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t processes_max = 64;
constexpr std::size_t ages_max = 4096;  // per subscriber process

struct board {
  std::atomic<std::uint32_t> ready{0};
  std::atomic<bool> go{false};
  std::atomic<bool> stop{false};
  std::atomic<std::uint32_t> publishers_done{0};
  std::atomic<std::uint64_t> published{0};
  std::atomic<std::uint64_t> publish_ticks{0}, publish_calls{0};  // with a rate
  std::atomic<std::uint64_t> warm{0};  // of these, published before measuring began
  struct reader {
    std::uint64_t received = 0;  // since measuring began
    std::uint64_t lost = 0;
    double seconds = 0;
    std::uint32_t age_count = 0;
    std::uint64_t ages[ages_max];
  } readers[processes_max];
};

void report_failure(const bus::error& error) {
  std::fprintf(stderr, "bus bench: %s\n", error.message().c_str());
}

std::string subject_name(std::uint32_t index) { return "bench.s" + std::to_string(index); }

int publish_loop(const std::string& url, const stream_options& options, board& shared) {
  auto session = bus::open(url);
  if (!session) return report_failure(session.error()), 1;
  bus::publisher_options how;
  if (options.publishers == 1 && !options.shared) how.mode = bus::publish_mode::exclusive;
  auto publisher = session->publisher(subject_name(0), how);
  if (!publisher) return report_failure(publisher.error()), 1;
  std::vector<char> payload(options.bytes);
  std::vector<std::span<const std::byte>> batch(options.batch, std::as_bytes(std::span(payload)));
  std::vector<bus::known_subject> subjects;
  for (std::uint32_t i = 0; i < options.subjects; ++i) subjects.emplace_back(subject_name(i));
  const std::string_view text(payload.data(), payload.size());
  std::uint64_t count = 0, at = 0;
  bool failed = false;
  // Every process meets every subject before measuring begins. The readers exist already.
  while (shared.ready.load() < options.subscribers) usleep(50);
  for (bus::known_subject& subject : subjects)
    if (publisher->publish_to(subject, text)) ++count;
  shared.warm.fetch_add(count);
  shared.ready.fetch_add(1);
  while (!shared.go.load()) usleep(50);
  const auto note = [&](const bus::published& done) {
    if (done) [[likely]]
      count += options.batch;
    else if (done.status != bus::publish_status::dropped &&
             done.status != bus::publish_status::rejected)
      failed = true;
  };
  std::uint64_t spent = 0, calls = 0;
  // As tight as the loop of the floor that is measured with it.
  const auto run = [&](auto&& publish_one) {
    if (options.rate == 0) {
      while (!shared.stop.load() && !failed)
        for (int i = 0; i < 256 && !failed; ++i) note(publish_one());
      return;
    }
    const auto gap = static_cast<std::uint64_t>(ticks_per_ns() * 1e9 / options.rate);
    for (std::uint64_t due = ticks(); !shared.stop.load() && !failed; due += gap, ++calls) {
      while (ticks() < due) {
      }
      const std::uint64_t begin = ticks();
      const bus::published done = publish_one();
      spent += ticks() - begin;
      note(done);
    }
  };
  if (options.batch > 1) {
    run([&] { return publisher->publish_batch(batch); });
  } else if (!subjects.empty()) {
    run([&] {
      at = at + 1 == subjects.size() ? 0 : at + 1;
      return publisher->publish_to(subjects[at], text);
    });
  } else {
    run([&] { return publisher->publish(text); });
  }
  if (failed) report_failure(publisher->last_error());
  shared.publish_ticks.fetch_add(spent);
  shared.publish_calls.fetch_add(calls);
  shared.published.fetch_add(count);
  shared.publishers_done.fetch_add(1);
  return failed ? 1 : 0;
}

int subscribe_loop(const std::string& url, const stream_options& options, board& shared,
                   board::reader& mine) {
  auto session = bus::open("" + url + "?slots=4096");
  if (!session) return report_failure(session.error()), 1;
  std::vector<bus::subscriber> subscribers;
  std::vector<std::uint64_t> received(options.in_process, 0);
  for (std::uint32_t i = 0; i < options.in_process; ++i) {
    bus::subscriber_options how;
    how.wait = options.wait;
    auto made = session->subscribe("bench.>", how);
    if (!made) return report_failure(made.error()), 1;
    subscribers.push_back(std::move(*made));
  }
  shared.ready.fetch_add(1);
  std::uint64_t begin = 0, last = 0, sum = 0, seen = 0, warm = 0;
  for (;;) {
    if (begin == 0 && shared.go.load()) {
      begin = last = ticks();
      for (const std::uint64_t r : received) warm += r;
    }
    std::size_t got = 0;
    for (std::uint32_t i = 0; i < options.in_process; ++i) {
      const std::size_t n = subscribers[i].poll(256, [&](const bus::message& m) {
        sum += sum_of(m.payload().data(), m.size());
        if (++seen % 8192 == 0 && mine.age_count < ages_max)
          mine.ages[mine.age_count++] = static_cast<std::uint64_t>(m.age().count());
      });
      received[i] += n;
      got += n;
    }
    if (got != 0) {
      last = ticks();
      continue;
    }
    if (shared.publishers_done.load() == options.publishers) {
      std::uint64_t lost = 0, complete = 0;
      for (std::uint32_t i = 0; i < options.in_process; ++i) {
        lost += subscribers[i].stats().lost;
        if (received[i] + subscribers[i].stats().lost >= shared.published.load()) ++complete;
      }
      // A publisher that drops messages counts only those that it published.
      if (complete == options.in_process ||
          ticks() - last > static_cast<std::uint64_t>(ticks_per_ns() * 1e9)) {
        mine.lost = lost;
        for (std::uint32_t i = 0; i < options.in_process; ++i)
          if (received[i] + subscribers[i].stats().lost < shared.published.load())
            mine.lost += shared.published.load() - received[i] - subscribers[i].stats().lost;
        break;
      }
    }
    subscribers[0].wait(options.in_process == 1 ? std::chrono::nanoseconds(1ms)
                                                : std::chrono::nanoseconds(0));
    if (subscribers[0].failure()) return report_failure(*subscribers[0].failure()), 1;
  }
  volatile std::uint64_t sink = sum;
  (void)sink;
  for (const std::uint64_t r : received) mine.received += r;
  mine.received -= warm;
  mine.seconds = static_cast<double>(last - begin) / ticks_per_ns() / 1e9;
  return 0;
}

struct round_result {
  double messages_per_s = 0, deliveries_per_s = 0, publish_mean_ns = 0;
  std::uint64_t lost = 0;
};

bus::result<round_result> product_round(const stream_options& options, double seconds,
                                        std::vector<std::uint64_t>& ages) {
  const std::string url = "bus:///bench-" + std::to_string(getpid());
  struct remover {
    const std::string& url;
    ~remover() { (void)bus::remove_bus(url, true); }
  } at_end{url};
  {
    auto session = bus::open(url);
    if (!session) return std::move(session.error());
    bus::stream_config config;
    config.name = "bench";
    config.subjects = {"bench.>"};
    config.overflow = options.overflow;
    config.max_message_bytes = std::max<std::uint32_t>(options.bytes, 64 * 1024);
    config.ring_bytes =
        options.ring_bytes != 0 ? options.ring_bytes : minimal_ring::capacity_for(options.bytes);
    while (config.ring_bytes < 4 * (config.max_message_bytes + 4096)) config.ring_bytes *= 2;
    config.lanes = options.per_publisher ? 64 : options.lanes;
    config.mode = options.per_publisher ? bus::lane_mode::per_publisher : bus::lane_mode::fixed;
    auto added = session->add_stream(config);
    if (!added) return std::move(added.error());
  }
  shared_value<board> shared;
  std::vector<pid_t> children;
  for (std::uint32_t i = 0; i < options.subscribers; ++i)
    children.push_back(spawn(options.floating ? -1 : 1, [&, i] {
      return subscribe_loop(url, options, *shared, shared->readers[i]);
    }));
  for (std::uint32_t i = 0; i < options.publishers; ++i)
    children.push_back(
        spawn(options.floating ? -1 : 0, [&] { return publish_loop(url, options, *shared); }));
  const auto patience = std::chrono::steady_clock::now() + 20s;
  while (shared->ready.load() < options.publishers + options.subscribers &&
         std::chrono::steady_clock::now() < patience)
    usleep(200);
  shared->go = true;
  usleep(static_cast<useconds_t>(seconds * 1e6));
  shared->stop = true;
  bool fine = true;
  for (const pid_t child : children) fine = join(child) && fine;
  if (!fine)
    return bus::error{bus::errc::system, 0, "bus bench", "a process of the benchmark failed", ""};
  round_result result;
  double slowest = 0;
  for (std::uint32_t i = 0; i < options.subscribers; ++i) {
    const auto& reader = shared->readers[i];
    slowest = std::max(slowest, reader.seconds);
    result.deliveries_per_s +=
        reader.seconds > 0 ? static_cast<double>(reader.received) / reader.seconds : 0;
    result.lost += reader.lost;
    ages.insert(ages.end(), reader.ages, reader.ages + reader.age_count);
  }
  if (shared->publish_calls.load() != 0)
    result.publish_mean_ns = static_cast<double>(shared->publish_ticks.load()) / ticks_per_ns() /
                             static_cast<double>(shared->publish_calls.load());
  const std::uint64_t timed = shared->published.load() - shared->warm.load();
  result.messages_per_s = slowest > 0 ? static_cast<double>(timed) / slowest : 0;
  return result;
}

}  // namespace

bus::result<stream_report> run_stream(const stream_options& options) {
  constexpr int rounds = 3;
  if (options.publishers + options.subscribers > processes_max)
    return bus::error{bus::errc::invalid_argument, 0, "bus bench", "more than 64 processes", ""};
  std::vector<double> messages, deliveries, floors, publishes;
  std::vector<std::uint64_t> ages;
  stream_report report;
  for (int round = 0; round < rounds; ++round) {
    floors.push_back(minimal_ring_stream(0, 1, options.bytes, options.seconds / rounds / 2));
    unpin();
    auto measured = product_round(options, options.seconds / rounds, ages);
    if (!measured) return std::move(measured.error());
    messages.push_back(measured->messages_per_s);
    deliveries.push_back(measured->deliveries_per_s);
    publishes.push_back(measured->publish_mean_ns);
    report.lost += measured->lost;
  }
  report.messages_per_s = median(messages);
  report.deliveries_per_s = median(deliveries);
  report.bytes_per_s = report.messages_per_s * options.bytes;
  report.floor_messages_per_s = median(floors);
  report.publish_mean_ns = median(publishes);
  if (!ages.empty()) {
    std::sort(ages.begin(), ages.end());
    const auto at = [&](double q) {
      return static_cast<double>(ages[std::min(
          ages.size() - 1, static_cast<std::size_t>(q * static_cast<double>(ages.size())))]);
    };
    report.age_p50_ns = at(0.5);
    report.age_p99_ns = at(0.99);
    report.age_p999_ns = at(0.999);
  }
  return report;
}

}  // namespace bench
