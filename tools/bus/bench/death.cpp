#include <pthread.h>
#include <signal.h>

#include <cstdio>
#include <thread>

#include "bus_of_this_run.hpp"
#include "group_scenarios.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;

// Touches memory, because a large process takes the kernel longer to dismantle.
void touch(std::uint32_t mib) {
  const std::size_t bytes = std::size_t{mib} << 20;
  if (bytes == 0) return;
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at != MAP_FAILED) std::memset(at, 1, bytes);
}

void kill_and_reap(pid_t child) {
  kill(child, SIGKILL);
  (void)join(child);
}

struct robust_mutex {
  pthread_mutex_t mutex;
  std::atomic<bool> held{false};
};

// From kill -9 until a process that waits for the mutex is notified.
bus::result<double> floor_once(const death_options& options) {
  shared_value<robust_mutex> shared;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&shared->mutex, &attributes);
  const pid_t holder = spawn(1, [&] {
    touch(options.mib);
    pthread_mutex_lock(&shared->mutex);
    shared->held = true;
    for (;;) pause();
    return 0;
  });
  while (!shared->held) std::this_thread::sleep_for(1ms);
  std::atomic<std::uint64_t> told{0};
  std::thread waiter([&] {
    const int outcome = pthread_mutex_lock(&shared->mutex);
    told = ticks();
    if (outcome == EOWNERDEAD) pthread_mutex_consistent(&shared->mutex);
    pthread_mutex_unlock(&shared->mutex);
  });
  std::this_thread::sleep_for(20ms);
  const std::uint64_t begin = ticks();
  kill_and_reap(holder);
  waiter.join();
  return static_cast<double>(told - begin) / ticks_per_ns() / 1e6;
}

struct hand_over {
  std::atomic<bool> held{false}, waits{false};
  std::atomic<std::uint64_t> got{0};
};

// From kill -9 of the process that holds the message until another process gets it.
bus::result<double> redelivery_once(const death_options& options) {
  bus_of_this_run here;
  auto session = bus::open(here.url);
  if (!session) return std::move(session.error());
  bus::stream_config stream;
  stream.name = "jobs";
  stream.subjects = {"jobs"};
  if (auto added = session->add_stream(stream); !added) return std::move(added.error());
  bus::group_config group;
  group.name = "workers";
  group.stream = "jobs";
  group.backoff = {0s};
  if (auto added = session->add_group(group); !added) return std::move(added.error());
  auto out = session->publisher("jobs");
  if (!out) return std::move(out.error());
  if (!out->publish("job")) return out->last_error();
  shared_value<hand_over> shared;
  const auto consume = [&](bus::session& own, auto&& with) {
    bus::consumer_options joining{.group = "workers", .stream = "jobs"};
    joining.wait = bus::wait_strategy::block;
    auto consumer = own.consume("", joining);
    return consumer ? with(*consumer) : 1;
  };
  const pid_t holder = spawn(1, [&] {
    touch(options.mib);
    auto own = bus::open(here.url);
    if (!own) return 1;
    return consume(*own, [&](bus::consumer& c) {
      auto one = c.next(10s);
      if (!one) return 1;
      shared->held = true;
      for (;;) pause();
      return 0;
    });
  });
  const auto give_up = std::chrono::steady_clock::now() + 30s;
  while (!shared->held && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(1ms);
  const pid_t survivor = spawn(0, [&] {
    auto own = bus::open(here.url);
    if (!own) return 1;
    return consume(*own, [&](bus::consumer& c) {
      shared->waits = true;
      auto one = c.next(20s);
      if (!one) return 1;
      shared->got = ticks();
      return one->ack() == bus::settle_result::ok ? 0 : 1;
    });
  });
  while (!shared->waits && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(20ms);  // it sleeps by then
  const std::uint64_t begin = ticks();
  kill_and_reap(holder);
  if (!join(survivor) || shared->got == 0)
    return bus::error{bus::errc::system, 0, "bus bench", "the message was not redelivered", ""};
  return static_cast<double>(shared->got - begin) / ticks_per_ns() / 1e6;
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

}  // namespace

bus::result<death_report> run_death(const death_options& options) {
  std::vector<double> redelivery, floor;
  for (std::uint32_t i = 0; i < options.kills; ++i) {
    auto once = redelivery_once(options);
    if (!once) return std::move(once.error());
    redelivery.push_back(*once);
    auto kernel = floor_once(options);
    if (!kernel) return std::move(kernel.error());
    floor.push_back(*kernel);
  }
  return death_report{quantile(redelivery, 0.5), quantile(redelivery, 0.99),
                      quantile(redelivery, 1.0), quantile(floor, 0.5), quantile(floor, 0.99)};
}

}  // namespace bench
