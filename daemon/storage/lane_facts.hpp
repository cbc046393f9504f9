#pragma once
/// lane_facts: the status of one lane's log, as busd reports it. The thread that owns the lane's
/// logger writes it; readers never block.
///
/// Threads    one writes, any read

#include <atomic>
#include <cstdint>
#include <string>

#include "layout/lane.hpp"

namespace bus::storage {

struct lane_facts {
  std::string stream;
  std::uint32_t lane = 0;
  // Results of opening, set before any other thread sees the object.
  std::uint64_t recovery_bytes_read = 0;
  std::uint64_t recovery_rewritten = 0;
  std::uint64_t damages = 0;

  std::atomic<layout::log_health> health{layout::log_health::good};
  std::atomic<std::uint64_t> first_seq{0}, written_seq{0}, durable_seq{0};
  std::atomic<std::uint64_t> segments{0}, bytes{0};
  std::atomic<std::uint64_t> bytes_written{0}, commits{0};
};

}  // namespace bus::storage
