#include "confirmed.hpp"
#include "server.hpp"

namespace bench {

namespace {
std::string redis_id(int connections) { return connections == 1 ? "redis" : "redis_" + std::to_string(connections); }
std::string redis_title(int connections) {
  return connections == 1 ? "Redis Streams" : "Redis Streams, " + std::to_string(connections) + " conn.";
}
std::string redis_how(int connections) {
  return "XADD, appendonly yes, appendfsync always, no AOF rewrites; Unix socket; pipelines of 256 on " +
         (connections == 1 ? "one connection" : std::to_string(connections) + " connections");
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_REDIS
#include <hiredis/hiredis.h>

namespace bench {

namespace {

constexpr int pipeline = 256;

class redis_connection {
 public:
  explicit redis_connection(const std::string& socket) : context_(redisConnectUnix(socket.c_str())) {
    if (context_ == nullptr) fail("redis: no memory");
    if (context_->err != 0) fail(std::string("redis: ") + context_->errstr);
  }
  ~redis_connection() { redisFree(context_); }
  redis_connection(const redis_connection&) = delete;
  redis_connection& operator=(const redis_connection&) = delete;

  void add(const std::string& payload) {
    if (redisAppendCommand(context_, "XADD bench * d %b", payload.data(), payload.size()) != REDIS_OK)
      fail(std::string("redis: ") + context_->errstr);
  }
  /// Sends what was added.
  void flush() {
    for (int done = 0; done == 0;)
      if (redisBufferWrite(context_, &done) != REDIS_OK) fail(std::string("redis: ") + context_->errstr);
  }
  void confirm() {
    void* got = nullptr;
    if (redisGetReply(context_, &got) != REDIS_OK) fail(std::string("redis: ") + context_->errstr);
    auto* reply = static_cast<redisReply*>(got);
    const std::string trouble = reply->type == REDIS_REPLY_ERROR ? reply->str : "";
    freeReplyObject(reply);
    if (!trouble.empty()) fail("redis: " + trouble);
  }

 private:
  redisContext* context_;
};

class redis_client {
 public:
  redis_client(const std::string& socket, int connections) {
    for (int i = 0; i < connections; ++i) connections_.push_back(std::make_unique<redis_connection>(socket));
  }

  void publish(const std::string& payload) {
    connections_[0]->add(payload);
    connections_[0]->confirm();
  }

  // Each connection gets its next pipeline as soon as its last one is confirmed, while the others' are on their way.
  std::uint64_t stream(const std::string& payload, bench_clock::time_point until) {
    const auto send = [&](redis_connection& to) {
      for (int i = 0; i < pipeline; ++i) to.add(payload);
      to.flush();
    };
    const auto confirm = [&](redis_connection& from) {
      for (int i = 0; i < pipeline; ++i) from.confirm();
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
  std::vector<std::unique_ptr<redis_connection>> connections_;
};

outcome run(const durable_question& asked, int connections) {
  const scratch_directory here;
  const std::string socket = here / "redis.sock";
  server redis({find_program("redis-server"), "--port", "0", "--unixsocket", socket, "--appendonly", "yes",
                "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--save", "", "--dir", here / "",
                "--daemonize", "no"},
               here / "redis.log");
  redis.wait_for("redis-server", 20, [&] { return answers_on_socket(socket); });
  return run_client(asked, [&] { return std::make_unique<redis_client>(socket, connections); });
}

}  // namespace

durable_peer redis_peer(int connections) {
  return {redis_id(connections), redis_title(connections), redis_how(connections),
          find_program("redis-server").empty() ? "redis-server is not installed" : "", 0,
          [connections](const durable_question& asked) { return guarded([&] { return run(asked, connections); }); }};
}

}  // namespace bench

#else

namespace bench {
durable_peer redis_peer(int connections) {
  return {redis_id(connections), redis_title(connections), redis_how(connections), "built without libhiredis-dev", 0,
          {}};
}
}  // namespace bench

#endif
