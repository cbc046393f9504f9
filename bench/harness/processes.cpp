#include "processes.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <stdexcept>

namespace bench {

namespace {

volatile sig_atomic_t signal_seen = 0;

constexpr int watched[] = {SIGINT, SIGTERM, SIGHUP};

[[noreturn]] void run_part(const part& mine, board& shared, unsigned seconds_max, pid_t group) {
  setpgid(0, group);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const int number : watched) signal(number, SIG_DFL);
  alarm(seconds_max);
  // Processes that this part forks inherit it, unlike the alarm.
  const rlimit cpu{seconds_max, seconds_max};
  setrlimit(RLIMIT_CPU, &cpu);
  pin_to(mine.core);
  int status = 0;
  try {
    mine.work(shared);
  } catch (const std::exception& error) {
    std::snprintf(shared.failure, sizeof shared.failure, "%s", error.what());
    status = 1;
  }
  std::exit(status);  // not _exit: a library may have to disconnect from its daemon
}

}  // namespace

outcome run_parts(double seconds_max, const std::vector<part>& parts) {
  shared_value<board> shared;
  ticks_per_ns();  // measured here once, so that no part has to
  std::fflush(nullptr);
  pid_t group = 0;
  std::size_t running = 0;
  bool fine = true;
  for (const part& each : parts) {
    const pid_t child = fork();
    if (child == 0) run_part(each, *shared, static_cast<unsigned>(std::ceil(seconds_max)), group);
    if (child < 0) {
      fine = false;
      break;
    }
    if (group == 0) group = child;
    setpgid(child, group);
    ++running;
  }
  bool ended = false;
  std::string how;  // of the first part that a signal ended
  while (running > 0) {
    if (!ended && (!fine || interrupted())) {
      kill(-group, SIGKILL);
      ended = true;
    }
    int status = 0;
    const pid_t child = waitpid(-group, &status, 0);
    if (child < 0 && errno == EINTR) continue;
    if (child < 0) break;
    --running;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    if (!ended && how.empty() && WIFSIGNALED(status)) {
      const bool overran = WTERMSIG(status) == SIGALRM || WTERMSIG(status) == SIGXCPU;
      how = overran ? "took too long" : std::string("died of ") + strsignal(WTERMSIG(status));
    }
    fine = false;
  }
  if (group != 0) kill(-group, SIGKILL);  // processes that a part left running
  outcome result;
  if (!fine) {
    result.failure = interrupted()             ? "interrupted"
                     : shared->failure[0] != 0 ? shared->failure
                                               : how;
    if (result.failure.empty()) result.failure = "failed";
    return result;
  }
  result.p50_ns = shared->p50_ns;
  result.p99_ns = shared->p99_ns;
  result.messages_per_s = shared->messages_per_s;
  return result;
}

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { signal_seen = 1; };
  for (const int number : watched) sigaction(number, &action, nullptr);
}

bool interrupted() { return signal_seen != 0; }

scratch_directory::scratch_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "bench-peers-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) fail_with_errno("mkdtemp " + name);
  path_ = name;
}

scratch_directory::~scratch_directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void fail(const std::string& what_failed) { throw std::runtime_error(what_failed); }
void fail_with_errno(const std::string& what_failed) {
  fail(what_failed + ": " + std::strerror(errno));
}

}  // namespace bench
