#pragma once
/// busd_process: a real busd that is started, killed and restarted, on the test's own bus root
/// and data directory.

#include <bus/bus.hpp>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "scratch.hpp"

namespace test {

/// A directory on a real disk, where a sync has its real cost.
inline std::string disk_directory() {
  const char* chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != 0 ? chosen : "/tmp";
}

class busd_process {
 public:
  busd_process(std::string root, std::string data, std::vector<std::string> options = {},
               std::string bus = "t")
      : root_(std::move(root)),
        data_(std::move(data)),
        bus_(std::move(bus)),
        options_(std::move(options)) {}
  ~busd_process() { kill(); }
  busd_process(const busd_process&) = delete;
  busd_process& operator=(const busd_process&) = delete;

  /// Only starts it: it may still be recovering when this returns. It is killed when the calling
  /// thread ends.
  void start() {
    const pid_t parent = ::getpid();
    std::vector<std::string> words = {BUSD_PROGRAM, "--bus", bus_, "--data", data_};
    words.insert(words.end(), options_.begin(), options_.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const std::string log = log_path();
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that dies leaves no busd running
    if (::getppid() != parent) ::_exit(99);
    ::setenv("BUS_ROOT", root_.c_str(), 1);
    const int to = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (to >= 0) ::dup2(to, 2), ::dup2(to, 1);
    ::sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execv(BUSD_PROGRAM, arguments.data());
    ::_exit(98);
  }

  /// Waits until its socket takes connections: then it keeps its streams. False: it ended, or
  /// hangs.
  bool wait_ready(std::chrono::milliseconds patience = std::chrono::seconds(60)) {
    bool ended = false;
    const bool answered = eventually(
        [&] {
          if (answers()) return true;
          int status = 0;
          ended = pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG) == pid_;
          if (ended) status_ = status, pid_ = -1;
          return ended;
        },
        patience);
    return answered && !ended;
  }
  bool start_and_wait() {
    start();
    return wait_ready();
  }

  bool answers() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path =
        root_ + "/bus-" + std::to_string(::geteuid()) + "." + bus_ + "/busd.sock";
    if (path.size() >= sizeof address.sun_path) return false;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    const int to = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool yes =
        to >= 0 && ::connect(to, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    if (to >= 0) ::close(to);
    return yes;
  }

  /// After SIGSTOP returns only when all its threads have stopped; the signal reaches them one by
  /// one.
  void signal(int number) const {
    if (pid_ <= 0) return;
    ::kill(pid_, number);
    if (number != SIGSTOP) return;
    siginfo_t info{};
    for (int tries = 0; tries < 20'000 && info.si_pid == 0; ++tries) {
      if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WNOHANG) != 0) return;
      if (info.si_pid == 0) ::usleep(100);
    }
  }
  /// kill -9. False: it was dead already.
  bool kill() {
    if (pid_ <= 0) return false;
    ::kill(pid_, SIGKILL);
    wait();
    return was_killed(status_);
  }
  /// Returns the wait status.
  int wait() {
    while (pid_ > 0 && ::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status_;
  }
  /// Returns the exit status after SIGTERM; -1: it ended otherwise.
  int terminate() {
    signal(SIGTERM);
    wait();
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : -1;
  }
  pid_t pid() const { return pid_; }
  const std::string& data() const { return data_; }
  std::string log_path() const { return root_ + "/busd." + bus_ + ".log"; }
  std::string log_text() const {
    std::ifstream file(log_path());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  /// For people, when something failed.
  std::string log_tail(std::size_t bytes = 3000) const {
    const std::string text = log_text();
    return text.size() <= bytes ? text : "..." + text.substr(text.size() - bytes);
  }

 private:
  std::string root_, data_, bus_;
  std::vector<std::string> options_;
  pid_t pid_ = -1;
  int status_ = 0;
};

inline bus::stream_config logged_stream(const std::string& name, bus::storage_class storage,
                                        std::uint64_t ring_bytes = 256 * 1024) {
  bus::stream_config config = small_stream(name, bus::overflow::block, ring_bytes);
  config.storage = storage;
  config.segment_bytes = 4u << 20;
  config.send_timeout = std::chrono::seconds(60);
  return config;
}

}  // namespace test
