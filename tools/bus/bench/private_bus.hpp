#pragma once
/// private_bus: a bus with a busd for one measurement, and the stream that is measured on it.

#include <bus/bus.hpp>

#include <optional>
#include <string>

#include "samples.hpp"

namespace bench {

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// A bus for this run only, the busd that keeps it, and a directory on the measured disk.
class private_bus {
 public:
  /// busd runs on `core`.
  private_bus(const std::string& directory, int core);
  ~private_bus();
  private_bus(const private_bus&) = delete;
  private_bus& operator=(const private_bus&) = delete;

  const std::optional<bus::error>& failure() const { return failure_; }
  bus::session& session() { return *session_; }
  std::string lane() const { return data + "/" + name + "/streams/bench/lane-0"; }

  std::string name = "bench-" + std::to_string(::getpid());
  std::string data;

 private:
  bus::result<bus::session> session_ = bus::error{};
  std::optional<bus::error> failure_;
  pid_t child_ = -1;
  bool keep_ = false;
};

/// The configuration of the stream `bench` for messages of that size.
bus::stream_config stream_of(std::uint32_t bytes,
                             bus::storage_class storage = bus::storage_class::durable);
/// The reason why a publish failed.
bus::error of(const bus::publisher& publisher, bus::publish_status status);

}  // namespace bench
