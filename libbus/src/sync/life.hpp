#pragma once
/// life: lets the kernel say that this process died. One parked thread per process holds the life
/// words of all buses that the process has joined, as a robust futex list; nobody else ever locks
/// them.
///
/// Threads    hold and let_go from any thread
/// Processes  a death shows 0.2-1.3 ms after kill -9, before the process's memory is freed; a
/// forked child has no life of
///            its own until it holds one; exec is a death

#include <atomic>
#include <cstdint>

#include <bus/error.hpp>

#include "layout/process.hpp"

namespace bus::sync {

/// Errors: system (the thread cannot be made)
/// The kernel's number of the thread that holds it.
/// REQUIRES: hold_life()
std::int64_t life_thread(const layout::life_cell& cell) noexcept;
result<void> hold_life(layout::life_cell& cell);
void release_life(layout::life_cell& cell) noexcept;

/// Whom the thread that holds this process's life calls about once a second. It looks at the
/// kernel's answers only: no waiting, no exceptions.
class watcher {
 public:
  virtual void look() noexcept = 0;

 protected:
  ~watcher() = default;
};
/// Errors: system (the thread cannot be made)
result<void> watch(watcher& one);
/// Afterwards it is not called any more, nor being called.
/// REQUIRES: not from look(), and the process that called watch().
void unwatch(watcher& one) noexcept;

enum class life_state : std::uint8_t { alive, dead, left };

inline constexpr std::uint32_t futex_owner_died = 0x40000000u;

inline const std::atomic<std::uint32_t>& life_word(const layout::life_cell& cell) noexcept {
  return *reinterpret_cast<const std::atomic<std::uint32_t>*>(&cell.word);
}

inline life_state read_life(const layout::life_cell& cell) noexcept {
  // acquire: what the process stored before it left is seen; the kernel's mark carries no order, a
  // death needs more proof
  const std::uint32_t value = life_word(cell).load(std::memory_order_acquire);
  if ((value & futex_owner_died) != 0) return life_state::dead;
  return value == 0 ? life_state::left : life_state::alive;
}

/// To sleep on: changes when the process dies or leaves.
inline std::uint32_t life_value(const layout::life_cell& cell) noexcept {
  return life_word(cell).load(std::memory_order_relaxed);  // the caller looks again after the sleep
}

}  // namespace bus::sync
