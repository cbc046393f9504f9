#include "confirmed.hpp"
#include "systems.hpp"

namespace bench {

namespace {
std::string rabbitmq_id(bool quorum) { return quorum ? "rabbitmq_quorum" : "rabbitmq"; }
std::string rabbitmq_title(bool quorum) {
  return quorum ? "RabbitMQ quorum queue" : "RabbitMQ durable queue";
}
std::string rabbitmq_how(bool quorum) {
  return std::string(quorum ? "quorum queue of one node" : "durable classic queue") +
         ", persistent messages, publisher confirms; loopback TCP; 4096 in flight";
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_RABBITMQ
#include "rabbitmq_connection.hpp"

namespace bench {

namespace {

class rabbitmq_client {
 public:
  rabbitmq_client(int port, bool quorum)
      : publisher_(port, "bench", quorum ? "quorum" : "classic", true) {}

  void publish(const std::string& payload) {
    publisher_.send(payload);
    publisher_.confirm_all();
  }

  std::uint64_t stream(const std::string& payload, bench_clock::time_point until) {
    std::uint64_t sent = 0;
    for (; bench_clock::now() < until; ++sent) publisher_.send(payload);
    publisher_.confirm_all();
    return sent;
  }

 private:
  rabbitmq_publisher publisher_;
};

outcome run(const durable_question& asked, bool quorum) {
  const rabbitmq_node node;
  return run_client(asked, [&] { return std::make_unique<rabbitmq_client>(node.port(), quorum); });
}

}  // namespace

durable_peer rabbitmq_peer(bool quorum) {
  return {rabbitmq_id(quorum),
          rabbitmq_title(quorum),
          rabbitmq_how(quorum),
          rabbitmq_absence(),
          0,
          [quorum](const durable_question& asked) {
            return guarded([&] { return run(asked, quorum); });
          }};
}

}  // namespace bench

#else

namespace bench {
durable_peer rabbitmq_peer(bool quorum) {
  return {rabbitmq_id(quorum),
          rabbitmq_title(quorum),
          rabbitmq_how(quorum),
          "built without librabbitmq-dev",
          0,
          {}};
}
}  // namespace bench

#endif
