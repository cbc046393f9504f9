#include "confirmed.hpp"
#include "systems.hpp"

namespace bench {

namespace {
std::string nats_id(bool synced) { return synced ? "jetstream_synced" : "jetstream"; }
std::string nats_title(bool synced) {
  return synced ? "NATS JetStream, sync always" : "NATS JetStream (not synced!)";
}
std::string nats_how(bool synced) {
  const std::string sync =
      synced ? "sync_interval always" : "default sync_interval of 2 min: confirmed, not synced";
  return "file store, one replica, " + sync +
         "; loopback TCP; 4096 asynchronous publishes in flight";
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_NATS
#include "nats_connection.hpp"

namespace bench {

namespace {

class nats_client {
 public:
  explicit nats_client(int port) : nats_(port) { nats_.add_stream("bench", js_FileStorage); }

  void publish(const std::string& payload) { nats_.publish("bench", payload); }

  std::uint64_t stream(const std::string& payload, bench_clock::time_point until) {
    std::uint64_t sent = 0;
    for (; bench_clock::now() < until; ++sent) nats_.send("bench", payload);
    nats_.confirm();
    return sent;
  }

 private:
  nats_connection nats_;
};

const char* sync_option(bool synced) { return synced ? "  sync_interval: always\n" : ""; }

outcome run(const durable_question& asked, bool synced) {
  const nats_server nats(sync_option(synced));
  return run_client(asked, [&] { return std::make_unique<nats_client>(nats.port()); });
}

std::string absence(bool synced) {
  if (const std::string none = nats_absence(); !none.empty() || !synced) return none;
  try {
    const std::string why = nats_server::complaint(sync_option(synced));
    if (!why.ends_with("unknown field \"sync_interval\"")) return why;
    return "this nats-server does not know the option sync_interval (2.10 does)";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

durable_peer jetstream_peer(bool synced) {
  return {nats_id(synced),
          nats_title(synced),
          nats_how(synced),
          absence(synced),
          0,
          [synced](const durable_question& asked) {
            return guarded([&] { return run(asked, synced); });
          }};
}

}  // namespace bench

#else

namespace bench {
durable_peer jetstream_peer(bool synced) {
  return {
      nats_id(synced), nats_title(synced), nats_how(synced), "built without libnats-dev", 0, {}};
}
}  // namespace bench

#endif
