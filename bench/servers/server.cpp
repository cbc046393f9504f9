#include "server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <fstream>
#include <sstream>

namespace bench {

namespace {

using clock = std::chrono::steady_clock;

constexpr double grace_s = 10;
constexpr std::size_t last_words_max = 160;

double seconds_since(clock::time_point begin) {
  return std::chrono::duration<double>(clock::now() - begin).count();
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

template <class Address>
bool connects(const Address& address, int family) {
  const int socket = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool done =
      ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(socket);
  return done;
}

}  // namespace

server::server(const std::vector<std::string>& command, const std::string& log,
               const variables& environment)
    : log_(log) {
  std::vector<char*> arguments;
  for (const std::string& each : command) arguments.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) fail_with_errno("fork");
  if (pid_ > 0) {
    ::setpgid(pid_, pid_);
    return;
  }
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(126);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_DFL);
  for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
  const int in = ::open("/dev/null", O_RDONLY),
            out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(out, 2);
  ::execvp(arguments[0], arguments.data());
  ::dprintf(2, "cannot be started: %s\n", std::strerror(errno));
  ::_exit(127);
}

server::~server() {
  if (!ended()) {
    ::kill(-pid_, SIGTERM);
    for (const auto begin = clock::now(); !ended() && seconds_since(begin) < grace_s;)
      ::usleep(10'000);
  }
  ::kill(-pid_, SIGKILL);
  while (!ended()) ::usleep(1000);
}

bool server::ended() {
  if (!ended_ && ::waitpid(pid_, &status_, WNOHANG) == pid_) ended_ = true;
  return ended_;
}

void server::wait_for(const std::string& what, double seconds_max,
                      const std::function<bool()>& ready) {
  const auto begin = clock::now();
  while (!ready()) {
    if (interrupted()) fail("interrupted");
    if (ended()) fail(what + " ended: " + last_words());
    if (seconds_since(begin) > seconds_max) fail(what + " does not answer: " + last_words());
    ::usleep(20'000);
  }
}

bool server::ends_well(const std::string& what, double seconds_max) {
  for (const auto begin = clock::now(); !ended(); ::usleep(5000)) {
    if (interrupted()) fail("interrupted");
    if (seconds_since(begin) > seconds_max) fail(what + " does not end: " + last_words());
  }
  return status_ == 0;
}

std::string server::last_words() const {
  std::ifstream file(log_);
  std::string last;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) last = line;
  return last.empty() ? "it said nothing" : last.substr(0, last_words_max);
}

std::string find_program(const std::string& name, const std::vector<std::string>& more_places) {
  std::vector<std::string> places = more_places;
  std::istringstream path(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "");
  for (std::string place; std::getline(path, place, ':');) places.push_back(place);
  for (const char* place : {"/usr/local/sbin", "/usr/sbin", "/usr/bin"}) places.emplace_back(place);
  for (const std::string& place : places)
    if (const std::string program = place + "/" + name; ::access(program.c_str(), X_OK) == 0)
      return program;
  return {};
}

int free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  const bool done = ::bind(socket, reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
                    ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  ::close(socket);
  if (!done) fail_with_errno("a free port");
  return ntohs(address.sin_port);
}

bool answers_on_port(int port) { return connects(loopback(port), AF_INET); }

bool answers_on_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail(path + ": too long for a socket's name");
  path.copy(address.sun_path, path.size());
  return connects(address, AF_UNIX);
}

}  // namespace bench
