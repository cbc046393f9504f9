#include "drained.hpp"
#include "systems.hpp"

namespace bench {

namespace {
constexpr char rabbitmq_configuration[] =
    "classic queue, not durable, transient messages, pushed, manual acks: one by one with prefetch "
    "1; batches of 64 "
    "with prefetch 128 and one ack (multiple) for each batch; loopback TCP";
std::string rabbitmq_id(bool one_core) { return one_core ? "rabbitmq_one_core" : "rabbitmq"; }
std::string rabbitmq_title(bool one_core) {
  return one_core ? "RabbitMQ classic queue, one core" : "RabbitMQ classic queue";
}
std::string rabbitmq_how(bool one_core) {
  return std::string(rabbitmq_configuration) +
         (one_core ? "; all on core 0" : "; left to the scheduler");
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_RABBITMQ
#include <sys/time.h>

#include "rabbitmq_connection.hpp"

namespace bench {

namespace {

struct rabbitmq_system {
  rabbitmq_node node;

  class filler {
   public:
    filler(const rabbitmq_system& system, const std::string& name)
        : publisher_(system.node.port(), name, "classic", false) {}

    void fill(const std::string& payload, std::uint64_t count) {
      for (std::uint64_t i = 0; i < count; ++i) publisher_.send(payload);
      publisher_.confirm_all();
    }

   private:
    rabbitmq_publisher publisher_;
  };

  class worker {
   public:
    worker(const rabbitmq_system& system, const std::string& name, std::uint32_t batch)
        : connection_(system.node.port()), name_(name), batch_(batch) {
      // so that the next batch is already on its way
      const auto prefetch = static_cast<std::uint16_t>(batch == 1 ? 1 : 2 * batch);
      amqp_basic_qos(connection_, connection_.channel, 0, prefetch, 0);
      connection_.answered("qos");
      amqp_basic_consume(connection_, connection_.channel, rabbitmq_bytes(name_), amqp_empty_bytes,
                         0, 0, 0, amqp_empty_table);
      connection_.answered("consume");
    }

    std::uint64_t take(std::uint64_t& sum) {
      std::uint64_t got = 0, last = 0;
      amqp_maybe_release_buffers(connection_);
      while (got < batch_) {
        amqp_envelope_t one;
        timeval patience{0, 1000};
        const amqp_rpc_reply_t reply = amqp_consume_message(connection_, &one, &patience, 0);
        if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION &&
            reply.library_error == AMQP_STATUS_TIMEOUT)
          break;
        rabbitmq_check(reply, "consume");
        sum += detail::sum_of_bytes(one.message.body.bytes, one.message.body.len);
        last = one.delivery_tag;
        ++got;
        amqp_destroy_envelope(&one);
      }
      if (got != 0)
        rabbitmq_check(amqp_basic_ack(connection_, connection_.channel, last, got > 1), "ack");
      return got;
    }
    // Passes from the channel to the queue after the acknowledgements.
    void finish() {
      amqp_queue_declare(connection_, connection_.channel, rabbitmq_bytes(name_), 1, 0, 0, 0,
                         amqp_empty_table);
      connection_.answered("queue");
    }

   private:
    rabbitmq_connection connection_;
    const std::string name_;
    const std::uint32_t batch_;
  };
};

}  // namespace

queue_peer rabbitmq_queue(bool one_core) {
  return {rabbitmq_id(one_core), rabbitmq_title(one_core), rabbitmq_how(one_core),
          rabbitmq_absence(), [one_core](const queue_question& asked) {
            return run_queue<rabbitmq_system>(asked, one_core);
          }};
}

}  // namespace bench

#else

namespace bench {
queue_peer rabbitmq_queue(bool one_core) {
  return {rabbitmq_id(one_core),
          rabbitmq_title(one_core),
          rabbitmq_how(one_core),
          "built without librabbitmq-dev",
          {}};
}
}  // namespace bench

#endif
