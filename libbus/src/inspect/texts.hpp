#pragma once
/// texts: shared memory's names and times as the public structs have them.

#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>

namespace bus::inspect {

inline std::string text_of(const char* from, std::size_t size) {
  return std::string(from, ::strnlen(from, size));
}
inline std::chrono::system_clock::time_point wall(std::uint64_t ns) {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(
          std::chrono::nanoseconds(static_cast<std::int64_t>(ns))));
}

}  // namespace bus::inspect
