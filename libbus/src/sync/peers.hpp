#pragma once
/// peers: what a lock needs to know about the processes that may hold it. Implemented by
/// client/process_table.

#include <cstdint>
#include <string>

#include "sync/life.hpp"

namespace bus::sync {

class peers {
 public:
  virtual ~peers() = default;
  /// Null: there is no such process any more, and what it held is free.
  virtual const layout::life_cell* life_of(std::uint32_t process_id) noexcept = 0;
  /// Stronger than a dead life word: no thread of the process can store any more. May make a few
  /// system calls.
  virtual bool proven_dead(std::uint32_t process_id) noexcept = 0;
  /// True when this living process signs its locks with `key`, or cannot be checked.
  virtual bool uses_key(std::uint32_t, std::uint32_t) noexcept { return true; }
  virtual std::string describe(std::uint32_t process_id) = 0;
};

}  // namespace bus::sync
