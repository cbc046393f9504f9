#pragma once
/// queue: systems with work queues, one file each: waiting messages are claimed and acknowledged. A
/// system whose client library was missing at configuration, or whose server is not installed, is
/// listed as absent.
/// installed, is listed all the same, as absent.

#include <string>
#include <vector>

#include "peer.hpp"

namespace bench {

struct queue_question {
  double seconds = 1;  // of claiming, for one measurement
  std::uint32_t bytes = 64;
};

struct queue_mode {
  std::uint32_t consumers;  // processes
  std::uint32_t batch;      // messages claimed at once
};
inline constexpr queue_mode queue_modes[] = {{1, 1}, {1, 64}, {2, 1}, {2, 64}};
inline constexpr std::size_t queue_mode_count = std::size(queue_modes);

struct queue_peer {
  std::string id;      // for --only and JSON
  std::string title;   // for tables
  std::string how;     // its configuration, in one line
  std::string absent;  // why it cannot be measured here; empty: it can
  /// Measures all modes in order, up to the first that fails.
  std::function<std::vector<outcome>(const queue_question&)> run;
};

queue_peer libbus_queue();
/// one_core: server and clients share core 0, where waking the other side costs a fraction of what
/// it costs across cores.
queue_peer redis_queue(bool one_core);
queue_peer nats_queue(bool one_core);
queue_peer rabbitmq_queue(bool one_core);

}  // namespace bench
