#pragma once
/// lane: the file of one ring: 64 KiB of header, control lines and waypoints, then the data, whose
/// size is a power of two.
///
/// Publishers of the stream and busd write it. Readers map it read-only.
/// All words that change are 64-bit atomics, so that the lane code can run on a model of memory
/// (tests/model). Control lines are padded to 128 bytes, because processors prefetch pairs of
/// lines, and grouped by their writer and the time of writing.
/// Format     docs/format/ring.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/word.hpp"
#include "layout/record.hpp"
#include "layout/segment_header.hpp"

namespace bus::layout {

using base::word;

inline constexpr std::uint64_t lane_data_offset = 64 * 1024;
inline constexpr std::uint64_t lane_min_capacity = 64 * 1024;
inline constexpr std::uint64_t lane_max_capacity = 1ull << 36;
inline constexpr std::uint64_t blocks_per_lap = 64;  // waypoint blocks and reservation strides
inline constexpr std::uint64_t waypoint_count = 2 * blocks_per_lap;  // the table spans two laps
// A record or batch takes at most capacity / 4.
inline constexpr std::uint64_t largest_record_share = 4;
inline constexpr std::uint64_t no_waypoint = ~0ull;
/// Values of the lease that no publisher owns. A publisher that has locked the lane and finds one
/// of them does not publish.
inline constexpr std::uint64_t lease_closed = ~0ull;  // final: the stream was removed
// busd has stopped; until a publisher has recorded that in the log (lane_durability::stopped)
inline constexpr std::uint64_t lease_parked = ~0ull - 1;
constexpr std::uint32_t lease_owner(std::uint64_t lease) noexcept {  // 0: no process
  return lease >= lease_parked ? 0 : static_cast<std::uint32_t>(lease >> 32);
}
/// Most messages in one batch.
inline constexpr std::uint64_t largest_batch_messages = 1000;
inline constexpr std::uint64_t not_announced = ~0ull;  // value of `unmet`

enum class overflow : std::uint32_t { block = 1, reject = 2, drop_oldest = 3, drop_new = 4 };

enum class storage : std::uint32_t { memory = 0, spill = 1, durable = 2 };

/// Largest batch that any busd can write at once; the limit until busd stores its own.
inline constexpr std::uint64_t least_largest_batch = 256 * 1024 - 4096;

/// State of a lane's log.
enum class log_health : std::uint64_t {
  none = 0,  // busd has not opened it yet
  good = 1,
  full = 2,    // the disk is full, or fuller than busd may fill it
  failed = 3,  // the disk fails; busd keeps trying
};

/// Constants of a lane, set by the creator before the file gets its name.
struct lane_info {
  /// Random id of the stream. A stream with a log keeps it when shared memory is lost.
  std::uint64_t stream_id;
  /// Epoch of the stream: rises by one when a stream with a log lost its shared memory.
  std::uint64_t epoch;
  /// Size of the data, a power of two (ring_bytes).
  std::uint64_t capacity_bytes;
  /// Largest payload. A reader takes a larger one for corruption.
  std::uint64_t max_message_bytes;
  /// Number of the lane in its stream, as in the file's name.
  std::uint32_t lane_index;
  /// What publishers do when the ring is full.
  overflow policy;
  /// Unit of the stamps: 1 cycle counter, 3 CLOCK_BOOTTIME in ns (2 CLOCK_REALTIME in ns, of older
  /// libraries).
  std::uint32_t clock_kind;
  /// record_align.
  std::uint32_t record_align_bytes;
  /// Always 0 today; the frequency is derived from `control`.
  std::uint64_t ticks_per_second;
  /// Effective user id of the creator.
  std::uint32_t owner_uid;
  /// Where messages go that the ring no longer holds.
  storage kept;
};
static_assert(sizeof(lane_info) == 64);

/// Written by the publisher once per stride, read by readers occasionally.
struct alignas(128) lane_limits {
  /// Bytes at positions at or above reserved_end - capacity are intact. The publisher raises it
  /// before it writes there; a reader that copied a record checks it before it uses the copy (edge
  /// R2).
  word reserved_end;
  /// The publisher checks the pins again before it reserves beyond this position. It first stores a
  /// candidate, then the limit that the pins permit. An entering reader that finds it too high
  /// tries a later waypoint (edge G1).
  word gate_limit;
};

/// The state of publishing, on one line, so that a hand-over between publishers moves one line. The
/// publisher that holds `lock` or `lease` writes it; with a lease, tail to time_max are stale.
struct alignas(128) lane_turn {
  /// Owner lock (sync/owner_lock.hpp): 0 free; else process id, bit 31 set while a process waits,
  /// and in the upper half the owner's lock_key. The low half is a futex. The holder may publish
  /// unless `lease` forbids it (edge L1).
  word lock;
  /// Exclusive publisher: process id:32 | generation:32; 0 none; or lease_closed or lease_parked.
  /// Changed under `lock`, but busd also replaces lease_parked by 0 (edge F1).
  word lease;
  /// Position just past the last record. Derived (RING-4): valid while no dead process holds the
  /// lock or the lease.
  word tail;
  /// Sequence of the next record. Derived (RING-4).
  word next_seq;
  /// Words at record boundaries from `tail` up to here are 0.
  word zero_end;
  /// Position from which the next waypoint is due.
  word next_block;
  /// Running maximum of the stamps, updated with each waypoint.
  word time_max;
  /// Leases given so far. The new value goes into the lease as its fencing token.
  word generation;
};

/// Rarely written, by publishers unless noted.
struct alignas(128) lane_counters {
  /// Publishers that wait for space. Each adds 1 before it checks again and sleeps; a reader that
  /// released space wakes them if it is not 0. A dead publisher may leave its 1, which costs
  /// unnecessary wake-ups (edge W2).
  word waiting;
  /// Messages refused by drop_new.
  word dropped;
  /// Messages refused by reject, or by block at its deadline.
  word rejected;
  /// Times that a publisher had to wait.
  word blocked;
  /// Repairs after the death of a publisher.
  word repaired;
  /// Records whose writer died while they were open.
  word aborted;
  /// 1: the stream was removed, by the process that removes it. Publishers stop; readers drain the
  /// lane.
  word closed;
  /// 1: control_header::generation rose after the lane had its name. A publisher that finds 0 makes
  /// the announcement itself: the creator may have died before it did.
  word announced;
  /// Sequences below it were purged by busd, or are dead letters dropped by hand: no reader starts
  /// there.
  word readable_from;
  /// The generation that announced the lane, or not_announced; while it is not 0, publishers
  /// overwrite nothing. A publisher stores 0 when all interested subscribers have come to the lane.
  /// Always 0 where publishers are not held back (edge N2).
  word unmet;
};

/// Of lanes that have a log. Written by busd; the creator stores the first values.
struct alignas(128) lane_durability {
  /// Position of a waypoint. All records below are in the log: publishers may overwrite them. Its
  /// low half is a futex for publishers that wait (edge D1).
  word logged_position;
  /// Records up to this sequence are synced; permits a confirm. Its low half is a futex for those
  /// that wait for one (edge D2).
  word durable_seq;
  /// Records up to this sequence are in the log; subscribers read the files no further. It rises
  /// before logged_position (edge D1).
  word logged_seq;
  /// A log_health. Stored before the generation rises.
  word health;
  /// 1: a publisher sleeps until durable_seq rises. The publisher sets it; busd clears it and wakes
  /// all.
  word confirm_waiting;
  /// Sequence with which the ring began. Earlier ones belong to earlier epochs: no sequence is used
  /// twice.
  word first_seq;
  /// Bytes of records that busd can write at once: publishers refuse a larger batch. 0: busd has
  /// not opened the lane yet, and least_largest_batch holds.
  word largest_batch;
  /// Sequences that no message ever had, because shared memory was lost.
  word skipped;
  /// Not 0: busd stopped in order, and the log ends here. busd stores another number at each stop.
  /// The next publisher makes the file `reopened` beside the log's state and then sets it to 0.
  word stopped;
};

/// The first record that starts in a block of capacity/64 bytes: the only kind of position where a
/// lane is entered (RING-3). A small seqlock, written by the publisher.
struct waypoint {
  /// Position of the record; no_waypoint: none, or the other fields are changing (edge P1).
  word position;
  /// Sequence of the record.
  word seq;
  /// Running maximum of publish_ticks over the waypoints.
  word time_ticks;
  word reserved;
};
static_assert(sizeof(waypoint) == 32);

struct lane_header {
  segment_header segment;
  lane_info info;
  alignas(128) lane_limits limits;
  lane_turn turn;
  lane_counters counters;
  lane_durability durability;
  alignas(4096) waypoint waypoints[waypoint_count];
};
static_assert(std::is_standard_layout_v<lane_header>);
static_assert(offsetof(lane_header, info) == 64);
static_assert(offsetof(lane_header, limits) == 128);
static_assert(offsetof(lane_header, turn) == 256);
static_assert(offsetof(lane_header, counters) == 384);
static_assert(offsetof(lane_header, durability) == 512);
static_assert(offsetof(lane_header, waypoints) == 4096);
static_assert(sizeof(lane_header) == 8192);
static_assert(sizeof(lane_header) <= lane_data_offset);

}  // namespace bus::layout
