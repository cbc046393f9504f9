#pragma once
/// clock_eras: how the stamps of a bus become wall-clock time. It lies in `control`, so that all
/// processes answer the same, and a message has one time for ever.
///
/// An era says it for the stamps from its `from` on, until the next one begins; the first also for
/// all before. Each word is set once, by whoever comes first, and announced well before the first
/// stamp that it is for.

#include <cstddef>

#include "base/word.hpp"

namespace bus::base {

struct clock_era {
  word from;         // stamp; 0: not there yet
  word wall_ns;      // at `from`
  word ns_per_tick;  // the bits of a double
};

inline constexpr std::size_t clock_eras_max = 126;
struct clock_eras {
  clock_era of[clock_eras_max];
};
static_assert(sizeof(clock_eras) == 3024);

}  // namespace bus::base
