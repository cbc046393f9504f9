#pragma once
/// example: code that all examples share: errors as exceptions, a private bus for each run, child
/// processes.

#include <bus/bus.hpp>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace example {

/// Returns the value, or throws the error text. The library itself does not throw: its results
/// carry errors.
template <class T>
T must(bus::result<T> made) {
  if (!made) throw std::runtime_error(made.error().message());
  return std::move(*made);
}
inline void must(bus::result<void> done) {
  if (!done) throw std::runtime_error(done.error().message());
}

/// Publishing returns a small status; last_error() has the text for people.
inline void must(bus::published done, const bus::publisher& by) {
  if (!done) throw std::runtime_error(by.last_error().message());
}

/// A lease may have ended before it is settled: another worker has the message then, and this one
/// has nothing more to do.
inline void note(bus::settle_result outcome) {
  if (outcome != bus::settle_result::ok)
    std::fprintf(stderr, "not settled here: %s\n", bus::settle_result_name(outcome));
}

/// Checks a promise of the example. If it does not hold, the example ends with status 1.
inline void expect(bool holds, const std::string& promise) {
  if (!holds) throw std::runtime_error("expectation failed: " + promise);
}

/// Waits until `true_now()` holds, at most 20 seconds; else throws.
template <class Condition>
void wait_until(Condition&& true_now, const char* what) {
  for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20); !true_now();
       std::this_thread::sleep_for(std::chrono::milliseconds(1)))
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error(std::string(what) + ": not within 20 seconds");
}

/// True when a subscriber of that name reads the bus. Any process can query what `bus ps` shows.
inline bool is_subscribed(const bus::session& session, std::string_view name) {
  for (const auto& process : must(session.processes()))
    for (const auto& reader : process.readers)
      if (reader.name.starts_with(name)) return true;
  return false;
}

/// Names a bus for this run alone, and removes it at the end. A program that joins a bus which
/// others use as well calls bus::open(), or bus::open("trading"). BUS_ROOT is the directory of all
/// buses, /dev/shm by default.
class bus_of_this_run {
 public:
  explicit bus_of_this_run(const std::string& program)
      : name_(program + "-" + std::to_string(::getpid())), owner_(::getpid()) {}
  bus_of_this_run(const bus_of_this_run&) = delete;
  bus_of_this_run& operator=(const bus_of_this_run&) = delete;
  ~bus_of_this_run() {
    if (::getpid() == owner_) static_cast<void>(bus::remove_bus(name_, true));
  }

  const std::string& name() const { return name_; }

 private:
  std::string name_;
  pid_t owner_;
};

/// A forked process that runs `work`. It opens its own session: handles are not valid across
/// fork(). It dies with its parent.
class process {
 public:
  template <class Work>
  explicit process(Work&& work) {
    std::fflush(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("cannot fork");
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);  // the parent died before the prctl()
    int status = 1;
    try {
      work();
      status = 0;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s\n", e.what());
    }
    std::fflush(nullptr);
    ::_exit(status);
  }
  process(const process&) = delete;
  process& operator=(const process&) = delete;
  ~process() { kill(); }

  /// True when the process has ended. Does not wait.
  bool ended() { return pid_ <= 0 || reap(WNOHANG); }
  /// Kills the process at once (kill -9) and waits for its end.
  void kill() {
    send(SIGKILL);
    if (pid_ > 0) reap(0);
  }
  /// Sends SIGTERM and waits for the end of the process. Throws unless it exited with status 0, or
  /// the signal killed it before it handled SIGTERM.
  void end(const char* who) {
    send(SIGTERM);
    if (pid_ > 0) reap(0);
    if (!WIFSIGNALED(status_) || WTERMSIG(status_) != SIGTERM) join(who);
  }
  void send(int signal) {
    if (pid_ > 0) ::kill(pid_, signal);
  }
  /// Waits until the process is stopped, as by SIGSTOP.
  void wait_stopped(const char* who) {
    int status = 0;
    while (::waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {
    }
    if (WIFSTOPPED(status)) return;
    pid_ = -1;
    throw std::runtime_error(std::string("the ") + who + " ended");
  }
  /// Waits for the end of the process. Throws unless it exited with status 0.
  void join(const char* who) {
    if (pid_ > 0) reap(0);
    if (!WIFEXITED(status_) || WEXITSTATUS(status_) != 0)
      throw std::runtime_error(std::string("the ") + who + " failed");
  }

 private:
  bool reap(int how) {
    pid_t got = 0;
    while ((got = ::waitpid(pid_, &status_, how)) < 0 && errno == EINTR) {
    }
    if (got == 0) return false;
    pid_ = -1;
    return true;
  }

  pid_t pid_ = -1;
  int status_ = 0;
};

/// From now on SIGTERM ends the waits and loops of `worker`. It finishes its current message first.
inline void stop_on_sigterm(bus::consumer& worker) {
  static bus::consumer* stopped_by_signal = nullptr;
  stopped_by_signal = &worker;
  struct sigaction action {};
  action.sa_handler = [](int) { stopped_by_signal->stop(); };
  ::sigaction(SIGTERM, &action, nullptr);
}

/// The main() of every example: prints an exception, and returns the exit status.
template <class Work>
int run(Work&& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

}  // namespace example
