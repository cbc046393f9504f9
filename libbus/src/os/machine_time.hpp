#pragma once
/// machine_time: the time since boot, which cannot be set, and the wall clock when it is reliable.

#include <cstdint>

namespace bus::os {

struct machine_time {
  std::uint32_t boot = 0;     // identifies the boot; 0: unknown
  std::uint64_t boot_ns = 0;  // since that boot, awake or suspended
  std::uint64_t wall_ns = 0;  // the wall clock; 0: the kernel does not trust it
};
machine_time read_machine_time() noexcept;

}  // namespace bus::os
