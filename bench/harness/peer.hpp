#pragma once
/// peer: a system that carries messages between two processes, and what is measured of it. Every
/// system is measured by the same loops (between.hpp) with the same private buffers, and reads
/// every byte of every message.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace bench {

enum class waiting : std::uint8_t { spin, block };
enum class what : std::uint8_t { round_trip, stream };

/// One measurement.
struct plan {
  what kind = what::round_trip;
  std::uint32_t bytes = 64;  // a multiple of 8
  waiting wait = waiting::spin;
  int near_core = 0;  // sends first; writes the stream
  int far_core = 1;   // replies; reads the stream
  double seconds = 1;

  bool same_core() const { return near_core == far_core; }
};

struct outcome {
  std::string failure;  // empty: it was measured
  double p50_ns = 0, p99_ns = 0;
  double messages_per_s = 0;
};

struct peer {
  std::string id;                          // for --only and JSON
  std::string title;                       // for tables
  std::string absent;                      // why it cannot be measured here; empty: it can
  std::function<bool(const plan&)> takes;  // whether the system supports this measurement
  std::function<outcome(const plan&)> run;
};

}  // namespace bench
