#include "drained.hpp"
#include "systems.hpp"

namespace bench {

namespace {
constexpr char nats_configuration[] =
    "memory store, one replica, pull consumer in memory, explicit acks (not waited for, each "
    "written at once), fetch "
    "of 1 or 64; loopback TCP";
std::string nats_id(bool one_core) { return one_core ? "jetstream_one_core" : "jetstream"; }
std::string nats_title(bool one_core) {
  return one_core ? "NATS JetStream, one core" : "NATS JetStream";
}
std::string nats_how(bool one_core) {
  return std::string(nats_configuration) +
         (one_core ? "; all on core 0" : "; left to the scheduler");
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_NATS
#include "nats_connection.hpp"

namespace bench {

namespace {

constexpr char workers[] = "workers";

struct nats_system {
  nats_server nats;

  class filler {
   public:
    filler(const nats_system& system, const std::string& name)
        : nats_(system.nats.port()), name_(name) {
      nats_.add_stream(name_.c_str(), js_MemoryStorage);
      jsConsumerConfig config;
      nats_check(jsConsumerConfig_Init(&config), "consumer");
      config.Durable = workers;
      config.AckPolicy = js_AckExplicit;
      // acknowledgements are processed later: never a limit
      config.MaxAckPending = static_cast<int64_t>(detail::waiting_max);
      config.MemoryStorage = true;
      nats_check(
          js_AddConsumer(nullptr, nats_.jetstream(), name_.c_str(), &config, nullptr, nullptr),
          "consumer");
    }

    // Removes the messages of the last round first.
    void fill(const std::string& payload, std::uint64_t count) {
      all_settled();
      nats_check(js_PurgeStream(nats_.jetstream(), name_.c_str(), nullptr, nullptr), "purge");
      for (std::uint64_t i = 0; i < count; ++i) nats_.send(name_.c_str(), payload);
      nats_.confirm();
    }

   private:
    void all_settled() {
      for (const auto until = from_now(10);; ::usleep(1000)) {
        jsConsumerInfo* info = nullptr;
        nats_check(
            js_GetConsumerInfo(&info, nats_.jetstream(), name_.c_str(), workers, nullptr, nullptr),
            "consumer");
        const bool none = info->NumAckPending == 0;
        jsConsumerInfo_Destroy(info);
        if (none) return;
        if (bench_clock::now() > until) fail("nats: acknowledgements were lost");
      }
    }

    nats_connection nats_;
    const std::string name_;
  };

  class worker {
   public:
    worker(const nats_system& system, const std::string& name, std::uint32_t batch)
        : nats_(system.nats.port(), true) {
      jsSubOptions options;
      nats_check(jsSubOptions_Init(&options), "subscribe");
      options.Stream = name.c_str();
      options.Consumer = workers;
      options.Config.MemoryStorage = true;  // must match the consumer's
      nats_check(js_PullSubscribe(&in_, nats_.jetstream(), name.c_str(), workers, nullptr, &options,
                                  nullptr),
                 "subscribe");
      nats_check(jsFetchRequest_Init(&request_), "fetch");
      request_.Batch = static_cast<int>(batch);
      // 10 ms. Requests that do not wait pile up in nats-server 2.9 ("Exceeded MaxWaiting").
      request_.Expires = 10'000'000;
    }
    ~worker() { natsSubscription_Destroy(in_); }
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;

    std::uint64_t take(std::uint64_t& sum) {
      natsMsgList got{};
      const natsStatus status = natsSubscription_FetchRequest(&got, in_, &request_);
      if (status == NATS_NOT_FOUND || status == NATS_TIMEOUT) return 0;
      nats_check(status, "fetch");
      const auto settled = static_cast<std::uint64_t>(got.Count);
      natsStatus acknowledged = NATS_OK;
      for (int i = 0; i < got.Count; ++i) {
        natsMsg* one = got.Msgs[i];
        sum += detail::sum_of_bytes(natsMsg_GetData(one),
                                    static_cast<std::size_t>(natsMsg_GetDataLength(one)));
        if (acknowledged == NATS_OK) acknowledged = natsMsg_Ack(one, nullptr);
      }
      natsMsgList_Destroy(&got);
      nats_check(acknowledged, "ack");
      return settled;
    }
    // the server answers after it has received the acks
    void finish() { nats_check(natsConnection_Flush(nats_.connection()), "flush"); }

   private:
    nats_connection nats_;
    natsSubscription* in_ = nullptr;
    jsFetchRequest request_{};
  };
};

}  // namespace

queue_peer nats_queue(bool one_core) {
  return {
      nats_id(one_core), nats_title(one_core), nats_how(one_core), nats_absence(),
      [one_core](const queue_question& asked) { return run_queue<nats_system>(asked, one_core); }};
}

}  // namespace bench

#else

namespace bench {
queue_peer nats_queue(bool one_core) {
  return {
      nats_id(one_core), nats_title(one_core), nats_how(one_core), "built without libnats-dev", {}};
}
}  // namespace bench

#endif
