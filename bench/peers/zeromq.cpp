#include "between.hpp"
#include "peers.hpp"

#if BENCH_HAS_ZEROMQ
#include <zmq.h>

namespace bench {

namespace {

// A thread of the library moves the bytes. Polling without sleeping would take its core, so both
// sides sleep.
class zeromq_end {
 public:
  zeromq_end(const std::string& address, bool near)
      : context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_PAIR)) {
    const int linger_ms = 1000;
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    if ((near ? zmq_bind(socket_, address.c_str()) : zmq_connect(socket_, address.c_str())) != 0)
      give_up("open");
  }
  ~zeromq_end() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  zeromq_end(const zeromq_end&) = delete;
  zeromq_end& operator=(const zeromq_end&) = delete;

  void send(const char* payload, std::uint32_t bytes) {
    if (zmq_send(socket_, payload, bytes, 0) < 0) give_up("send");
  }

  std::uint64_t receive(std::uint64_t& sum) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, socket_, 0) < 0) give_up("receive");
    sum += sum_of(zmq_msg_data(&message), zmq_msg_size(&message));
    zmq_msg_close(&message);
    return 1;
  }

 private:
  [[noreturn]] static void give_up(const char* doing) {
    fail(std::string("zmq ") + doing + ": " + zmq_strerror(zmq_errno()));
  }

  void* context_;
  void* socket_;
};

class zeromq_channel {
 public:
  explicit zeromq_channel(const plan&) {}
  zeromq_end open(bool near) { return {"ipc://" + (directory_ / "pair"), near}; }

 private:
  scratch_directory directory_;
};

}  // namespace

peer zeromq_peer() {
  return {"zeromq", "ZeroMQ ipc", "",
          [](const plan& asked) { return asked.wait == waiting::block; },
          run_between<zeromq_channel>};
}

}  // namespace bench

#else

namespace bench {
peer zeromq_peer() { return {"zeromq", "ZeroMQ ipc", "built without libzmq3-dev", {}, {}}; }
}  // namespace bench

#endif
