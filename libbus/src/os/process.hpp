#pragma once
/// process: who we are, and what the kernel says of another process. For people, and for one proof:
/// that no thread of a process that is known to be dying can store any more.

#include <cstdint>
#include <string>

namespace bus::os {

struct identity {
  std::int64_t pid = 0;
  std::uint64_t start_time = 0;  // clock ticks after boot
  std::uint64_t namespaces = 0;  // inodes of its pid and time namespaces, in one word
  std::string program;
};
identity self();
std::int64_t thread_id() noexcept;

/// True when no thread of {pid, start_time} runs user code any more: all have entered exit, or the
/// process is gone. Only meaningful within the caller's pid namespace.
bool all_threads_exiting(std::int64_t pid, std::uint64_t start_time) noexcept;
/// Exactly one thread, and it is not known to be leaving.
/// No thread of that number is in that process any more. Needs no descriptor.
/// REQUIRES: both are of this pid namespace, and the thread is not the process's first.
bool thread_has_ended(std::int64_t pid, std::int64_t thread) noexcept;
/// No thread of the process can store any more: it has no memory, or does not exist. Needs no
/// descriptor.
/// REQUIRES: as above
bool has_no_memory(std::int64_t pid) noexcept;
bool has_one_thread(std::int64_t pid) noexcept;
/// Stopped by a signal or a debugger.
bool is_stopped(std::int64_t pid, std::uint64_t start_time) noexcept;

}  // namespace bus::os
