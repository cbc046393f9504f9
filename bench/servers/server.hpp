#pragma once
/// server: a program of another system, started for one measurement. It is ended in any case: with
/// the object, or by the kernel when this process dies.

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "processes.hpp"

namespace bench {

class server {
 public:
  using variables = std::vector<std::pair<std::string, std::string>>;

  /// Its output goes to the file `log`.
  server(const std::vector<std::string>& command, const std::string& log,
         const variables& environment = {});
  ~server();  // asks it to end, then kills it and all processes of its group
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  pid_t pid() const { return pid_; }
  bool ended();
  /// Waits until `ready` returns true; throws if the program ends first or the time is over.
  void wait_for(const std::string& what, double seconds_max, const std::function<bool()>& ready);
  /// Waits until the program ends by itself; true: without an error.
  bool ends_well(const std::string& what, double seconds_max);
  std::string last_words() const;

 private:
  std::string log_;
  pid_t pid_ = -1;
  bool ended_ = false;
  int status_ = -1;
};

/// Empty: not installed.
std::string find_program(const std::string& name, const std::vector<std::string>& more_places = {});
/// A loopback port on which no process listens now.
int free_port();
bool answers_on_port(int port);
bool answers_on_socket(const std::string& path);

}  // namespace bench
