#pragma once
/// systems: one server of another system each, in its own directory below TMPDIR, ready when
/// constructed. The destructor ends it and removes the directory. Throws on failure.

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

/// On the loopback, with JetStream; `jetstream_options` are lines of its block in the
/// configuration.
class nats_server {
 public:
  explicit nats_server(const std::string& jetstream_options = "");
  int port() const { return port_; }
  /// Why the server rejects the options; empty: it accepts them.
  static std::string complaint(const std::string& jetstream_options);

 private:
  const scratch_directory here_;
  const int port_;
  server server_;
};

/// A separate node: name, ports, files and cookie, and the port mapper, which Erlang would
/// otherwise leave running.
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

/// Why the system is not available here; empty: it is.
std::string redis_absence();
std::string nats_absence();
std::string rabbitmq_absence();

}  // namespace bench
