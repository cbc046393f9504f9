#include "os/random.hpp"

#include <sys/random.h>

#include "os/clock.hpp"

namespace bus::os {

std::uint64_t random_id() noexcept {
  std::uint64_t id = 0;
  while (id == 0) {
    if (::getrandom(&id, sizeof id, 0) != static_cast<ssize_t>(sizeof id))
      id = wall_ns() * 0x9e3779b97f4a7c15u;
  }
  return id;
}

}  // namespace bus::os
