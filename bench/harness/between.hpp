#pragma once
/// between: the loops that measure a system between two processes. A system is a channel:
///
///   Channel(const plan&)        made before the processes; its destructor removes everything that
///                               has a name
///   end open(bool near)         called in each process: near sends one way and receives the other;
///                               far the reverse
///   end::send(const char*, n)   returns when the message is on its way; spins or blocks while the
///                               way is full
///   end::receive(sum&)          takes the messages that are there, adds up every byte, returns how
///                               many; when spinning, maybe 0
///
/// The channel is a template parameter, so that a system that takes 10 ns per message does not pay
/// for virtual calls. The sums are checked: a system that loses, repeats or alters a message fails.

#include <exception>

#include "processes.hpp"

namespace bench {

namespace detail {

constexpr std::uint64_t first_trips = 64;  // warm up, and show how many trips fit into the time
constexpr std::uint64_t trips_min = 400, trips_max = 400'000;
constexpr std::uint64_t first_count = 256;
constexpr double long_enough_s = 0.02;
constexpr char fill = 0x11;

inline std::uint64_t sum_of_fill(int value, std::uint32_t bytes) {
  return 0x0101010101010101ull * static_cast<unsigned char>(value) * (bytes / 8);
}

/// Waits until both ends are open, or until both are done before either closes.
inline void meet(std::atomic<std::uint32_t>& arrived) {
  arrived.fetch_add(1);
  wait_until([&] { return arrived.load() == 2; });
}

template <class End>
void trip_near(End& end, const plan& asked, board& shared) {
  std::vector<char> payload(asked.bytes);
  std::uint64_t sum = 0, trips = first_trips, done = 0;
  samples measured;
  const auto run = [&](samples& into) {
    for (std::uint64_t i = 0; i < trips; ++i, ++done) {
      const std::uint64_t begin = ticks();
      std::memset(payload.data(), static_cast<int>(done), payload.size());
      end.send(payload.data(), asked.bytes);
      while (end.receive(sum) == 0) {
      }
      into.add(ticks() - begin);
    }
  };
  samples first;
  run(first);
  const double guess = asked.seconds * 1e9 / first.at(0.5);
  trips = std::clamp(static_cast<std::uint64_t>(guess), trips_min, trips_max);
  measured.reserve(trips);
  shared.trips.store(trips);
  run(measured);
  if (sum != done * sum_of_fill(fill, asked.bytes)) fail("answers were lost or altered");
  shared.take(measured);
}

template <class End>
void trip_far(End& end, const plan& asked, board& shared) {
  const std::vector<char> payload(asked.bytes, fill);
  std::uint64_t sum = 0, expected = 0, done = 0;
  const auto run = [&](std::uint64_t trips) {
    for (std::uint64_t i = 0; i < trips; ++i, ++done) {
      while (end.receive(sum) == 0) {
      }
      end.send(payload.data(), asked.bytes);
    }
  };
  run(first_trips);
  wait_until([&] { return shared.trips.load() != 0; });
  run(shared.trips.load());
  for (std::uint64_t i = 0; i < done; ++i)
    expected += sum_of_fill(static_cast<int>(i), asked.bytes);
  if (sum != expected) fail("messages were lost or altered");
}

template <class End>
void stream_writer(End& end, const plan& asked, board& shared) {
  const std::vector<char> payload(asked.bytes, fill);
  std::uint64_t count = first_count;
  for (std::uint32_t phase = 1;; ++phase) {
    shared.count.store(count);
    shared.phase.store(phase);
    for (std::uint64_t i = 0; i < count; ++i) end.send(payload.data(), asked.bytes);
    wait_until([&] { return shared.phase_done.load() == phase; });
    if (shared.last_phase.load()) break;
    if (shared.phase_seconds >= std::min(long_enough_s, asked.seconds)) {
      count = std::max(first_count, static_cast<std::uint64_t>(shared.phase_rate * asked.seconds));
      shared.last_phase.store(true);
    } else {
      count *= 4;
    }
  }
  shared.messages_per_s = shared.phase_rate;
}

template <class End>
void stream_reader(End& end, const plan& asked, board& shared) {
  for (std::uint32_t phase = 1;; ++phase) {
    wait_until([&] { return shared.phase.load() == phase; });
    const bool last = shared.last_phase.load();
    const std::uint64_t count = shared.count.load();
    std::uint64_t sum = 0, got = 0;
    while (got == 0) got = end.receive(sum);
    const std::uint64_t begin = ticks(), head = got;
    while (got < count) got += end.receive(sum);
    shared.phase_seconds = static_cast<double>(ticks() - begin) / ticks_per_ns() / 1e9;
    if (got != count || sum != count * sum_of_fill(fill, asked.bytes))
      fail("messages were lost, repeated or altered");
    shared.phase_rate = static_cast<double>(count - head) / std::max(shared.phase_seconds, 1e-9);
    shared.phase_done.store(phase);
    if (last) break;
  }
}

}  // namespace detail

/// Watchdog: several times the time of the measurement, plus some for setting up.
inline double patience_s(const plan& asked) { return 30 + 4 * asked.seconds; }

template <class Channel>
outcome run_between(const plan& asked) {
  try {
    Channel channel(asked);
    const auto side = [&](bool near) {
      return [&, near](board& shared) {
        auto end = channel.open(near);
        detail::meet(shared.opened);
        const bool trips = asked.kind == what::round_trip;
        if (trips && near)
          detail::trip_near(end, asked, shared);
        else if (trips)
          detail::trip_far(end, asked, shared);
        else if (near)
          detail::stream_writer(end, asked, shared);
        else
          detail::stream_reader(end, asked, shared);
        detail::meet(shared.finished);
      };
    };
    return run_parts(patience_s(asked),
                     {{asked.near_core, side(true)}, {asked.far_core, side(false)}});
  } catch (const std::exception& error) {
    outcome result;
    result.failure = error.what();
    return result;
  }
}

}  // namespace bench
