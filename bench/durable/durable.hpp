#pragma once
/// durable: systems that store messages on a disk and confirm them, one file each. A system whose
/// client library was missing at configuration, or whose server is not installed, is listed as
/// absent.

#include <string>
#include <vector>

#include "peer.hpp"

namespace bench {

struct durable_question {
  double seconds = 3;  // of one measurement
  std::uint32_t bytes = 256;
  std::string bus_program;  // empty: the one beside this program
};

struct durable_peer {
  std::string id;           // for --only and JSON
  std::string title;        // for tables
  std::string how;          // what is measured, in one line
  std::string absent;       // why it cannot be measured here; empty: it can
  std::uint32_t bytes = 0;  // of one message; 0: those of the question
  std::function<outcome(const durable_question&)> run;  // in a directory below TMPDIR
};

durable_peer disk_floor_peer();
durable_peer durable_libbus_peer(const durable_question& asked);
durable_peer redis_peer(int connections);
durable_peer jetstream_peer(bool always_synced);
durable_peer rabbitmq_peer(bool quorum);

/// All of them, the floor first.
std::vector<durable_peer> all_durable_peers(const durable_question& asked);

}  // namespace bench
