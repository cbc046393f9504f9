#include "systems.hpp"

#include <fstream>

namespace bench {

namespace {

constexpr double start_s = 20, erlang_start_s = 60;
constexpr char rabbitmq_scripts[] = "/usr/lib/rabbitmq/bin";

std::string write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) fail_with_errno(path);
  return path;
}

std::vector<std::string> redis_command(const scratch_directory& here, const std::string& socket,
                                       const std::vector<std::string>& more_options) {
  std::vector<std::string> command = {find_program("redis-server"),
                                      "--port",
                                      "0",
                                      "--unixsocket",
                                      socket,
                                      "--save",
                                      "",
                                      "--dir",
                                      here / "",
                                      "--daemonize",
                                      "no"};
  command.insert(command.end(), more_options.begin(), more_options.end());
  return command;
}

std::string nats_configuration(const scratch_directory& here, int port,
                               const std::string& jetstream_options) {
  return write_file(here / "nats.conf", "listen: \"127.0.0.1:" + std::to_string(port) +
                                            "\"\njetstream {\n  store_dir: \"" + here / "store" +
                                            "\"\n" + jetstream_options + "}\n");
}

server::variables rabbitmq_environment(const scratch_directory& here, int port, int node_port,
                                       int mapper_port) {
  const std::string number = std::to_string(mapper_port);
  return {{"HOME", here / ""},
          {"ERL_EPMD_PORT", number},
          {"RABBITMQ_ALLOW_INPUT", "1"},  // the shell becomes the node
          {"RABBITMQ_CONF_ENV_FILE", write_file(here / "environment", "")},
          {"RABBITMQ_CONFIG_FILE",
           write_file(here / "node.conf",
                      "listeners.tcp.1 = 127.0.0.1:" + std::to_string(port) +
                          "\ndisk_free_limit.absolute = 50MB\nlog.console = false\n")},
          {"RABBITMQ_ENABLED_PLUGINS_FILE", write_file(here / "plugins", "[].\n")},
          {"RABBITMQ_MNESIA_BASE", here / "data"},
          {"RABBITMQ_LOG_BASE", here / "log"},
          {"RABBITMQ_PID_FILE", here / "pid"},
          {"RABBITMQ_NODENAME", "bench" + number + "@localhost"},
          {"RABBITMQ_NODE_PORT", std::to_string(port)},
          {"RABBITMQ_DIST_PORT", std::to_string(node_port)},
          {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
           "-kernel inet_dist_use_interface {127,0,0,1} -noinput"}};
}

}  // namespace

redis_server::redis_server(const std::vector<std::string>& more_options)
    : socket_(here_ / "redis.sock"),
      server_(redis_command(here_, socket_, more_options), here_ / "redis.log") {
  server_.wait_for("redis-server", start_s, [&] { return answers_on_socket(socket_); });
}

nats_server::nats_server(const std::string& jetstream_options)
    : port_(free_port()),
      server_(
          {find_program("nats-server"), "-c", nats_configuration(here_, port_, jetstream_options)},
          here_ / "nats.log") {
  server_.wait_for("nats-server", start_s, [&] { return answers_on_port(port_); });
}

std::string nats_server::complaint(const std::string& jetstream_options) {
  const scratch_directory here;
  server check({find_program("nats-server"), "-t", "-c",
                nats_configuration(here, free_port(), jetstream_options)},
               here / "nats.log");
  return check.ends_well("nats-server -t", start_s) ? "" : check.last_words();
}

rabbitmq_node::rabbitmq_node()
    : port_(free_port()),
      node_port_(free_port()),
      mapper_port_(free_port()),
      mapper_(
          {find_program("epmd"), "-port", std::to_string(mapper_port_), "-address", "127.0.0.1"},
          here_ / "epmd.log"),
      server_({find_program("rabbitmq-server", {rabbitmq_scripts})}, here_ / "node.log",
              rabbitmq_environment(here_, port_, node_port_, mapper_port_)) {
  server_.wait_for("rabbitmq-server", erlang_start_s, [&] { return answers_on_port(port_); });
}

std::string redis_absence() {
  return find_program("redis-server").empty() ? "redis-server is not installed" : "";
}

std::string nats_absence() {
  return find_program("nats-server").empty() ? "nats-server is not installed" : "";
}

std::string rabbitmq_absence() {
  if (find_program("rabbitmq-server", {rabbitmq_scripts}).empty())
    return "rabbitmq-server is not installed";
  return find_program("epmd").empty() ? "epmd of Erlang is not installed" : "";
}

}  // namespace bench
