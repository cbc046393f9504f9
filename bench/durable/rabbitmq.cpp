#include "confirmed.hpp"
#include "server.hpp"

#include <fstream>
#include <set>

namespace bench {

namespace {
std::string rabbitmq_id(bool quorum) { return quorum ? "rabbitmq_quorum" : "rabbitmq"; }
std::string rabbitmq_title(bool quorum) { return quorum ? "RabbitMQ quorum queue" : "RabbitMQ durable queue"; }
std::string rabbitmq_how(bool quorum) {
  return std::string(quorum ? "quorum queue of one node" : "durable classic queue") +
         ", persistent messages, publisher confirms; loopback TCP; 4096 in flight";
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_RABBITMQ
#include <amqp.h>
#include <amqp_tcp_socket.h>

namespace bench {

namespace {

constexpr std::uint64_t in_flight = 4096;
constexpr amqp_channel_t channel = 1;
constexpr std::uint8_t persistent = 2;
constexpr double boot_s = 60;
constexpr char scripts[] = "/usr/lib/rabbitmq/bin";

amqp_bytes_t bytes_of(const std::string& text) { return {text.size(), const_cast<char*>(text.data())}; }

void check(int status, const char* doing) {
  if (status < 0) fail(std::string("rabbitmq ") + doing + ": " + amqp_error_string2(status));
}
void check(const amqp_rpc_reply_t& reply, const char* doing) {
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) check(reply.library_error, doing);
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(std::string("rabbitmq ") + doing + ": refused");
}

class rabbitmq_client {
 public:
  rabbitmq_client(int port, bool quorum) : connection_(amqp_new_connection()) {
    amqp_socket_t* socket = amqp_tcp_socket_new(connection_);
    if (socket == nullptr) fail("rabbitmq: no memory");
    check(amqp_socket_open(socket, "127.0.0.1", port), "connect");
    check(amqp_login(connection_, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
    amqp_channel_open(connection_, channel);
    check(amqp_get_rpc_reply(connection_), "channel");
    amqp_table_entry_t type{};
    type.key = amqp_cstring_bytes("x-queue-type");
    type.value.kind = AMQP_FIELD_KIND_UTF8;
    type.value.value.bytes = amqp_cstring_bytes(quorum ? "quorum" : "classic");
    amqp_queue_declare(connection_, channel, bytes_of(queue_), 0, 1, 0, 0, amqp_table_t{1, &type});
    check(amqp_get_rpc_reply(connection_), "queue");
    amqp_confirm_select(connection_, channel);
    check(amqp_get_rpc_reply(connection_), "confirm.select");
  }
  ~rabbitmq_client() { amqp_destroy_connection(connection_); }
  rabbitmq_client(const rabbitmq_client&) = delete;
  rabbitmq_client& operator=(const rabbitmq_client&) = delete;

  void publish(const std::string& payload) {
    send(payload);
    while (confirmed_ < sent_) confirm();
  }

  std::uint64_t stream(const std::string& payload, bench_clock::time_point until) {
    const std::uint64_t before = sent_;
    while (bench_clock::now() < until) {
      send(payload);
      while (sent_ - confirmed_ >= in_flight) confirm();
    }
    while (confirmed_ < sent_) confirm();
    return sent_ - before;
  }

 private:
  void send(const std::string& payload) {
    amqp_basic_properties_t properties{};
    properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    properties.delivery_mode = persistent;
    check(amqp_basic_publish(connection_, channel, amqp_empty_bytes, bytes_of(queue_), 0, 0, &properties,
                             bytes_of(payload)),
          "publish");
    ++sent_;
  }

  // An ack of several confirms all up to its tag; those that come alone may come in any order.
  void confirm() {
    amqp_frame_t frame;
    amqp_maybe_release_buffers(connection_);
    check(amqp_simple_wait_frame(connection_, &frame), "confirm");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
      fail("rabbitmq: a message was not confirmed");
    const auto* ack = static_cast<const amqp_basic_ack_t*>(frame.payload.method.decoded);
    if (!ack->multiple) {
      alone_.insert(ack->delivery_tag);
    } else {
      all_to_ = std::max(all_to_, ack->delivery_tag);
    }
    while (!alone_.empty() && *alone_.begin() <= all_to_ + 1) {
      all_to_ = std::max(all_to_, *alone_.begin());
      alone_.erase(alone_.begin());
    }
    confirmed_ = all_to_ + alone_.size();
  }

  const std::string queue_ = "bench";
  amqp_connection_state_t connection_;
  std::uint64_t sent_ = 0, confirmed_ = 0, all_to_ = 0;
  std::set<std::uint64_t> alone_;  // confirmed tags after all_to_
};

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) fail_with_errno(path);
}

// A node of its own: name, ports, files, cookie, and the port mapper that Erlang would otherwise leave behind.
outcome run(const durable_question& asked, bool quorum) {
  const scratch_directory here;
  const int port = free_port(), node_port = free_port(), mapper_port = free_port();
  const std::string number = std::to_string(mapper_port);
  write_file(here / "plugins", "[].\n");
  write_file(here / "node.conf", "listeners.tcp.1 = 127.0.0.1:" + std::to_string(port) +
                                     "\ndisk_free_limit.absolute = 50MB\nlog.console = false\n");
  write_file(here / "environment", "");
  const server mapper({find_program("epmd"), "-port", number, "-address", "127.0.0.1"}, here / "epmd.log");
  server node({find_program("rabbitmq-server", {scripts})}, here / "node.log",
              {{"HOME", here / ""},
               {"ERL_EPMD_PORT", number},
               {"RABBITMQ_ALLOW_INPUT", "1"},  // the shell becomes the node
               {"RABBITMQ_CONF_ENV_FILE", here / "environment"},
               {"RABBITMQ_CONFIG_FILE", here / "node.conf"},
               {"RABBITMQ_ENABLED_PLUGINS_FILE", here / "plugins"},
               {"RABBITMQ_MNESIA_BASE", here / "data"},
               {"RABBITMQ_LOG_BASE", here / "log"},
               {"RABBITMQ_PID_FILE", here / "pid"},
               {"RABBITMQ_NODENAME", "bench" + number + "@localhost"},
               {"RABBITMQ_NODE_PORT", std::to_string(port)},
               {"RABBITMQ_DIST_PORT", std::to_string(node_port)},
               {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} -noinput"}});
  node.wait_for("rabbitmq-server", boot_s, [&] { return answers_on_port(port); });
  return run_client(asked, [&] { return std::make_unique<rabbitmq_client>(port, quorum); });
}

std::string absence() {
  if (find_program("rabbitmq-server", {scripts}).empty()) return "rabbitmq-server is not installed";
  return find_program("epmd").empty() ? "epmd of Erlang is not installed" : "";
}

}  // namespace

durable_peer rabbitmq_peer(bool quorum) {
  return {rabbitmq_id(quorum), rabbitmq_title(quorum), rabbitmq_how(quorum), absence(), 0,
          [quorum](const durable_question& asked) { return guarded([&] { return run(asked, quorum); }); }};
}

}  // namespace bench

#else

namespace bench {
durable_peer rabbitmq_peer(bool quorum) {
  return {rabbitmq_id(quorum), rabbitmq_title(quorum), rabbitmq_how(quorum), "built without librabbitmq-dev", 0, {}};
}
}  // namespace bench

#endif
