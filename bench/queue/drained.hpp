#pragma once
/// drained: the loops that measure a queue, between one process that fills it and the consumers. A
/// system has:
///
///   filler::filler(system, name)     makes the queue of that name, empty
///   filler::fill(payload, count)     returns when all messages wait in the queue
///   worker::worker(system, name, batch)
///   worker::take(sum&)               claims up to batch messages, adds up every byte,
///                                    acknowledges; returns how many are settled; 0: the queue may
///                                    be empty
///   worker::finish()                 returns when the system has all acknowledgements
///
/// In a round the queue is filled, then all consumers take messages until everything is settled.
/// Its time runs from the start of the first consumer to the end of the last. Rounds are repeated
/// until there is enough time. A message that is lost, repeated or altered is a failure. Failures
/// are thrown.

#include "processes.hpp"
#include "queue.hpp"
#include "rounds.hpp"

namespace bench {

namespace detail {

// warms up, and shows how many are drained in the time
constexpr std::uint64_t first_waiting = 2000;
constexpr std::uint64_t waiting_max = 100'000;
constexpr std::size_t consumers_max = 2;
constexpr char fill_byte = 0x11;

struct alignas(128) tally {
  std::atomic<std::uint64_t> settled{0}, sum{0}, begin{0}, end{0};
};

struct meeting {
  std::atomic<std::uint32_t> ready{0}, done{0};  // consumers, of all rounds
  std::atomic<std::uint32_t> round{0};
  std::atomic<std::uint64_t> waiting{0};
  std::atomic<bool> over{false};
  tally of[consumers_max];

  std::uint64_t settled() const {
    std::uint64_t all = 0;
    for (const tally& each : of) all += each.settled.load();
    return all;
  }
};

template <class Worker>
void drain_rounds(Worker& worker, std::size_t self, meeting& meet) {
  tally& own = meet.of[self];
  for (std::uint32_t round = 1;; ++round) {
    meet.ready.fetch_add(1);
    wait_until([&] { return meet.round.load() == round || meet.over.load(); });
    if (meet.over.load()) return;
    const std::uint64_t waiting = meet.waiting.load();
    std::uint64_t settled = 0, sum = 0;
    own.begin = ticks();
    for (;;) {
      const std::uint64_t got = worker.take(sum);
      settled += got;
      if (got != 0 && settled < waiting) continue;
      own.settled = settled;
      if (meet.settled() >= waiting) break;
    }
    worker.finish();
    own.end = ticks();
    own.sum = sum;
    meet.done.fetch_add(1);
  }
}

struct drained {
  std::uint64_t messages = 0;
  double seconds = 0;
};

template <class Filler>
drained one_round(Filler& filler, const queue_question& asked, std::uint32_t consumers,
                  std::uint32_t round, std::uint64_t waiting, meeting& meet) {
  wait_until([&] { return meet.ready.load() == round * consumers; });
  filler.fill(std::string(asked.bytes, fill_byte), waiting);
  for (tally& each : meet.of) each.settled = each.sum = 0;
  meet.waiting = waiting;
  meet.round = round;
  while (meet.done.load() != round * consumers) ::usleep(500);
  std::uint64_t first = meet.of[0].begin, last = meet.of[0].end, sum = 0;
  for (std::size_t i = 0; i < consumers; ++i) {
    first = std::min(first, meet.of[i].begin.load());
    last = std::max(last, meet.of[i].end.load());
    sum += meet.of[i].sum;
  }
  if (meet.settled() != waiting || sum != waiting * asked.bytes * fill_byte)
    fail("messages were lost, repeated or altered");
  return {waiting, static_cast<double>(last - first) / ticks_per_ns() / 1e9};
}

template <class Filler>
void fill_rounds(Filler& filler, const queue_question& asked, std::uint32_t consumers,
                 board& shared, meeting& meet) {
  const drained first = one_round(filler, asked, consumers, 1, first_waiting, meet);
  const double guess = static_cast<double>(first.messages) / first.seconds * asked.seconds;
  const std::uint64_t waiting =
      std::clamp(static_cast<std::uint64_t>(guess), first_waiting, waiting_max);
  drained all;
  for (std::uint32_t round = 2; all.seconds < 0.8 * asked.seconds; ++round) {
    const drained each = one_round(filler, asked, consumers, round, waiting, meet);
    all.messages += each.messages;
    all.seconds += each.seconds;
  }
  meet.over = true;
  shared.messages_per_s = static_cast<double>(all.messages) / all.seconds;
}

inline std::uint64_t sum_of_bytes(const void* data, std::size_t size) {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < size; ++i) sum += at[i];
  return sum;
}

}  // namespace detail

/// Watchdog: several times the time of the measurement, plus some for filling.
inline double queue_patience_s(const queue_question& asked) { return 40 + 10 * asked.seconds; }

template <class System>
std::vector<outcome> run_queue(const System& system, const queue_question& asked) {
  std::vector<outcome> results;
  for (const queue_mode& mode : queue_modes) {
    const std::string name = "bench" + std::to_string(results.size());
    shared_value<detail::meeting> meet;
    std::vector<part> parts = {{-1, [&](board& shared) {
                                  typename System::filler filler(system, name);
                                  shared.opened = 1;
                                  detail::fill_rounds(filler, asked, mode.consumers, shared, *meet);
                                  wait_until(
                                      [&] { return shared.finished.load() == mode.consumers; });
                                }}};
    for (std::size_t i = 0; i < mode.consumers; ++i)
      parts.push_back({-1, [&, i](board& shared) {
                         wait_until([&] { return shared.opened.load() == 1; });
                         {
                           typename System::worker worker(system, name, mode.batch);
                           detail::drain_rounds(worker, i, *meet);
                         }
                         shared.finished.fetch_add(1);
                       }});
    results.push_back(run_parts(queue_patience_s(asked), parts));
    if (!results.back().failure.empty()) break;
  }
  return results;
}

/// Starts the system, then measures all modes. Processes that it starts inherit the core.
template <class System>
std::vector<outcome> run_queue(const queue_question& asked, bool one_core) {
  std::vector<outcome> results;
  if (one_core) pin_to(0);
  const outcome started = guarded([&] {
    const System system;
    results = run_queue(system, asked);
    return outcome{};
  });
  unpin();
  if (!started.failure.empty()) results.push_back(started);
  return results;
}

}  // namespace bench
