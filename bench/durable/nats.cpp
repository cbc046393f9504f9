#include "confirmed.hpp"
#include "server.hpp"

#include <fstream>

namespace bench {

namespace {
std::string nats_id(bool synced) { return synced ? "jetstream_synced" : "jetstream"; }
std::string nats_title(bool synced) {
  return synced ? "NATS JetStream, sync always" : "NATS JetStream (not synced!)";
}
std::string nats_how(bool synced) {
  const std::string sync = synced ? "sync_interval always" : "default sync_interval of 2 min: confirmed, not synced";
  return "file store, one replica, " + sync + "; loopback TCP; 4096 asynchronous publishes in flight";
}
}  // namespace

}  // namespace bench

#if BENCH_HAS_NATS
#include <nats/nats.h>

namespace bench {

namespace {

constexpr int in_flight = 4096;
constexpr int patience_ms = 60'000;

void check(natsStatus status, const char* doing) {
  if (status != NATS_OK) fail(std::string("nats ") + doing + ": " + natsStatus_GetText(status));
}

void count_failure(jsCtx*, jsPubAckErr*, void* failures) {
  static_cast<std::atomic<std::uint64_t>*>(failures)->fetch_add(1);
}

class nats_client {
 public:
  explicit nats_client(int port) {
    check(natsConnection_ConnectTo(&connection_, ("nats://127.0.0.1:" + std::to_string(port)).c_str()), "connect");
    jsOptions options;
    check(jsOptions_Init(&options), "options");
    options.PublishAsync.MaxPending = in_flight;
    options.PublishAsync.StallWait = patience_ms;
    options.PublishAsync.ErrHandler = count_failure;
    options.PublishAsync.ErrHandlerClosure = &failures_;
    check(natsConnection_JetStream(&stream_, connection_, &options), "jetstream");
    jsStreamConfig config;
    check(jsStreamConfig_Init(&config), "stream");
    const char* subjects[] = {"bench"};
    config.Name = "bench";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = js_FileStorage;
    check(js_AddStream(nullptr, stream_, &config, nullptr, nullptr), "stream");
  }
  ~nats_client() {
    jsCtx_Destroy(stream_);
    natsConnection_Destroy(connection_);
  }
  nats_client(const nats_client&) = delete;
  nats_client& operator=(const nats_client&) = delete;

  void publish(const std::string& payload) {
    check(js_Publish(nullptr, stream_, "bench", payload.data(), static_cast<int>(payload.size()), nullptr, nullptr),
          "publish");
  }

  std::uint64_t stream(const std::string& payload, bench_clock::time_point until) {
    std::uint64_t sent = 0;
    for (; bench_clock::now() < until; ++sent)
      check(js_PublishAsync(stream_, "bench", payload.data(), static_cast<int>(payload.size()), nullptr), "publish");
    jsPubOptions options;
    check(jsPubOptions_Init(&options), "options");
    options.MaxWait = patience_ms;
    check(js_PublishAsyncComplete(stream_, &options), "confirms");
    if (failures_.load() != 0) fail("nats: " + std::to_string(failures_.load()) + " messages were not confirmed");
    return sent;
  }

 private:
  natsConnection* connection_ = nullptr;
  jsCtx* stream_ = nullptr;
  std::atomic<std::uint64_t> failures_{0};
};

void write_configuration(const std::string& path, const std::string& directory, int port, bool synced) {
  std::ofstream file(path);
  file << "listen: \"127.0.0.1:" << port << "\"\njetstream {\n  store_dir: \"" << directory << "\"\n"
       << (synced ? "  sync_interval: always\n" : "") << "}\n";
  if (!file.flush()) fail_with_errno(path);
}

outcome run(const durable_question& asked, bool synced) {
  const scratch_directory here;
  const int port = free_port();
  write_configuration(here / "nats.conf", here / "store", port, synced);
  server nats({find_program("nats-server"), "-c", here / "nats.conf"}, here / "nats.log");
  nats.wait_for("nats-server", 20, [&] { return answers_on_port(port); });
  return run_client(asked, [&] { return std::make_unique<nats_client>(port); });
}

std::string absence(bool synced) {
  const std::string program = find_program("nats-server");
  if (program.empty()) return "nats-server is not installed";
  if (!synced) return {};
  try {
    const scratch_directory here;
    write_configuration(here / "nats.conf", here / "store", free_port(), synced);
    server check({program, "-t", "-c", here / "nats.conf"}, here / "nats.log");
    if (check.ends_well("nats-server -t", 20)) return {};
    const std::string why = check.last_words();
    if (!why.ends_with("unknown field \"sync_interval\"")) return why;
    return "this nats-server does not know the option sync_interval (2.10 does)";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

durable_peer jetstream_peer(bool synced) {
  return {nats_id(synced), nats_title(synced), nats_how(synced), absence(synced), 0,
          [synced](const durable_question& asked) { return guarded([&] { return run(asked, synced); }); }};
}

}  // namespace bench

#else

namespace bench {
durable_peer jetstream_peer(bool synced) {
  return {nats_id(synced), nats_title(synced), nats_how(synced), "built without libnats-dev", 0, {}};
}
}  // namespace bench

#endif
