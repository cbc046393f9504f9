#pragma once
/// clock_eras: the table that converts stamps of a bus to wall-clock time. It lies in `control`, so
/// that all processes compute the same time for a message, at any later moment.
///
/// An era holds for the stamps from its `from` up to that of the next era. The first one also holds
/// for all earlier stamps. Each word is set once, by a compare-and-swap from 0. `from` is set well
/// before the first stamp that it applies to.

#include <cstddef>

#include "base/word.hpp"

namespace bus::base {

struct clock_era {
  /// First stamp of the era: of the first era, the creation of the bus. A process that finds the
  /// wall clock outside the last era sets that of the next one, 2 s ahead. 0: no such era yet.
  word from;
  /// Wall clock at `from`, in ns. The first process that finds it 0 sets it.
  word wall_ns;
  /// The bits of a double. Set before `wall_ns`, by the first process that finds it 0.
  word ns_per_tick;
};

inline constexpr std::size_t clock_eras_max = 126;
struct clock_eras {
  clock_era of[clock_eras_max];
};
static_assert(sizeof(clock_eras) == 3024);

}  // namespace bus::base
