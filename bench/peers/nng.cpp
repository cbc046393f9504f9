#include "between.hpp"
#include "peers.hpp"

#if BENCH_HAS_NNG
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

namespace bench {

namespace {

// As in ZeroMQ, threads of the library move the bytes: both sides sleep.
class nng_end {
 public:
  nng_end(const std::string& address, bool near) {
    check(nng_pair0_open(&socket_), "open");
    check(nng_socket_set_size(socket_, NNG_OPT_RECVMAXSZ, 0), "set");
    check(nng_socket_set_int(socket_, NNG_OPT_SENDBUF, 128), "set");
    check(nng_socket_set_int(socket_, NNG_OPT_RECVBUF, 128), "set");
    check(nng_socket_set_ms(socket_, NNG_OPT_RECONNMINT, 10), "set");
    check(near ? nng_listen(socket_, address.c_str(), nullptr, 0)
               : nng_dial(socket_, address.c_str(), nullptr, NNG_FLAG_NONBLOCK),
          "connect");
  }
  ~nng_end() { nng_close(socket_); }
  nng_end(const nng_end&) = delete;
  nng_end& operator=(const nng_end&) = delete;

  void send(const char* payload, std::uint32_t bytes) {
    nng_msg* message = nullptr;
    check(nng_msg_alloc(&message, bytes), "allocate");
    std::memcpy(nng_msg_body(message), payload, bytes);
    check(nng_sendmsg(socket_, message, 0), "send");
  }

  std::uint64_t receive(std::uint64_t& sum) {
    nng_msg* message = nullptr;
    check(nng_recvmsg(socket_, &message, 0), "receive");
    sum += sum_of(nng_msg_body(message), nng_msg_len(message));
    nng_msg_free(message);
    return 1;
  }

 private:
  static void check(int status, const char* doing) {
    if (status != 0) fail(std::string("nng ") + doing + ": " + nng_strerror(status));
  }

  nng_socket socket_;
};

class nng_channel {
 public:
  explicit nng_channel(const plan&) {}
  nng_end open(bool near) { return {"ipc://" + (directory_ / "pair"), near}; }

 private:
  scratch_directory directory_;
};

}  // namespace

peer nng_peer() {
  return {"nng", "NNG ipc", "", [](const plan& asked) { return asked.wait == waiting::block; },
          run_between<nng_channel>};
}

}  // namespace bench

#else

namespace bench {
peer nng_peer() { return {"nng", "NNG ipc", "built without libnng-dev", {}, {}}; }
}  // namespace bench

#endif
