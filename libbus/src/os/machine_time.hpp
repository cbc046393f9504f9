#pragma once
/// machine_time: what the machine knows of time that nobody can set.

#include <cstdint>

namespace bus::os {

struct machine_time {
  std::uint32_t boot = 0;     // which boot this is; 0: not known
  std::uint64_t boot_ns = 0;  // since then, awake or suspended
  std::uint64_t wall_ns = 0;  // the wall clock; 0: the kernel does not take it for right
};
machine_time read_machine_time() noexcept;

}  // namespace bus::os
