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

/// `control`. Every process that uses the bus writes it. The creator sets the plain fields before
/// the file gets its name; they never change.
struct control_header {
  segment_header segment;
  /// Random id of the bus, as in the segment header.
  std::uint64_t bus_id;
  /// 1 cycle counter, 3 CLOCK_BOOTTIME in ns (2 CLOCK_REALTIME in ns, of older libraries).
  std::uint32_t clock_kind;
  std::uint32_t reserved;
  /// Value of the bus's clock at creation.
  std::uint64_t created_ticks;
  /// CLOCK_MONOTONIC_RAW at the same moment. Both give every process the frequency of the counter.
  std::uint64_t created_raw_ns;
  /// Rises whenever a stream or lane comes, goes or changes. The process that made the change adds
  /// to it when the change is visible, with acq_rel; all others then look for the change. Its low
  /// half is a futex.
  alignas(128) base::word generation;
  /// 1: the process that removed the bus by force set it. 2: a process found the files deleted and
  /// set it. Only a reason to check: each process then checks whether its own path still leads
  /// here.
  base::word removed;
  /// 1: a change is visible and not announced, because its process is at work or died, or could not
  /// delete all files. Set and cleared under the file `lock`. A process that opens a publisher or a
  /// consumer then checks all streams; the next change announces this one.
  base::word unfinished;
  /// Next process id. Each process that joins adds 1, so that no id is used twice. The first one of
  /// a bus is random: ids of a bus that was made again differ.
  alignas(128) base::word next_process_id;
  /// Next id of a publisher or subscriber, in the same way.
  base::word next_object_id;
  /// Process id of busd, which sets it; 0: there is no busd.
  alignas(128) base::word keeper;
  /// Futex. busd sets 1 before it sleeps and 0 afterwards. A process that needs busd (full ring,
  /// confirm) sets 0 and wakes it.
  base::word keeper_bell;
};
static_assert(std::is_standard_layout_v<control_header>);
/// Where the clock eras (base::clock_eras) begin in `control`.
inline constexpr std::uint64_t clock_eras_offset = 1024;
static_assert(sizeof(control_header) <= clock_eras_offset);

inline constexpr std::uint32_t stream_name_bytes = 64;

/// What a change affected (client/change_journal.hpp): no stream, the named stream, or any stream.
enum class change_kind : std::uint64_t { none = 1, changed = 2, removed = 3, any = 4 };
/// The entry of generation g is entry g modulo their number. The process that raised the generation
/// writes it afterwards.
struct change_entry {
  /// Hash of the generation, the kind and the name. An entry that does not match it is ignored: its
  /// change may affect any stream.
  base::word check;
  /// A change_kind.
  base::word kind;
  /// Name of the stream, padded with zeros.
  base::word name[stream_name_bytes / 8];
};
inline constexpr std::size_t change_journal_entries = 256;
inline constexpr std::uint64_t change_journal_offset = 4096;
static_assert(clock_eras_offset + sizeof(base::clock_eras) <= change_journal_offset);

inline constexpr std::uint64_t control_file_bytes =
    change_journal_offset + change_journal_entries * sizeof(change_entry);
static_assert(control_file_bytes == 24576);
/// Size of `control` on a bus made by an older library, which has no journal.
inline constexpr std::uint64_t control_file_bytes_without_journal = 4096;

/// `stream`: the configuration. The file never changes: a change renames a new file over it.
inline constexpr std::uint64_t stream_file_bytes = 8192;
inline constexpr std::uint32_t patterns_max_bytes = 4096;

struct stream_header {
  segment_header segment;
  /// Random id of the stream. A stream with a log keeps it when shared memory is lost.
  std::uint64_t stream_id;
  /// 1 at first. Rises by one each time that the stream lost its shared memory and busd made it
  /// again from the log.
  std::uint64_t epoch;
  // The fields of stream_config (bus/stream_config.hpp).
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
  char patterns[patterns_max_bytes];  ///< each followed by a zero byte
  std::uint32_t storage;
  std::uint32_t fsync;
  std::uint64_t fsync_interval_ns;
  std::uint64_t segment_bytes;
  std::uint64_t max_age_ns;
  std::uint64_t max_bytes;
  std::uint64_t max_messages;
  std::uint64_t max_messages_per_subject;
  std::uint32_t compress;
  /// 1: sealed; no process may publish to the stream any more, except that a group writes its own
  /// dead letters.
  std::uint32_t sealed;
  /// Error code why busd does not keep the log of this stream now, and with the next three the
  /// error that publishers get; 0: busd keeps it. Set by busd.
  std::uint32_t held_code;
  /// errno of that error, or 0.
  std::uint32_t held_errno;
  /// Its cause and its fix, each ended by a zero byte.
  char held_why[1536];
  char held_fix[512];
};
static_assert(std::is_standard_layout_v<stream_header>);
static_assert(offsetof(stream_header, held_code) == 4360);
static_assert(sizeof(stream_header) <= stream_file_bytes);
inline constexpr std::uint32_t stream_ephemeral = 1;

/// `subjects`: append-only. An entry's ordinal is its id. Publishers write it under `lock`.
struct subjects_header {
  segment_header segment;
  /// Bytes that entries may take. Set by the creator.
  std::uint64_t limit_bytes;
  /// Entries that the table may have (max_subjects). Set by the creator.
  std::uint32_t limit_entries;
  std::uint32_t reserved;
  /// Owner lock of the publisher that appends; see lane_turn::lock.
  alignas(128) base::word lock;
  /// Bytes of the entries that count. The publisher stores it after the entry, with release, which
  /// commits the entry. The next publisher overwrites what lies beyond (edge T1).
  alignas(128) base::word used_bytes;
  /// Number of entries, stored just before `used_bytes`; for monitors.
  base::word entry_count;
  /// Bytes backed by memory, from the first entry on. A publisher reserves the next chunk and
  /// raises it before it appends beyond.
  base::word reserved_bytes;
};
static_assert(std::is_standard_layout_v<subjects_header>);
inline constexpr std::uint64_t subjects_offset = 4096;
static_assert(sizeof(subjects_header) <= subjects_offset);
inline constexpr std::uint64_t subjects_chunk_bytes = 64 * 1024;

struct subject_entry {
  /// Type hash of a typed subject; 0: none. A typed publisher sets it once, by compare-and-swap.
  base::word type;
  /// Bytes of the subject, 1 to 255, which follows the entry, padded to a multiple of 8.
  std::uint32_t length;
  std::uint32_t reserved;
};
static_assert(sizeof(subject_entry) == 16);

/// `lane-N.readers`: written by subscribers and publishers. Garbage in it costs at most a late
/// wake-up, or a reader that is lapped and reports the gap.
struct readers_header {
  segment_header segment;
  /// Entries of the table (max_readers). Set by the creator.
  std::uint32_t entry_count;
  std::uint32_t reserved;
  /// A reader sets a bit before it sleeps: bit 0 on the low half, which is a futex, bit 1 on its
  /// doorbell. A publisher exchanges the word after a commit and wakes the sleepers whose bits it
  /// found. The other bits of the low half make each value new (edge W1).
  alignas(128) base::word armed;
  /// 0: no reader of this lane ever sleeps, so publishers skip `armed`. A reader sets 1 before it
  /// sleeps; a publisher clears it after many commits that found no sleeper (edge A1).
  alignas(128) base::word may_sleep;
  /// Entries below it may be in use. A reader raises it when it takes an entry (edge N1).
  base::word high_water;
  /// 1: more readers sleep than a publisher wakes; each reader that wakes up wakes others. Set and
  /// cleared by publishers.
  base::word hand_on;
};
static_assert(std::is_standard_layout_v<readers_header>);
inline constexpr std::uint64_t readers_offset = 4096;
static_assert(sizeof(readers_header) <= readers_offset);
inline constexpr int woken_at_once = 4;  // sleepers, by a publisher or a woken reader
inline constexpr std::uint64_t armed_futex = 1;
inline constexpr std::uint64_t armed_bell = 2;
// The other bits only make each value new.
inline constexpr std::uint64_t armed_bits = armed_futex | armed_bell;

/// An entry of the readers table: process id:32 | slot + 1:32; 0: free. A reader writes it before
/// its pin (edge N1). Of a group: group_reader:32 | ordinal + 1:32.
constexpr std::uint64_t pack_reader(std::uint32_t process, std::uint32_t slot) noexcept {
  return std::uint64_t{process} << 32 | (slot + 1);
}

}  // namespace bus::layout
