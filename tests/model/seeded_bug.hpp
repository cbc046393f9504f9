#pragma once
/// seeded_bug: what an execution omits or weakens on purpose, to prove that the invariants detect
/// it.

#include <cstdint>

#include "sync/access.hpp"

namespace model {

enum class role : std::uint8_t { writer, reader };

/// Which operations of one edge become relaxed (fences are omitted).
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
  lap_check,          // readers' check of reserved_end
  candidate,          // gate_limit stored before the readers are checked
  confirmation,       // a new reader's check of gate_limit
  repaired_zero_end,  // repair keeps the dead publisher's zero_end
  repair,             // a lock taken over from a dead publisher is used without repair
  // the armed word does not change with a wake-up: a reader that armed it before then sleeps on
  // another reader's arming
  armed_count,
  second_look,        // armed, then asleep without a second check
  second_scan,        // waiting, then asleep without a second scan of the readers
  late_announcement,  // a new reader enters first and is announced afterwards
};

struct seeded_bug {
  bus::sync::edge edge = bus::sync::edge::none;
  side weakens = side::none;
  omission omits = omission::none;
};

}  // namespace model
