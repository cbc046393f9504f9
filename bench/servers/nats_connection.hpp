#pragma once
/// nats_connection: a connection with JetStream; publishes with many in flight. Throws on failure.

#include <nats/nats.h>

#include <atomic>

#include "processes.hpp"

namespace bench {

inline void nats_check(natsStatus status, const char* doing) {
  if (status == NATS_OK) return;
  const char* more = nats_GetLastError(nullptr);
  fail(std::string("nats ") + doing + ": " + natsStatus_GetText(status) +
       (more != nullptr ? ", " : "") + (more != nullptr ? more : ""));
}

class nats_connection {
 public:
  static constexpr int in_flight = 4096;
  static constexpr int patience_ms = 60'000;

  /// send_asap: each message is written at once; otherwise the client's own thread writes it up to
  /// a millisecond later.
  explicit nats_connection(int port, bool send_asap = false) {
    natsOptions* how = nullptr;
    nats_check(natsOptions_Create(&how), "options");
    natsStatus done = natsOptions_SetURL(how, ("nats://127.0.0.1:" + std::to_string(port)).c_str());
    if (done == NATS_OK) done = natsOptions_SetSendAsap(how, send_asap);
    if (done == NATS_OK) done = natsConnection_Connect(&connection_, how);
    natsOptions_Destroy(how);
    nats_check(done, "connect");
    jsOptions options;
    nats_check(jsOptions_Init(&options), "options");
    options.PublishAsync.MaxPending = in_flight;
    options.PublishAsync.StallWait = patience_ms;
    options.PublishAsync.ErrHandler = [](jsCtx*, jsPubAckErr*, void* failures) {
      static_cast<std::atomic<std::uint64_t>*>(failures)->fetch_add(1);
    };
    options.PublishAsync.ErrHandlerClosure = &failures_;
    nats_check(natsConnection_JetStream(&jetstream_, connection_, &options), "jetstream");
  }
  ~nats_connection() {
    jsCtx_Destroy(jetstream_);
    natsConnection_Destroy(connection_);
  }
  nats_connection(const nats_connection&) = delete;
  nats_connection& operator=(const nats_connection&) = delete;

  natsConnection* connection() { return connection_; }
  jsCtx* jetstream() { return jetstream_; }

  /// One replica. The stream's subject is its name.
  void add_stream(const char* name, jsStorageType storage) {
    jsStreamConfig config;
    nats_check(jsStreamConfig_Init(&config), "stream");
    const char* subjects[] = {name};
    config.Name = name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Storage = storage;
    nats_check(js_AddStream(nullptr, jetstream_, &config, nullptr, nullptr), "stream");
  }
  void publish(const char* subject, const std::string& payload) {
    nats_check(
        js_Publish(nullptr, jetstream_, subject, payload.data(), size(payload), nullptr, nullptr),
        "publish");
  }
  void send(const char* subject, const std::string& payload) {
    nats_check(js_PublishAsync(jetstream_, subject, payload.data(), size(payload), nullptr),
               "publish");
  }
  /// Waits until everything sent is confirmed.
  void confirm() {
    jsPubOptions options;
    nats_check(jsPubOptions_Init(&options), "options");
    options.MaxWait = patience_ms;
    nats_check(js_PublishAsyncComplete(jetstream_, &options), "confirms");
    if (failures_.load() != 0)
      fail("nats: " + std::to_string(failures_.load()) + " messages were not confirmed");
  }

 private:
  static int size(const std::string& payload) { return static_cast<int>(payload.size()); }

  natsConnection* connection_ = nullptr;
  jsCtx* jetstream_ = nullptr;
  std::atomic<std::uint64_t> failures_{0};
};

}  // namespace bench
