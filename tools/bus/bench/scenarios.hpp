#pragma once
/// scenarios: what `bus bench` measures of the product, each beside the floor of the same run.
/// Every scenario makes a bus of its own and removes it.

#include <bus/bus.hpp>

#include <cstdint>
#include <string>

namespace bench {

struct rtt_options {
  std::uint32_t bytes = 64;
  bool block = false;
  bool same_core = false;
  bool early = false;
  double seconds = 3;
};
struct rtt_report {
  double p50_ns = 0, p99_ns = 0, p999_ns = 0, max_ns = 0;
  double floor_p50_ns = 0, floor_p99_ns = 0;
  double ring_p50_ns = 0;  // minimal ring of the same size; 0 with block
  std::uint64_t trips = 0;
};
bus::result<rtt_report> run_rtt(const rtt_options& options);

struct stream_options {
  std::uint32_t bytes = 64;
  std::uint32_t publishers = 1;
  std::uint32_t subscribers = 1;  // processes
  std::uint32_t in_process = 1;   // subscribers in each of them
  std::uint32_t batch = 1;
  std::uint32_t subjects = 0;  // taken in turn; 0: the publisher's own
  std::uint32_t lanes = 1;
  bool shared = false;  // shared publishers even when there is one
  bool per_publisher = false;
  bool floating = false;  // do not pin
  bus::overflow overflow = bus::overflow::block;
  bus::wait_strategy wait = bus::wait_strategy::spin_pause;
  std::uint64_t ring_bytes = 0;  // 0: as the minimal ring
  double rate = 0;               // messages per second of each publisher; 0: as fast as it can
  double seconds = 2;
};
struct stream_report {
  double messages_per_s = 0;  // published and received by the slowest subscriber
  double deliveries_per_s = 0;
  double bytes_per_s = 0;
  std::uint64_t lost = 0;
  double floor_messages_per_s = 0;
  double age_p50_ns = 0, age_p99_ns = 0, age_p999_ns = 0;  // publish to delivery, sampled
  double publish_mean_ns = 0;  // duration of a publish call, with a rate only
};
bus::result<stream_report> run_stream(const stream_options& options);

}  // namespace bench
