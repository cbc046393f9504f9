#pragma once
/// seeded_bug: what an execution leaves out or weakens on purpose, to prove that the invariants
/// notice.

#include <cstdint>

#include "sync/access.hpp"

namespace model {

enum class role : std::uint8_t { writer, reader };

/// Operations of one edge that become relaxed (fences: are left out).
enum class side : std::uint8_t {
  none,
  release,  // releasing stores and the release half of read-modify-writes
  acquire,  // acquiring loads and the acquire half
  both,     // read-modify-writes that do both
  release_fence,
  acquire_fence,
  writer_fence,  // seq_cst fence of a publisher
  reader_fence,  // seq_cst fence of a reader
};

enum class omission : std::uint8_t {
  none,
  zero,               // zeroing of the words where the next records will start
  reserved_end,       // the store that announces what will be overwritten
  lap_check,          // readers' look at reserved_end
  candidate,          // gate_limit shown before the readers are looked at
  confirmation,       // a new reader's look at gate_limit
  repaired_zero_end,  // repair keeps the dead publisher's idea of what is zero
  repair,             // a lock taken over from a dead publisher is used as it is
  // the armed word does not change with a wake-up: a reader that armed before sleeps on another's
  // arming
  armed_count,
  second_look,        // armed, and then to sleep without looking again
  second_scan,        // waiting, and then to sleep without looking at the readers again
  late_announcement,  // a new reader enters first, and is announced afterwards
};

struct seeded_bug {
  bus::sync::edge edge = bus::sync::edge::none;
  side weakens = side::none;
  omission omits = omission::none;
};

}  // namespace model
