#pragma once
/// processes: runs the parts of one measurement as pinned child processes, and ends them in any
/// case: a part that fails or exceeds its time ends the others too. The program itself opens none
/// of the measured systems, so that every measurement starts from a clean process.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "peer.hpp"
#include "samples.hpp"

namespace bench {

using bench_clock = std::chrono::steady_clock;

inline bench_clock::time_point from_now(double seconds) {
  return bench_clock::now() +
         std::chrono::duration_cast<bench_clock::duration>(std::chrono::duration<double>(seconds));
}

/// Shared by the parts of a measurement.
struct board {
  std::atomic<std::uint32_t> opened{0}, finished{0};
  std::atomic<std::uint64_t> trips{0};  // of the round trip, set by the near side
  std::atomic<std::uint64_t> count{0};  // of the stream's current phase
  std::atomic<std::uint32_t> phase{0}, phase_done{0};
  std::atomic<bool> last_phase{false};
  double phase_seconds = 0, phase_rate = 0;  // writer: reader of the stream, before phase_done
  double p50_ns = 0, p99_ns = 0, messages_per_s = 0;
  char failure[240] = {};

  void take(samples& measured) {
    p50_ns = measured.at(0.5);
    p99_ns = measured.at(0.99);
  }
};

struct part {
  int core;
  std::function<void(board&)> work;  // throws std::exception when it fails
};

/// Forks a process for each part and waits for all of them, at most `seconds_max`.
outcome run_parts(double seconds_max, const std::vector<part>& parts);

/// SIGINT, SIGTERM and SIGHUP end the current measurement and then the run; everything that was
/// made is removed.
void watch_signals();
bool interrupted();

/// Waits without using up the core that a pinned partner may need.
template <class Condition>
void wait_until(Condition&& condition) {
  while (!condition()) usleep(20);
}

/// A directory for this run only, removed with everything in it.
class scratch_directory {
 public:
  scratch_directory();
  ~scratch_directory();
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  std::string operator/(const char* name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Throws std::runtime_error with what was attempted, and errno.
[[noreturn]] void fail(const std::string& what_failed);
[[noreturn]] void fail_with_errno(const std::string& what_failed);

}  // namespace bench
