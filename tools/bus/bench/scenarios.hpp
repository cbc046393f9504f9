#pragma once
/// scenarios: what `bus bench` measures of the product, each with the floor of the same run. Each
/// scenario makes its own bus and removes it.

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
  std::uint32_t in_process = 1;   // subscribers per process
  std::uint32_t batch = 1;
  std::uint32_t subjects = 0;  // used in turn; 0: the publisher's own
  std::uint32_t lanes = 1;
  bool shared = false;  // shared publishers even if there is only one
  bool per_publisher = false;
  bool floating = false;  // not pinned to cores
  bus::overflow overflow = bus::overflow::block;
  bus::wait_strategy wait = bus::wait_strategy::spin_pause;
  std::uint64_t ring_bytes = 0;  // 0: that of the minimal ring
  double rate = 0;               // messages per second of each publisher; 0: unlimited
  double seconds = 2;
};
struct stream_report {
  double messages_per_s = 0;  // published and received by the slowest subscriber
  double deliveries_per_s = 0;
  double bytes_per_s = 0;
  std::uint64_t lost = 0;
  double floor_messages_per_s = 0;
  double age_p50_ns = 0, age_p99_ns = 0, age_p999_ns = 0;  // publish to delivery, sampled
  double publish_mean_ns = 0;                              // of a publish call; only with a rate
};
bus::result<stream_report> run_stream(const stream_options& options);

struct durable_options {
  std::uint32_t bytes = 256;
  bool disk = true;  // wait for the confirms
  bus::storage_class storage = bus::storage_class::durable;
  std::string directory = "/var/tmp";  // on the measured disk
  double seconds = 6;
};
struct durable_report {
  double messages_per_s = 0, bytes_per_s = 0;     // under load, confirmed
  double confirm_p50_us = 0, confirm_p99_us = 0;  // one at a time
  double floor_p50_us = 0, floor_p99_us = 0;      // 4 KiB past the page cache, with fdatasync
  double floor_bytes_per_s = 0;                   // the same with 1 MiB
  std::uint64_t bytes_written = 0;
  std::string disk;
};
bus::result<durable_report> run_durable(const durable_options& options);

struct replay_options {
  std::uint32_t bytes = 256;
  std::uint64_t messages = 2'000'000;
  std::uint32_t readers = 1;
  std::string directory = "/var/tmp";
};
struct replay_report {
  double messages_per_s = 0, bytes_per_s = 0;  // of each reader
  double floor_bytes_per_s = 0;                // pread of 1 MiB from the page cache
};
bus::result<replay_report> run_replay(const replay_options& options);

struct beside_options {
  std::uint32_t bytes = 256;
  std::uint64_t messages = 2'000'000;  // in the log at the start
  double pace_bytes_per_s = 0;         // of each reader; 0: unlimited
  std::string directory = "/var/tmp";
  double seconds = 6;
};
/// What two readers of the log, one at its start and one in its middle, cost a running publisher;
/// and what two processes cost it that call pread for as many bytes and use as much processor time.
struct beside_report {
  struct company {
    double messages_per_s = 0;   // of the publisher
    double bytes_per_s[2] = {};  // of each reader, from the log
    double processor_share = 0;  // of both readers together; 1: one processor
    double ratio_to_alone = 0;   // of the same round; median
  };
  double alone_messages_per_s = 0;
  company readers, preads;
  double ratio = 0;  // with readers to with preads, of the same round; median
  int rounds = 0;
};
bus::result<beside_report> run_beside(const beside_options& options);

}  // namespace bench
