#pragma once
/// run_state: what the processes of one run share besides the bus: when to begin and to end, and
/// their results for the report.

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <thread>

#include "telemetry/histogram.hpp"

namespace telemetry {

inline constexpr const char* stream_name = "telemetry";
inline constexpr const char* end_subject = "host.end";  ///< the last message of a run
/// Small on purpose, so that the slow subscriber loses messages.
inline constexpr std::uint64_t ring_bytes = 256 * 1024;
/// Pause of the slow subscriber after each message.
inline constexpr auto slowness = std::chrono::milliseconds(1);
inline constexpr auto sweep_period = std::chrono::milliseconds(5);
inline constexpr int subscribers_total = 2;

/// Processor time in kernel ticks, as received by the fast subscriber.
struct cpu_times {
  std::uint64_t user = 0, system = 0, idle = 0;
};

struct subscriber_result {
  std::uint64_t delivered = 0;
  /// Of these, delivered after the last message was published.
  std::uint64_t delivered_at_the_end = 0;
  std::uint64_t lost = 0;
  std::uint64_t gaps = 0;
};

struct run_state {
  std::atomic<int> stop{0};  ///< not 0: the publisher ends; a signal number, or 1
  std::atomic<bool> stream_ready{false};
  std::atomic<int> subscribed{0};
  std::atomic<bool> all_published{false};

  // One process writes each before it exits; the report reads it afterwards.
  std::uint64_t published = 0;
  std::uint64_t published_cpu_mem = 0;  ///< of these, those for the fast subscriber
  std::uint64_t sweeps = 0;
  double seconds = 0;
  subscriber_result fast, slow;
  histogram fast_latency;
  cpu_times cpu_first, cpu_last;
  std::uint64_t memory_available_bytes = 0;
  histogram line_floor, futex_floor;
};

/// A value in memory that forked processes share.
template <class T>
class shared {
 public:
  shared() {
    void* at =
        ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("out of memory");
    value_ = new (at) T{};
  }
  shared(const shared&) = delete;
  shared& operator=(const shared&) = delete;
  ~shared() { ::munmap(value_, sizeof(T)); }
  T& operator*() const { return *value_; }
  T* operator->() const { return value_; }

 private:
  T* value_;
};

/// Waits until `true_now()` holds. False: the run was stopped first.
template <class Condition>
bool wait_for(const run_state& state, Condition&& true_now) {
  while (!true_now()) {
    if (state.stop.load() != 0) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace telemetry
