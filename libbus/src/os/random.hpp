#pragma once
/// random: unique identifiers.

#include <cstdint>

namespace bus::os {

/// Never 0.
std::uint64_t random_id() noexcept;

}  // namespace bus::os
