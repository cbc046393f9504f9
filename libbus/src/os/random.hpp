#pragma once
/// random: identifiers that nobody else has.

#include <cstdint>

namespace bus::os {

/// Never 0.
std::uint64_t random_id() noexcept;

}  // namespace bus::os
