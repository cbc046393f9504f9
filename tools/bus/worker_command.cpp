#include "worker_command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "commands.hpp"

namespace tools {

namespace {

using clock = std::chrono::steady_clock;

// For the command to end without a signal, once this process is interrupted.
constexpr auto time_to_end = std::chrono::seconds(5);
constexpr auto time_to_stop = std::chrono::seconds(1);  // after SIGTERM
constexpr int look_ms = 100;
constexpr std::size_t last_line_bytes = 200;

class descriptor {
 public:
  explicit descriptor(int fd = -1) noexcept : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() { close(); }
  int get() const noexcept { return fd_; }
  bool is_open() const noexcept { return fd_ >= 0; }
  void close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void do_not_block() const noexcept { ::fcntl(fd_, F_SETFL, O_NONBLOCK); }

 private:
  int fd_;
};

bus::error failed(const char* what) {
  const int code = errno;
  return {bus::errc::system, code, what, std::strerror(code), ""};
}

// Collects the last non-empty line of text that arrives in pieces.
class last_line {
 public:
  void add(std::string_view text) {
    for (const char c : text) {
      if (c != '\n') {
        if (current_.size() < last_line_bytes) current_ += c;
      } else if (!current_.empty()) {
        last_ = std::exchange(current_, {});
      }
    }
  }
  const std::string& text() const noexcept { return current_.empty() ? last_ : current_; }

 private:
  std::string current_, last_;
};

std::vector<std::string> environment_of(const command_run& what) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string name(text.substr(0, text.find('=')));
    // Headers of another message must not remain.
    if (!what.environment.contains(name) && !name.starts_with("BUS_HEADER_"))
      all.emplace_back(text);
  }
  for (const auto& [name, value] : what.environment) all.push_back(name + "=" + value);
  return all;
}

class child {
 public:
  static bus::result<child> start(const command_run& what) {
    int in[2], err[2];
    if (::pipe2(in, O_CLOEXEC) != 0) return failed("cannot create a pipe");
    child made;
    const descriptor input(in[0]);
    made.input_ = descriptor(in[1]);
    if (::pipe2(err, O_CLOEXEC) != 0) return failed("cannot create a pipe");
    made.errors_ = descriptor(err[0]);
    const descriptor errors(err[1]);
    const auto environment = environment_of(what);
    std::vector<char*> entries;
    for (const auto& entry : environment) entries.push_back(const_cast<char*>(entry.c_str()));
    entries.push_back(nullptr);
    const pid_t parent = ::getpid();
    made.pid_ = ::fork();
    if (made.pid_ < 0) return failed("cannot start a process");
    if (made.pid_ == 0) {  // only calls that are safe between fork and exec
      // Ctrl-C is for this process only: the command may finish its message.
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (::getppid() != parent) ::_exit(127);
      std::signal(SIGPIPE, SIG_DFL);
      ::dup2(input.get(), STDIN_FILENO);
      if (what.output_to_errors) ::dup2(STDERR_FILENO, STDOUT_FILENO);
      ::dup2(errors.get(), STDERR_FILENO);
      const char* arguments[] = {"sh", "-c", what.command.c_str(), nullptr};
      ::execve("/bin/sh", const_cast<char* const*>(arguments), entries.data());
      ::_exit(127);
    }
    made.input_.do_not_block();
    made.errors_.do_not_block();
    made.end_ = descriptor(static_cast<int>(::syscall(SYS_pidfd_open, made.pid_, 0)));
    return made;
  }
  child(child&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)),
        input_(std::move(other.input_)),
        errors_(std::move(other.errors_)),
        end_(std::move(other.end_)) {}

  /// Waits briefly for an event.
  void wait(bool has_input) {
    pollfd waits[] = {{has_input ? input_.get() : -1, POLLOUT, 0},
                      {errors_.get(), POLLIN, 0},
                      {end_.get(), POLLIN, 0}};
    ::poll(waits, std::size(waits), end_.is_open() ? look_ms : 1);
  }
  /// Returns the rest of the input; empty when the command no longer reads it.
  std::string_view write(std::string_view input) {
    while (!input.empty()) {
      const ssize_t wrote = ::write(input_.get(), input.data(), input.size());
      if (wrote < 0 && errno == EAGAIN) return input;
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) break;  // EPIPE: the command does not read its input, and need not
      input.remove_prefix(static_cast<std::size_t>(wrote));
    }
    input_.close();
    return {};
  }
  void pass_errors_on(last_line& line) {
    std::array<char, 4096> piece{};
    while (errors_.is_open()) {
      const ssize_t got = ::read(errors_.get(), piece.data(), piece.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) return errors_.close();
      const std::string_view text(piece.data(), static_cast<std::size_t>(got));
      line.add(text);
      std::fwrite(text.data(), 1, text.size(), stderr);
    }
  }
  std::optional<int> status() {
    int how = 0;
    if (::waitpid(pid_, &how, WNOHANG) != pid_) return std::nullopt;
    return how;
  }
  void signal(int number) const { ::kill(-pid_, number); }

 private:
  child() = default;
  pid_t pid_ = -1;
  descriptor input_, errors_, end_;
};

}  // namespace

bus::result<command_outcome> run_command(const command_run& what) {
  auto started = child::start(what);
  if (!started) return std::move(started.error());
  command_outcome outcome;
  last_line line;
  std::string_view input = started->write(what.input);
  std::optional<clock::time_point> patience;
  for (std::optional<int> ended = started->status();; ended = started->status()) {
    started->pass_errors_on(line);
    if (ended) {
      if (WIFSIGNALED(*ended)) outcome.signal = WTERMSIG(*ended);
      outcome.status = WIFEXITED(*ended) ? WEXITSTATUS(*ended) : 0;
      break;
    }
    if (interrupted()) {
      if (!patience) patience = clock::now() + time_to_end;
      if (clock::now() >= *patience) {
        started->signal(outcome.interrupted ? SIGKILL : SIGTERM);
        outcome.interrupted = true;
        patience = clock::now() + time_to_stop;
      }
    }
    started->wait(!input.empty());
    if (!input.empty()) input = started->write(input);
  }
  // A signal to the whole process group or service, as from a service manager, is not the message's
  // fault.
  if (outcome.signal == SIGTERM || outcome.signal == SIGINT || outcome.signal == SIGHUP) {
    if (!interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(look_ms));
    outcome.interrupted = outcome.interrupted || interrupted();
  }
  outcome.last_error = line.text();
  return outcome;
}

}  // namespace tools
