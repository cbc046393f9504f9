#pragma once
/// lane: the file of one ring. 64 KiB of header, control lines and waypoints, then the data, a
/// power of two.
///
/// Who may write: publishers of the stream. Readers map it read-only.
/// All words that change are 64-bit atomics, so that the lane code can run on a model of memory
/// (tests/model). Control lines are padded to 128 bytes (a pair of lines is prefetched together)
/// and grouped by who writes them, when.
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
// a record or batch is at most capacity / 4
inline constexpr std::uint64_t largest_record_share = 4;
inline constexpr std::uint64_t no_waypoint = ~0ull;
/// Instead of an owner's lease. Whoever has the lane's lock and finds one of them publishes
/// nothing.
inline constexpr std::uint64_t lease_closed = ~0ull;  // for ever: the stream was removed
// until the log knows of it: busd has stopped
inline constexpr std::uint64_t lease_parked = ~0ull - 1;
constexpr std::uint32_t lease_owner(std::uint64_t lease) noexcept {  // 0: no process has it
  return lease >= lease_parked ? 0 : static_cast<std::uint32_t>(lease >> 32);
}
/// At most so many messages are published at once.
inline constexpr std::uint64_t largest_batch_messages = 1000;
inline constexpr std::uint64_t not_announced = ~0ull;  // in `unmet`

enum class overflow : std::uint32_t { block = 1, reject = 2, drop_oldest = 3, drop_new = 4 };

enum class storage : std::uint32_t { memory = 0, spill = 1, durable = 2 };

/// A batch that the smallest busd can write at once: until it says how much it can.
inline constexpr std::uint64_t least_largest_batch = 256 * 1024 - 4096;

/// How the log of a lane does. Written by busd.
enum class log_health : std::uint64_t {
  none = 0,  // busd has not come to it yet
  good = 1,
  full = 2,    // the disk is full, or fuller than busd may fill it
  failed = 3,  // the disk fails; busd tries again and again
};

/// What never changes about a lane.
struct lane_info {
  std::uint64_t stream_id;       // random; survives nothing
  std::uint64_t epoch;           // of the stream: rises when its history was lost
  std::uint64_t capacity_bytes;  // of the data, power of two
  std::uint64_t max_message_bytes;
  std::uint32_t lane_index;
  overflow policy;
  // 1 cycle counter, 3 CLOCK_BOOTTIME ns (2 CLOCK_REALTIME ns, of older libraries)
  std::uint32_t clock_kind;
  std::uint32_t record_align_bytes;
  std::uint64_t ticks_per_second;
  std::uint32_t owner_uid;
  storage kept;  // where what does not fit into the ring goes
};
static_assert(sizeof(lane_info) == 64);

/// Written by the publisher once per stride; read by every reader now and then.
struct alignas(128) lane_limits {
  word reserved_end;  // bytes at and above reserved_end - capacity are intact           edge R2
  word gate_limit;    // the publisher looks at the readers again before it passes this  edge G1
};

/// The serialised state of publishing. One line, so that a hand-over moves one line.
struct alignas(128) lane_turn {
  word lock;  // 0 free; process id, bit 31 = somebody waits. Only the low 32 bits are used (futex)
  // exclusive publisher: process id:32 | generation:32, 0 = none; or closed, or parked. Changed
  // under the lock
  word lease;
  word tail;      // derived (RING-4); valid while no dead process holds the lock or the lease
  word next_seq;  // derived (RING-4)
  word zero_end;
  word next_block;  // position from which the next waypoint is due
  word time_max;
  word generation;  // counts leases: the fencing token
};

/// Rarely written by publishers.
struct alignas(128) lane_counters {
  word waiting;    // a publisher waits for space: readers that release wake it   edge W2
  word dropped;    // messages refused by drop_new
  word rejected;   // messages refused by reject, or block at its deadline
  word blocked;    // times a publisher had to wait
  word repaired;   // times a dead publisher's lane was repaired
  word aborted;    // records whose writer died while they were open
  word closed;     // 1: the stream was removed; readers drain, publishers stop
  word announced;  // 1: everybody was told that the lane is there; publishers do so unless it is
  word readable_from;  // sequences below it were purged, or dropped: nobody begins to read there
  // 0, or the generation that announced the lane: nothing of it is overwritten before all who were
  // interested have come to it   edge N2
  word unmet;
};

/// Of lanes that have a log. writer: busd · readers: publishers, subscribers
struct alignas(128) lane_durability {
  word logged_position;  // what lies below may be overwritten; a waypoint's position  edge D1
  word durable_seq;      // synced up to here; its low half is a futex                 edge D2
  word logged_seq;       // to be found in the log up to here                          edge D1
  word health;           // log_health
  word confirm_waiting;  // somebody sleeps until durable_seq rises
  word first_seq;        // of the ring when it was made: sequences are never used twice
  word largest_batch;    // bytes of records that busd can write at once; 0: it has not come yet
  word skipped;          // sequences that no message ever had, because shared memory was lost
  // not 0: busd has stopped, another number each time, and its log ends here: who publishes tells
  // the log first
  word stopped;
};

/// First record that starts in a block of capacity/64 bytes. Lane is entered only here (RING-3). A
/// small seqlock: position is `no_waypoint` while seq and time change.
struct waypoint {
  word position;  // edge P1
  word seq;
  word time_ticks;  // running maximum of publish_ticks
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
