#pragma once
/// process: the file `processes/ID`: who a process is, its life word, and its slots: publishers and
/// readers with their pins.
///
/// Who may write: that process alone. Everybody else maps it read-only.
/// Format     docs/format/ring.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/word.hpp"
#include "layout/segment_header.hpp"

namespace bus::layout {

inline constexpr std::uint32_t max_slots = 65536;
inline constexpr std::uint32_t first_slots = 512, more_slots = 512;  // the file grows by so many

/// The kernel sets OWNER_DIED in `word` when the process dies. `robust_next` belongs to the owner's
/// robust list: its distance from `word` is fixed, its value means nothing to others.
struct alignas(64) life_cell {
  // futex; thread id | WAITERS while alive, | OWNER_DIED when dead, 0 when it left
  std::uint32_t word;
  std::uint32_t reserved;
  std::uint64_t robust_next;
};
static_assert(sizeof(life_cell) == 64);

struct process_identity {
  std::uint64_t pid;
  std::uint64_t start_time;
  std::uint64_t namespaces;
  std::uint64_t joined_ns;
  std::uint32_t id;
  std::uint32_t uid;
  std::uint32_t slot_count;
  std::uint32_t lock_key;  // in the upper half of each lock word that it writes
  char name[64];
};
static_assert(sizeof(process_identity) == 112);

/// An interest is what a subscriber wants of streams and lanes that it may not know yet: `label`
/// has its patterns (`>` when they do not fit), `stream` a name or nothing, `lane` 0 or one more
/// than the only lane, `messages` the generation of the bus up to which it has come to all of them.
enum class slot_kind : std::uint64_t { free = 0, publisher = 1, reader = 2, interest = 3 };

/// Publisher or reader, 256 bytes. The first line is a reader's pin (ring/pin.hpp).
struct alignas(256) slot {
  base::word pin[8];
  base::word kind;       // slot_kind, written last
  base::word object_id;  // publisher or subscriber id
  base::word stream_id;
  base::word lane;
  base::word flags;     // slot_flag
  base::word messages;  // publisher: published
  base::word bytes;
  base::word refused;
  char label[64];  // name, or subject or patterns; written before kind
  char stream[64];
};
static_assert(sizeof(slot) == 256);
static_assert(offsetof(slot, kind) == 64);
static_assert(offsetof(slot, label) == 128);

enum slot_flag : std::uint64_t {
  slot_exclusive = 1u << 0,
  slot_blocked = 1u << 1,
  slot_gating = 1u << 2,
  slot_sleeping = 1u << 3,
  slot_bell = 1u << 4,     // has a named pipe ID.SUBSCRIBER.fifo to be poked
  slot_leasing = 1u << 5,  // takes, or has, the lease of its lane
};

inline constexpr std::uint64_t process_slots_offset = 4096;

struct process_header {
  segment_header segment;
  process_identity identity;
  alignas(256) life_cell life;
};
static_assert(std::is_standard_layout_v<process_header>);
static_assert(offsetof(process_header, identity) == 64);
static_assert(offsetof(process_header, life) == 256);
static_assert(sizeof(process_header) <= process_slots_offset);

constexpr std::uint64_t process_file_bytes(std::uint32_t slots) noexcept {
  return process_slots_offset + std::uint64_t{slots} * sizeof(slot);
}

}  // namespace bus::layout
