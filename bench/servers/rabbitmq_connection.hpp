#pragma once
/// rabbitmq_connection: a connection with one channel, and a publisher with confirms on it. Throws
/// on failure.

#include <amqp.h>
#include <amqp_tcp_socket.h>

#include <algorithm>
#include <set>

#include "processes.hpp"

namespace bench {

inline amqp_bytes_t rabbitmq_bytes(const std::string& text) {
  return {text.size(), const_cast<char*>(text.data())};
}

inline void rabbitmq_check(int status, const char* doing) {
  if (status < 0) fail(std::string("rabbitmq ") + doing + ": " + amqp_error_string2(status));
}
inline void rabbitmq_check(const amqp_rpc_reply_t& reply, const char* doing) {
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
    rabbitmq_check(reply.library_error, doing);
  if (reply.reply_type != AMQP_RESPONSE_NORMAL)
    fail(std::string("rabbitmq ") + doing + ": refused");
}

class rabbitmq_connection {
 public:
  static constexpr amqp_channel_t channel = 1;

  explicit rabbitmq_connection(int port) : connection_(amqp_new_connection()) {
    amqp_socket_t* socket = amqp_tcp_socket_new(connection_);
    if (socket == nullptr) fail("rabbitmq: no memory");
    rabbitmq_check(amqp_socket_open(socket, "127.0.0.1", port), "connect");
    rabbitmq_check(
        amqp_login(connection_, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"),
        "login");
    amqp_channel_open(connection_, channel);
    answered("channel");
  }
  ~rabbitmq_connection() { amqp_destroy_connection(connection_); }
  rabbitmq_connection(const rabbitmq_connection&) = delete;
  rabbitmq_connection& operator=(const rabbitmq_connection&) = delete;

  operator amqp_connection_state_t() { return connection_; }
  void answered(const char* doing) { rabbitmq_check(amqp_get_rpc_reply(connection_), doing); }

  void declare(const std::string& queue, const char* type, bool durable) {
    amqp_table_entry_t argument{};
    argument.key = amqp_cstring_bytes("x-queue-type");
    argument.value.kind = AMQP_FIELD_KIND_UTF8;
    argument.value.value.bytes = amqp_cstring_bytes(type);
    amqp_queue_declare(connection_, channel, rabbitmq_bytes(queue), 0, durable, 0, 0,
                       amqp_table_t{1, &argument});
    answered("queue");
  }

 private:
  amqp_connection_state_t connection_;
};

class rabbitmq_publisher {
 public:
  static constexpr std::uint64_t in_flight = 4096;

  rabbitmq_publisher(int port, const std::string& queue, const char* type, bool durable)
      : connection_(port), queue_(queue), persistent_(durable) {
    connection_.declare(queue, type, durable);
    amqp_confirm_select(connection_, rabbitmq_connection::channel);
    connection_.answered("confirm.select");
  }

  /// Waits while too many messages are unconfirmed.
  void send(const std::string& payload) {
    amqp_basic_properties_t properties{};
    properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
    properties.delivery_mode = persistent_ ? 2 : 1;
    rabbitmq_check(
        amqp_basic_publish(connection_, rabbitmq_connection::channel, amqp_empty_bytes,
                           rabbitmq_bytes(queue_), 0, 0, &properties, rabbitmq_bytes(payload)),
        "publish");
    ++sent_;
    while (sent_ - confirmed_ >= in_flight) confirm();
  }
  void confirm_all() {
    while (confirmed_ < sent_) confirm();
  }

 private:
  // An ack of several messages confirms all up to its tag. Acks of single messages may come in any
  // order.
  void confirm() {
    amqp_frame_t frame;
    amqp_maybe_release_buffers(connection_);
    rabbitmq_check(amqp_simple_wait_frame(connection_, &frame), "confirm");
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

  rabbitmq_connection connection_;
  const std::string queue_;
  const bool persistent_;
  std::uint64_t sent_ = 0, confirmed_ = 0, all_to_ = 0;
  std::set<std::uint64_t> alone_;  // confirmed tags after all_to_
};

}  // namespace bench
