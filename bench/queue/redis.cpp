#include "drained.hpp"
#include "systems.hpp"

namespace bench {

namespace {
constexpr char redis_configuration[] =
    "Streams, XREADGROUP COUNT 1 or 64, XACK of all of them in one command and in one write with "
    "the next "
    "XREADGROUP; no persistence (save \"\", appendonly no); Unix socket";
std::string redis_id(bool one_core) { return one_core ? "redis_one_core" : "redis"; }
std::string redis_title(bool one_core) {
  return one_core ? "Redis Streams, one core" : "Redis Streams";
}
std::string redis_how(bool one_core) {
  return std::string(redis_configuration) +
         (one_core ? "; all on core 0" : "; left to the scheduler");
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_REDIS
#include "redis_connection.hpp"

namespace bench {

namespace {

struct redis_system {
  redis_server redis{{"--appendonly", "no"}};

  class filler {
   public:
    filler(const redis_system& system, const std::string& name)
        : redis_(system.redis.socket()), name_(name) {
      redis_.add("XGROUP CREATE %s workers $ MKSTREAM", name_.c_str());
      redis_.answer();
    }

    // Removes the messages of the last round first, so that the stream stays short.
    void fill(const std::string& payload, std::uint64_t count) {
      redis_.add("XTRIM %s MAXLEN 0", name_.c_str());
      redis_.answer();
      for (std::uint64_t sent = 0; sent < count;) {
        const std::uint64_t some = std::min(pipeline, count - sent);
        for (std::uint64_t i = 0; i < some; ++i)
          redis_.add("XADD %s * d %b", name_.c_str(), payload.data(), payload.size());
        for (std::uint64_t i = 0; i < some; ++i) redis_.answer();
        sent += some;
      }
    }

   private:
    static constexpr std::uint64_t pipeline = 256;

    redis_connection redis_;
    const std::string name_;
  };

  class worker {
   public:
    worker(const redis_system& system, const std::string& name, std::uint32_t batch)
        : redis_(system.redis.socket()),
          name_(name),
          self_("worker" + std::to_string(::getpid())),
          count_(std::to_string(batch)),
          read_{"XREADGROUP", "GROUP",       "workers", self_.c_str(), "COUNT", count_.c_str(),
                "STREAMS",    name_.c_str(), ">"} {}

    // Acknowledges what the last call read while it reads the next messages.
    std::uint64_t take(std::uint64_t& sum) {
      std::uint64_t settled = 0;
      if (claimed_) {
        const redisReply* messages = claimed_->element[0]->element[1];
        acknowledge_ = {"XACK", name_.c_str(), "workers"};
        for (std::size_t i = 0; i < messages->elements; ++i)
          acknowledge_.push_back(messages->element[i]->element[0]->str);
        redis_.add(acknowledge_);
      }
      redis_.add(read_);
      if (claimed_) settled = static_cast<std::uint64_t>(redis_.answer()->integer);
      claimed_ = redis_.answer();
      if (claimed_->type != REDIS_REPLY_ARRAY) claimed_.reset();  // no message waits
      if (!claimed_) return settled;
      const redisReply* messages = claimed_->element[0]->element[1];
      for (std::size_t i = 0; i < messages->elements; ++i) {
        const redisReply* payload = messages->element[i]->element[1]->element[1];
        sum += detail::sum_of_bytes(payload->str, payload->len);
      }
      return settled;
    }
    void finish() {}  // the answers to all acknowledgements have been read

   private:
    redis_connection redis_;
    const std::string name_, self_, count_;
    const std::vector<const char*> read_;
    std::vector<const char*> acknowledge_;
    redis_reply claimed_;  // not acknowledged yet
  };
};

}  // namespace

queue_peer redis_queue(bool one_core) {
  return {
      redis_id(one_core), redis_title(one_core), redis_how(one_core), redis_absence(),
      [one_core](const queue_question& asked) { return run_queue<redis_system>(asked, one_core); }};
}

}  // namespace bench

#else

namespace bench {
queue_peer redis_queue(bool one_core) {
  return {redis_id(one_core),
          redis_title(one_core),
          redis_how(one_core),
          "built without libhiredis-dev",
          {}};
}
}  // namespace bench

#endif
