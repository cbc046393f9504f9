#pragma once
/// systems: one server of another system each, in a directory of its own below TMPDIR, ready when
/// it is constructed. It ends, and its directory goes, with the object. What fails throws.

#include "server.hpp"

namespace bench {

/// On a Unix socket only; no snapshots.
class redis_server {
 public:
  explicit redis_server(const std::vector<std::string>& more_options);
  const std::string& socket() const { return socket_; }

 private:
  const scratch_directory here_;
  const std::string socket_;
  server server_;
};

/// On the loopback, with JetStream; its options are lines of its block in the configuration.
class nats_server {
 public:
  explicit nats_server(const std::string& jetstream_options = "");
  int port() const { return port_; }
  /// Empty: it takes them.
  static std::string complaint(const std::string& jetstream_options);

 private:
  const scratch_directory here_;
  const int port_;
  server server_;
};

/// A node of its own: name, ports, files, cookie, and the port mapper that Erlang would otherwise
/// leave behind.
class rabbitmq_node {
 public:
  rabbitmq_node();
  int port() const { return port_; }

 private:
  const scratch_directory here_;
  const int port_, node_port_, mapper_port_;
  const server mapper_;
  server server_;
};

/// Why there can be none here; empty: there can.
std::string redis_absence();
std::string nats_absence();
std::string rabbitmq_absence();

}  // namespace bench
