#pragma once
/// test_options: options of the long tests from the environment, and work on two threads.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

namespace bus::test {

inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* given = std::getenv(variable);
  return given != nullptr ? std::strtoull(given, nullptr, 10) : otherwise;
}

/// Calls `work(number)` for the numbers from 0 below `count`, on two threads, until one call
/// returns an error text or the time is up. Returns that text, or an empty string.
template <class Work>
std::string for_each_number(
    std::uint64_t count, Work&& work,
    std::chrono::steady_clock::time_point end = std::chrono::steady_clock::time_point::max()) {
  std::mutex guard;
  std::string wrong;
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> stop{false};
  const auto loop = [&] {
    while (!stop && std::chrono::steady_clock::now() < end) {
      const std::uint64_t number = next++;
      if (number >= count) return;
      const std::string found = work(number);
      if (found.empty()) continue;
      const std::scoped_lock lock(guard);
      if (wrong.empty()) wrong = found;
      stop = true;
    }
  };
  std::thread second(loop);
  loop();
  second.join();
  return wrong;
}

}  // namespace bus::test
