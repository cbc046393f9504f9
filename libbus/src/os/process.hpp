#pragma once
/// process: the identity of this process, and what the kernel reports about others. For people, and
/// to prove that no thread of a dying process can store any more.

#include <cstdint>
#include <string>

namespace bus::os {

struct identity {
  std::int64_t pid = 0;
  std::uint64_t start_time = 0;  // clock ticks after boot
  std::uint64_t namespaces = 0;  // inode of its pid namespace ^ that of its time namespace << 32
  std::string program;
};
identity self();
std::int64_t thread_id() noexcept;

/// True when no thread of {pid, start_time} runs user code any more: all have entered exit, or the
/// process has exited. Only meaningful within the caller's pid namespace.
bool all_threads_exiting(std::int64_t pid, std::uint64_t start_time) noexcept;
/// True when the process has no thread of that number any more. Needs no descriptor.
/// REQUIRES: both are of this pid namespace, and the thread is not the process's first.
bool thread_has_ended(std::int64_t pid, std::int64_t thread) noexcept;
/// True when no thread of the process can store any more: it has no memory, or does not exist.
/// Needs no descriptor.
/// REQUIRES: pid is of this pid namespace.
bool has_no_memory(std::int64_t pid) noexcept;
/// True when the process has exactly one thread, in whatever state.
bool has_one_thread(std::int64_t pid) noexcept;
/// True when {pid, start_time} is stopped by a signal or a debugger.
bool is_stopped(std::int64_t pid, std::uint64_t start_time) noexcept;

}  // namespace bus::os
