/// floor: the lowest latency between two processes on this machine without a bus: through a word in
/// shared memory on which the other process spins, and through a futex on which it sleeps.

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>

#include <atomic>
#include <chrono>
#include <vector>

#include "example.hpp"
#include "telemetry/processes.hpp"

namespace telemetry {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto duration = std::chrono::milliseconds(300);
constexpr std::uint32_t finished = 0xffff'ffff;

struct word_pair {
  alignas(128) std::atomic<std::uint32_t> ping{0};
  alignas(128) std::atomic<std::uint32_t> pong{0};
};

struct spin {
  static void set(std::atomic<std::uint32_t>& word, std::uint32_t value) {
    word.store(value, std::memory_order_release);
  }
  static std::uint32_t await_change(std::atomic<std::uint32_t>& word, std::uint32_t from) {
    std::uint32_t seen;
    while ((seen = word.load(std::memory_order_acquire)) == from) {
    }
    return seen;
  }
};

struct futex {
  static void set(std::atomic<std::uint32_t>& word, std::uint32_t value) {
    word.store(value, std::memory_order_release);
    ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }
  static std::uint32_t await_change(std::atomic<std::uint32_t>& word, std::uint32_t from) {
    std::uint32_t seen;
    while ((seen = word.load(std::memory_order_acquire)) == from)
      ::syscall(SYS_futex, &word, FUTEX_WAIT, from, nullptr, nullptr, 0);
    return seen;
  }
};

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

void pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ::sched_setaffinity(0, sizeof(set), &set);
}

template <class Way>
void measure(int near_cpu, int far_cpu, histogram& into) {
  shared<word_pair> words;
  example::process far([&] {
    pin_to(far_cpu);
    for (std::uint32_t seen = 0; (seen = Way::await_change(words->ping, seen)) != finished;)
      Way::set(words->pong, seen);
  });
  example::process near([&] {
    pin_to(near_cpu);
    std::uint32_t trip = 0;
    for (const auto end = clock::now() + duration; clock::now() < end;) {
      const auto begin = clock::now();
      Way::set(words->ping, trip + 1);
      Way::await_change(words->pong, trip);
      const auto took = std::chrono::nanoseconds(clock::now() - begin);
      ++trip;
      into.add(static_cast<std::uint64_t>(took.count()) / 2);
    }
    Way::set(words->ping, finished);
  });
  near.join("measurement of the floor");
  far.join("measurement of the floor");
}

}  // namespace

void measure_floors(run_state& state) {
  const std::vector<int> cpus = allowed_cpus();
  if (cpus.size() < 2) return;
  measure<spin>(cpus[0], cpus[1], state.line_floor);
  measure<futex>(cpus[0], cpus[1], state.futex_floor);
}

}  // namespace telemetry
