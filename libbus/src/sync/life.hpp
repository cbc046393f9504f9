#pragma once
/// life: lets the kernel report that this process died. One parked thread per process holds the
/// life words of all buses that the process has joined, as a robust futex list. Nothing else ever
/// locks them.
///
/// Threads    hold_life and release_life from any thread
/// Processes  a death shows 0.2-1.3 ms after kill -9, before the process's memory is freed; a
///            forked child has no life of its own until it holds one; exec counts as a death

#include <atomic>
#include <cstdint>

#include <bus/error.hpp>

#include "layout/process.hpp"

namespace bus::sync {

/// Kernel id of the thread that holds the life word.
/// REQUIRES: hold_life()
std::int64_t life_thread(const layout::life_cell& cell) noexcept;
/// Errors: system (the thread cannot be created)
result<void> hold_life(layout::life_cell& cell);
void release_life(layout::life_cell& cell) noexcept;

/// Called about once a second by the thread that holds this process's life. look() may neither
/// throw nor wait for another process.
class watcher {
 public:
  virtual void look() noexcept = 0;

 protected:
  ~watcher() = default;
};
/// Errors: system (the thread cannot be created)
result<void> watch(watcher& one);
/// After it returns, look() of this watcher does not run and is not called again.
/// REQUIRES: not called from look(), but by the process that called watch().
void unwatch(watcher& one) noexcept;

enum class life_state : std::uint8_t { alive, dead, left };

inline constexpr std::uint32_t futex_owner_died = 0x40000000u;

inline const std::atomic<std::uint32_t>& life_word(const layout::life_cell& cell) noexcept {
  return *reinterpret_cast<const std::atomic<std::uint32_t>*>(&cell.word);
}

inline life_state read_life(const layout::life_cell& cell) noexcept {
  // acquire: what the process stored before it left is seen. The kernel's mark carries no order, so
  // a death needs more proof
  const std::uint32_t value = life_word(cell).load(std::memory_order_acquire);
  if ((value & futex_owner_died) != 0) return life_state::dead;
  return value == 0 ? life_state::left : life_state::alive;
}

/// The value to sleep on: it changes when the process dies or leaves.
inline std::uint32_t life_value(const layout::life_cell& cell) noexcept {
  return life_word(cell).load(std::memory_order_relaxed);  // relaxed: the caller checks again
}

}  // namespace bus::sync
