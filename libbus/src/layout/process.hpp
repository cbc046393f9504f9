#pragma once
/// process: the file `processes/ID`: the identity of a process, its life word, and its slots, one
/// for each publisher and reader (with its pin).
///
/// Only that process writes it. All others map it read-only.
/// Format     docs/format/ring.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/word.hpp"
#include "layout/segment_header.hpp"

namespace bus::layout {

inline constexpr std::uint32_t max_slots = 65536;
inline constexpr std::uint32_t first_slots = 512, more_slots = 512;  // the file grows by more_slots

/// The life of a process (sync/life.hpp), as an entry of a robust futex list.
struct alignas(64) life_cell {
  /// Futex. The owner stores thread id | WAITERS before the file gets its name, and 0 when it
  /// leaves. The kernel adds OWNER_DIED when the process dies. That mark carries no memory order:
  /// it permits no take-over without further proof (peers::proven_dead).
  std::uint32_t word;
  std::uint32_t reserved;
  /// Link of the owner's robust list, written by the owner and read by the kernel. Its distance
  /// from `word` is fixed. Its value means nothing to other processes.
  std::uint64_t robust_next;
};
static_assert(sizeof(life_cell) == 64);

/// Written by the process before the file gets its name; only `slot_count` changes afterwards.
struct process_identity {
  /// Process id in the process's own pid namespace.
  std::uint64_t pid;
  /// Start time in clock ticks after boot (field 22 of /proc/PID/stat), as seen in its own time
  /// namespace. With `pid` it identifies one process.
  std::uint64_t start_time;
  /// Inode of its pid namespace ^ that of its time namespace << 32. Pid and start time compare only
  /// where both sides have the same value.
  std::uint64_t namespaces;
  /// Wall clock when the process joined the bus, for people.
  std::uint64_t joined_ns;
  /// Process id of the bus: the name of the file. Never used twice.
  std::uint32_t id;
  /// Effective user id.
  std::uint32_t uid;
  /// Number of slots that the file has. The process raises it, with release, after it has made the
  /// file longer; it never falls.
  std::uint32_t slot_count;
  /// Random, not 0: the upper half of each lock word that the process writes. A lock word with this
  /// id and another key was not written by the process and may be taken over (sync/owner_lock.hpp).
  std::uint32_t lock_key;
  /// Name of the process for people: the one that it gave, or that of its program.
  char name[64];
};
static_assert(sizeof(process_identity) == 112);

/// An interest says which streams and lanes a gating subscriber wants, including those that it does
/// not know yet. Publishers of a new lane wait for the subscribers that match (edge N2).
enum class slot_kind : std::uint64_t { free = 0, publisher = 1, reader = 2, interest = 3 };

/// A publisher, a reader or an interest.
struct alignas(256) slot {
  /// A reader's pin (ring/pin.hpp); publishers of the lane read it.
  base::word pin[8];
  /// slot_kind. Written last, with release, when the slot is taken; 0 frees the slot.
  base::word kind;
  /// Id of the publisher or subscriber, from control_header::next_object_id.
  base::word object_id;
  /// Id of the stream; 0 for an interest.
  base::word stream_id;
  /// Lane index. Of an interest: 0, or 1 + the only lane that it wants.
  base::word lane;
  /// Set of slot_flag. The owner changes it at any time.
  base::word flags;
  /// Messages published. Of an interest: the value of control_header::generation up to which the
  /// subscriber has visited all streams and lanes that it wants (edge N2).
  base::word messages;
  /// Bytes published.
  base::word bytes;
  /// Messages of the publisher that were dropped, rejected or timed out.
  base::word refused;
  /// The object's name and its subject or patterns. Of an interest: its patterns, `>` when they do
  /// not fit. Written before `kind`.
  char label[64];
  /// Name of the stream. Of an interest: the only stream that it wants, or nothing.
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
  slot_bell = 1u << 4,     // has a doorbell, the named pipe ID.SUBSCRIBER.fifo
  slot_leasing = 1u << 5,  // is taking, or has, the lease of its lane
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
