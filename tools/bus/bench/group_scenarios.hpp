#pragma once
/// group_scenarios: what `bus bench` measures of groups. Each scenario makes its own bus and
/// removes it.

#include <bus/bus.hpp>

#include <atomic>
#include <cstdint>

#include "samples.hpp"

namespace bench {

struct queue_options {
  std::uint32_t consumers = 1;      // processes
  std::uint32_t batch = 1;          // messages per fetch
  std::uint64_t waiting = 100'000;  // when the consumers begin
  std::uint32_t delayed = 0;        // other messages that wait for a retry meanwhile
  std::uint32_t keys = 0;  // other messages, whose keys are held; the group keeps their order
  double seconds = 1;      // of claiming and settling, in each round
};
struct queue_report {
  double messages_per_s = 0;                    // claimed and settled
  double settle_p50_ns = 0, settle_p99_ns = 0;  // one at a time: from publish to settled
  double one_way_p50_ns = 0;                    // the same for a subscriber
};
bus::result<queue_report> run_queue(const queue_options& options);

struct death_options {
  std::uint32_t mib = 512;  // memory that the holder has touched
  std::uint32_t kills = 30;
};
struct death_report {
  double redelivery_p50_ms = 0, redelivery_p99_ms = 0, redelivery_max_ms = 0;
  double floor_p50_ms = 0, floor_p99_ms = 0;  // notification by the kernel: a robust mutex
};
bus::result<death_report> run_death(const death_options& options);

}  // namespace bench
