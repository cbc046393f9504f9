#include "os/process.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "os/fd.hpp"

namespace bus::os {

namespace {

struct task_facts {
  char state = 0;
  std::uint64_t flags = 0;
  std::uint64_t threads = 0;
  std::uint64_t start_time = 0;
};

constexpr std::uint64_t pf_exiting = 0x4;  // include/linux/sched.h

// "pid (name) state ppid ... flags(9) ... threads(20) ... starttime(22)"; the name may hold any
// character, so the last ')' ends it. `gone` only when the kernel reports that no such task exists:
// running out of descriptors proves nothing.
enum class look : std::uint8_t { seen, gone, unknown };

look read_stat(const char* path, task_facts& facts) noexcept {
  const auto failed = [] { return errno == ENOENT || errno == ESRCH ? look::gone : look::unknown; };
  const fd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return failed();
  char text[1024];
  const auto got = ::read(file.get(), text, sizeof text - 1);
  const look outcome = got < 0 ? failed() : look::seen;
  if (got <= 0) return outcome == look::gone ? look::gone : look::unknown;
  text[got] = '\0';
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] == '\0') return look::unknown;
  facts.state = at[2];
  at += 2;
  for (int field = 3; field < 22 && at != nullptr; ++field) {
    if (field == 9) facts.flags = std::strtoull(at, nullptr, 10);
    if (field == 20) facts.threads = std::strtoull(at, nullptr, 10);
    at = std::strchr(at, ' ');
    if (at != nullptr) ++at;
  }
  if (at == nullptr) return look::unknown;
  facts.start_time = std::strtoull(at, nullptr, 10);
  return look::seen;
}

bool leaving(const task_facts& task) noexcept {
  return task.state == 'Z' || task.state == 'X' || (task.flags & pf_exiting) != 0;
}

}  // namespace

identity self() {
  identity me;
  me.pid = ::getpid();
  task_facts facts;
  if (read_stat("/proc/self/stat", facts) == look::seen) me.start_time = facts.start_time;
  struct stat ns {};
  if (::stat("/proc/thread-self/ns/pid", &ns) == 0) me.namespaces = ns.st_ino;
  // The kernel reports start times in the reader's time namespace: only within one do they compare.
  if (::stat("/proc/thread-self/ns/time", &ns) == 0)
    me.namespaces ^= std::uint64_t{ns.st_ino} << 32;
  me.program = program_invocation_short_name;
  return me;
}

std::int64_t thread_id() noexcept {
  thread_local std::int64_t id = 0;
  if (id == 0) id = ::syscall(SYS_gettid);
  return id;
}

bool all_threads_exiting(std::int64_t pid, std::uint64_t start_time) noexcept {
  const std::string base = "/proc/" + std::to_string(pid);
  task_facts leader;
  const look found = read_stat((base + "/stat").c_str(), leader);
  if (found != look::seen) return found == look::gone;
  if (leader.start_time != start_time) return true;
  fd file(::open((base + "/task").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* tasks = file ? ::fdopendir(file.get()) : nullptr;
  if (tasks == nullptr) return errno == ENOENT || errno == ESRCH;
  (void)file.release();
  // A listing ends early when the thread that it has reached is reaped meanwhile: the absence of a
  // thread from it proves nothing.
  std::uint64_t listed = 0;
  bool all = true;
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] == '.') continue;
    ++listed;
    task_facts task;
    const look seen = read_stat((base + "/task/" + entry->d_name + "/stat").c_str(), task);
    if (seen == look::unknown || (seen == look::seen && !leaving(task))) {
      all = false;
      break;
    }
  }
  ::closedir(tasks);
  return all && listed >= leader.threads;
}

bool thread_has_ended(std::int64_t pid, std::int64_t thread) noexcept {
  return ::syscall(SYS_tgkill, static_cast<pid_t>(pid), static_cast<pid_t>(thread), 0) != 0 &&
         errno == ESRCH;
}

// The kernel frees a process's memory after its last thread has left it; from then on `exe` has no
// target. `task` has one entry besides . and ..: the first thread, a zombie.
bool has_no_memory(std::int64_t pid) noexcept {
  if (::kill(static_cast<pid_t>(pid), 0) != 0) return errno == ESRCH;
  const std::string base = "/proc/" + std::to_string(pid);
  struct stat tasks {};
  char program[8];
  return ::stat((base + "/task").c_str(), &tasks) == 0 && tasks.st_nlink == 3 &&
         ::readlink((base + "/exe").c_str(), program, sizeof program) < 0 && errno == ENOENT;
}

bool has_one_thread(std::int64_t pid) noexcept {
  task_facts leader;
  return read_stat(("/proc/" + std::to_string(pid) + "/stat").c_str(), leader) == look::seen &&
         leader.threads == 1;
}

bool is_stopped(std::int64_t pid, std::uint64_t start_time) noexcept {
  task_facts facts;
  if (read_stat(("/proc/" + std::to_string(pid) + "/stat").c_str(), facts) != look::seen)
    return false;
  return facts.start_time == start_time && (facts.state == 'T' || facts.state == 't');
}

}  // namespace bus::os
