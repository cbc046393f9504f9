#pragma once
/// word: the unit of shared memory that several processes change: 64 bits, lock-free, the same size
/// on every supported architecture.

#include <atomic>
#include <cstdint>

namespace bus::base {

using word = std::atomic<std::uint64_t>;
static_assert(word::is_always_lock_free && sizeof(word) == 8);

}  // namespace bus::base
