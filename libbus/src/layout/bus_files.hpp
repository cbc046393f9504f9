#pragma once
/// bus_files: the small files of a bus: `control`, `streams/NAME/stream`, `.../subjects`,
/// `.../lane-N.readers`.
///
/// Format     docs/format/ring.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/clock_eras.hpp"
#include "base/word.hpp"
#include "layout/segment_header.hpp"

namespace bus::layout {

/// `control`. Written by every process that may use the bus.
struct control_header {
  segment_header segment;
  std::uint64_t bus_id;
  std::uint32_t clock_kind;
  std::uint32_t reserved;
  std::uint64_t created_ticks;
  std::uint64_t created_raw_ns;
  // rises whenever a stream or lane comes or goes; low half is a futex
  alignas(128) base::word generation;
  // 1: the whole bus was removed by force; 2: somebody found its files deleted. A reason to look;
  // whoever has it mapped is told so
  base::word removed;
  base::word unfinished;  // 1: somebody makes a change, or died at it, that is not announced yet
  alignas(128) base::word next_process_id;
  base::word next_object_id;       // publishers and subscribers
  alignas(128) base::word keeper;  // process id of busd; 0: there is none
  base::word keeper_bell;          // 1: it sleeps; whoever needs it sets 0 and wakes it
};
static_assert(std::is_standard_layout_v<control_header>);
/// base::clock_eras lie there.
inline constexpr std::uint64_t clock_eras_offset = 1024;
static_assert(sizeof(control_header) <= clock_eras_offset);

inline constexpr std::uint32_t stream_name_bytes = 64;

/// What a change was about: see client/change_journal.hpp. That of generation g lies at g modulo
/// their number.
enum class change_kind : std::uint64_t { none = 1, changed = 2, removed = 3, any = 4 };
struct change_entry {
  base::word check;  // of the generation, the kind and the name
  base::word kind;
  base::word name[stream_name_bytes / 8];  // of the stream, zeroes behind it
};
inline constexpr std::size_t change_journal_entries = 256;
inline constexpr std::uint64_t change_journal_offset = 4096;
static_assert(clock_eras_offset + sizeof(base::clock_eras) <= change_journal_offset);

inline constexpr std::uint64_t control_file_bytes =
    change_journal_offset + change_journal_entries * sizeof(change_entry);
static_assert(control_file_bytes == 24576);
/// Of a bus that an older library made: it has no journal.
inline constexpr std::uint64_t control_file_bytes_without_journal = 4096;

/// `stream`: the configuration. Never changed.
inline constexpr std::uint64_t stream_file_bytes = 8192;
inline constexpr std::uint32_t patterns_max_bytes = 4096;

struct stream_header {
  segment_header segment;
  std::uint64_t stream_id;
  std::uint64_t epoch;
  std::uint64_t ring_bytes;
  std::uint64_t max_message_bytes;
  std::uint64_t send_timeout_ns;
  std::uint32_t overflow;
  std::uint32_t lane_mode;
  std::uint32_t lanes;
  std::uint32_t max_subjects;
  std::uint32_t max_readers;
  std::uint32_t flags;
  std::uint32_t pattern_count;
  std::uint32_t pattern_bytes;
  char name[stream_name_bytes];
  char patterns[patterns_max_bytes];  // each followed by a zero byte
  std::uint32_t storage;
  std::uint32_t fsync;
  std::uint64_t fsync_interval_ns;
  std::uint64_t segment_bytes;
  std::uint64_t max_age_ns;
  std::uint64_t max_bytes;
  std::uint64_t max_messages;
  std::uint64_t max_messages_per_subject;
  std::uint32_t compress;
  std::uint32_t sealed;
  // Why busd does not keep the log of this stream just now: an error code, 0: it does. Its
  // publishers are given this error.
  std::uint32_t held_code;
  std::uint32_t held_errno;
  char held_why[1536];
  char held_fix[512];
};
static_assert(std::is_standard_layout_v<stream_header>);
static_assert(offsetof(stream_header, held_code) == 4360);
static_assert(sizeof(stream_header) <= stream_file_bytes);
inline constexpr std::uint32_t stream_ephemeral = 1;

/// `subjects`: append-only. An entry's ordinal is its id. Written by publishers under `lock`;
/// `used_bytes` is the commit.
struct subjects_header {
  segment_header segment;
  std::uint64_t limit_bytes;  // of entries
  std::uint32_t limit_entries;
  std::uint32_t reserved;
  alignas(128) base::word lock;        // as a lane's lock
  alignas(128) base::word used_bytes;  // edge T1
  base::word entry_count;              // beside it, for monitors
  base::word reserved_bytes;           // backed by memory, from the start of the entries
};
static_assert(std::is_standard_layout_v<subjects_header>);
inline constexpr std::uint64_t subjects_offset = 4096;
static_assert(sizeof(subjects_header) <= subjects_offset);
inline constexpr std::uint64_t subjects_chunk_bytes = 64 * 1024;

struct subject_entry {
  base::word type;  // type hash of a typed subject, 0 = none; set once
  std::uint32_t length;
  std::uint32_t reserved;
  // `length` bytes, padded to 8
};
static_assert(sizeof(subject_entry) == 16);

/// `lane-N.readers`: written by subscribers and publishers. Whatever is scribbled here costs at
/// most a delay of a wake-up or a reader that is lapped and told so.
struct readers_header {
  segment_header segment;
  std::uint32_t entry_count;
  std::uint32_t reserved;
  // low half a futex: bit 0 somebody sleeps here, bit 1 somebody's pipe wants a poke
  alignas(128) base::word armed;
  alignas(128) base::word may_sleep;  // 0: no reader of this lane ever sleeps
  base::word high_water;              // entries below may be in use
  base::word hand_on;  // 1: more sleep than a publisher wakes; each that wakes up wakes others
};
static_assert(std::is_standard_layout_v<readers_header>);
inline constexpr std::uint64_t readers_offset = 4096;
static_assert(sizeof(readers_header) <= readers_offset);
inline constexpr int woken_at_once = 4;  // sleepers, by a publisher or by one that woke up
inline constexpr std::uint64_t armed_futex = 1;
inline constexpr std::uint64_t armed_bell = 2;
// the rest only makes each value new
inline constexpr std::uint64_t armed_bits = armed_futex | armed_bell;

/// An entry of the readers table: process id:32 | slot + 1:32. 0 = free.
constexpr std::uint64_t pack_reader(std::uint32_t process, std::uint32_t slot) noexcept {
  return std::uint64_t{process} << 32 | (slot + 1);
}

}  // namespace bus::layout
