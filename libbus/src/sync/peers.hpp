#pragma once
/// peers: what a lock needs to know of the processes that may hold it. client/process_table
/// answers.

#include <cstdint>
#include <string>

#include "sync/life.hpp"

namespace bus::sync {

class peers {
 public:
  virtual ~peers() = default;
  /// Null: no such process any more; what it held is free.
  virtual const layout::life_cell* life_of(std::uint32_t process_id) noexcept = 0;
  /// Stronger than a dead life word: no thread of it can store any more. May take some system
  /// calls.
  virtual bool proven_dead(std::uint32_t process_id) noexcept = 0;
  /// Does this process, which lives, sign its locks with `key`? True when it cannot be looked at.
  virtual bool uses_key(std::uint32_t, std::uint32_t) noexcept { return true; }
  virtual std::string describe(std::uint32_t process_id) = 0;
};

}  // namespace bus::sync
