#pragma once
/// samples: measured durations, and processes pinned to cores that measure them.

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

namespace bench {

/// Frequency of the cycle counter against the clock; measured once.
double ticks_per_ns();
inline std::uint64_t ticks() { return __rdtsc(); }

/// Durations in ticks; quantiles in ns.
class samples {
 public:
  void reserve(std::size_t count) { values_.reserve(count); }
  void add(std::uint64_t duration_ticks) { values_.push_back(duration_ticks); }
  void append(const samples& other) {
    values_.insert(values_.end(), other.values_.begin(), other.values_.end());
    sorted_ = false;
  }
  double at(double quantile) {
    if (values_.empty()) return 0;
    if (!sorted_) std::sort(values_.begin(), values_.end());
    sorted_ = true;
    const auto index =
        std::min(values_.size() - 1,
                 static_cast<std::size_t>(quantile * static_cast<double>(values_.size())));
    return static_cast<double>(values_[index]) / ticks_per_ns();
  }
  std::size_t size() const { return values_.size(); }

 private:
  std::vector<std::uint64_t> values_;
  bool sorted_ = false;
};

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// -1: leaves the process to the scheduler.
inline void pin_to(int core) {
  if (core < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}
inline void unpin() {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int core = 0; core < static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)); ++core)
    CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

/// A value shared with forked children.
template <class T>
class shared_value {
 public:
  shared_value() {
    void* at = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) std::abort();
    value_ = new (at) T{};
  }
  ~shared_value() { munmap(value_, sizeof(T)); }
  shared_value(const shared_value&) = delete;
  shared_value& operator=(const shared_value&) = delete;
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

/// Runs `work` in a child on `core`; the value it returns is the exit status.
template <class Work>
pid_t spawn(int core, Work&& work) {
  const pid_t child = fork();
  if (child != 0) return child;
  pin_to(core);
  _exit(work());
}
/// True: the child exited with 0.
inline bool join(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

inline std::uint64_t sum_of(const void* payload, std::size_t bytes) {
  std::uint64_t sum = 0;
  const char* at = static_cast<const char*>(payload);
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    std::uint64_t value;
    std::memcpy(&value, at + i, 8);
    sum += value;
  }
  return sum;
}

}  // namespace bench
