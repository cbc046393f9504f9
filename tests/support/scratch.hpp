#pragma once
/// scratch: a separate directory for each test, so that tests run in parallel and leave nothing
/// on disk.

#include <bus/bus.hpp>

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <new>
#include <string>
#include <thread>

namespace test {

/// A root for buses under /dev/shm (or `parent`); removed with everything in it.
class scratch {
 public:
  explicit scratch(const std::string& parent = "/dev/shm") {
    std::string pattern = parent + "/bus-test-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    root_ = pattern;
    owner_ = ::getpid();
  }
  ~scratch() {
    if (owner_ != ::getpid()) return;
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;

  const std::string& root() const { return root_; }
  std::string url(const std::string& name = "t", const std::string& more = "") const {
    return "bus:///" + name + "?root=" + root_ + more;
  }
  /// The directory of bus `name`.
  std::string directory(const std::string& name = "t") const {
    return root_ + "/bus-" + std::to_string(::geteuid()) + "." + name;
  }
  std::string stream(const std::string& stream, const std::string& name = "t") const {
    return directory(name) + "/streams/" + stream;
  }

 private:
  std::string root_;
  pid_t owner_;
};

/// A value shared between the test and its forked children.
template <class T>
class shared_value {
 public:
  shared_value() {
    void* at =
        ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) std::abort();
    value_ = new (at) T{};
  }
  ~shared_value() { ::munmap(value_, sizeof(T)); }
  shared_value(const shared_value&) = delete;
  shared_value& operator=(const shared_value&) = delete;
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

/// True: SIGKILL ended the process of this wait status.
inline bool was_killed(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; }

/// A forked process that runs `work` and exits with the result. It is killed and reaped by the
/// destructor at the latest, or killed when the thread that forked it exits.
class child {
 public:
  template <class Work>
  explicit child(Work&& work) {
    std::fflush(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that dies leaves no child running
    ::_exit(::getppid() == parent ? work() : 99);
  }
  ~child() {
    if (pid_ > 0) kill(), wait();
  }
  child(child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  child& operator=(child&&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  void kill() const { ::kill(pid_, SIGKILL); }
  /// Waits for the child to exit, reaps it and returns its wait status.
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }
  /// Waits for the child to exit. True: it exited by itself, with 0.
  bool succeeded() {
    const int status = wait();
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  pid_t pid_ = -1;
};

/// Waits until `true_now()`, for at most `patience`: for something that happens soon, at no
/// particular time.
template <class Condition>
bool eventually(Condition&& true_now,
                std::chrono::milliseconds patience = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!true_now()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

inline bus::stream_config small_stream(const std::string& name, bus::overflow overflow,
                                       std::uint64_t ring_bytes = 64 * 1024) {
  bus::stream_config config;
  config.name = name;
  config.subjects = {name + ".>", name};
  config.overflow = overflow;
  config.ring_bytes = ring_bytes;
  config.max_message_bytes = std::min<std::uint64_t>(8 * 1024, ring_bytes / 8);
  config.send_timeout = std::chrono::seconds(10);
  return config;
}

}  // namespace test
