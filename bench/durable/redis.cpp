#include "confirmed.hpp"
#include "systems.hpp"

namespace bench {

namespace {
std::string redis_id(int connections) {
  return connections == 1 ? "redis" : "redis_" + std::to_string(connections);
}
std::string redis_title(int connections) {
  return connections == 1 ? "Redis Streams"
                          : "Redis Streams, " + std::to_string(connections) + " conn.";
}
std::string redis_how(int connections) {
  return "XADD, appendonly yes, appendfsync always, no AOF rewrites; Unix socket; pipelines of 256 "
         "on " +
         (connections == 1 ? "one connection" : std::to_string(connections) + " connections");
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_REDIS
#include "redis_connection.hpp"

namespace bench {

namespace {

constexpr int pipeline = 256;

class redis_client {
 public:
  redis_client(const std::string& socket, int connections) {
    for (int i = 0; i < connections; ++i)
      connections_.push_back(std::make_unique<redis_connection>(socket));
  }

  void publish(const std::string& payload) {
    add(*connections_[0], payload);
    connections_[0]->answer();
  }

  // Each connection gets its next pipeline as soon as its last one is confirmed, while those of the
  // other connections are in flight.
  std::uint64_t stream(const std::string& payload, bench_clock::time_point until) {
    const auto send = [&](redis_connection& to) {
      for (int i = 0; i < pipeline; ++i) add(to, payload);
      to.flush();
    };
    const auto confirm = [&](redis_connection& from) {
      for (int i = 0; i < pipeline; ++i) from.answer();
    };
    std::uint64_t sent = 0;
    for (auto& each : connections_) send(*each);
    while (bench_clock::now() < until) {
      for (auto& each : connections_) {
        confirm(*each);
        sent += pipeline;
        send(*each);
      }
    }
    for (auto& each : connections_) {
      confirm(*each);
      sent += pipeline;
    }
    return sent;
  }

 private:
  static void add(redis_connection& to, const std::string& payload) {
    to.add("XADD bench * d %b", payload.data(), payload.size());
  }

  std::vector<std::unique_ptr<redis_connection>> connections_;
};

outcome run(const durable_question& asked, int connections) {
  const redis_server redis(
      {"--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"});
  return run_client(asked,
                    [&] { return std::make_unique<redis_client>(redis.socket(), connections); });
}

}  // namespace

durable_peer redis_peer(int connections) {
  return {redis_id(connections),
          redis_title(connections),
          redis_how(connections),
          redis_absence(),
          0,
          [connections](const durable_question& asked) {
            return guarded([&] { return run(asked, connections); });
          }};
}

}  // namespace bench

#else

namespace bench {
durable_peer redis_peer(int connections) {
  return {redis_id(connections),
          redis_title(connections),
          redis_how(connections),
          "built without libhiredis-dev",
          0,
          {}};
}
}  // namespace bench

#endif
