#pragma once
/// group: the file `streams/S/groups/G`: what a group has claimed and not settled, and where it
/// stands.
///
/// Who may write: every consumer of the group. Words are changed without the lock only where it is
/// said; everything else is changed under `lock`.
/// Truth is in the slots' first words and in the cursors. Lists, the heap, the table of keys and
/// all counts are indexes: a repair makes them anew.
/// Format     docs/format/group.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/shared_field.hpp"
#include "base/word.hpp"
#include "layout/segment_header.hpp"

namespace bus::layout {

inline constexpr std::uint32_t group_lanes_max = 64;
inline constexpr std::uint32_t group_members_max = 4095;  // what an owner's bits hold
inline constexpr std::uint32_t group_slots_max = 1u << 22;
inline constexpr std::uint32_t group_backoff_max = 16;
inline constexpr std::uint32_t group_filter_bytes = 2048;
inline constexpr std::uint32_t group_name_bytes = 64;
inline constexpr std::uint32_t group_block_bytes = 256;  // of the hold arena
inline constexpr std::uint32_t no_index = 0xffffffffu;

enum class slot_state : std::uint32_t {
  free = 0,
  ready = 1,    // to be handed out again
  leased = 2,   // a member has it
  delayed = 3,  // to be handed out again at `due`
  parked = 4,   // its key is busy
  dying = 5,    // on its way to the dead letters, which have no room
  moving = 6,   // being written there, by the holder of the lock
  settled = 7,  // by its holder, without the lock; not collected yet
  skipped = 8,  // not a message: from here on, this key's messages were passed over
};

/// The truth about one message, in one word.
struct slot_status {
  slot_state state = slot_state::free;
  bool started = false;
  std::uint32_t owner = 0;       // member
  std::uint32_t acquired = 0;    // times handed out
  std::uint32_t failed = 0;      // times that counted
  std::uint32_t generation = 0;  // of the lease

  static constexpr std::uint32_t count_max = (1u << 12) - 1;
  static constexpr std::uint32_t failed_max = (1u << 10) - 1;
  static constexpr std::uint32_t generation_mask = (1u << 25) - 1;
  static constexpr std::uint32_t next_generation(std::uint32_t after) noexcept {
    return (after + 1) & generation_mask;
  }

  constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(state)} | std::uint64_t{started} << 4 |
           std::uint64_t{owner & 0xfffu} << 5 | std::uint64_t{acquired & count_max} << 17 |
           std::uint64_t{failed & failed_max} << 29 |
           std::uint64_t{generation & generation_mask} << 39;
  }
  static constexpr slot_status unpack(std::uint64_t packed) noexcept {
    return {static_cast<slot_state>(packed & 0xf),
            (packed >> 4 & 1) != 0,
            static_cast<std::uint32_t>(packed >> 5 & 0xfff),
            static_cast<std::uint32_t>(packed >> 17 & count_max),
            static_cast<std::uint32_t>(packed >> 29 & failed_max),
            static_cast<std::uint32_t>(packed >> 39 & generation_mask)};
  }
};

/// Parts of a packed truth, where only they are needed.
constexpr slot_state state_of(std::uint64_t status) noexcept {
  return static_cast<slot_state>(status & 0xf);
}
constexpr std::uint32_t generation_of(std::uint64_t status) noexcept {
  return static_cast<std::uint32_t>(status >> 39);
}
constexpr std::uint64_t with_state(std::uint64_t status, slot_state to) noexcept {
  return (status & ~0xfull) | static_cast<std::uint64_t>(to);
}
static_assert(generation_of(slot_status{.generation = 77}.pack()) == 77);

/// 64 bytes, one line: all that claim and settle touch.
struct alignas(64) group_slot {
  base::word status;    // slot_status. leased -> settled by the holder without the lock  edge Q1
  base::word origin;    // sequence:56 | lane:8
  base::word location;  // position in the ring; with bit 63: first block in the hold arena
  base::word since;     // ticks: leased since, or extended at
  base::word key;       // hash of the key; 0 = none
  // Under the lock.
  base::field32 next;  // of the list that the state says: free, ready, parked, dying
  base::field32 lease_previous, lease_next;
  base::field32 ring_previous, ring_next;  // of those whose record lies in the ring, by position
  base::field32 heap_index;                // in the heap of timers, or no_index
};
static_assert(sizeof(group_slot) == 64);
static_assert(offsetof(group_slot, key) == 32);
static_assert(offsetof(group_slot, heap_index) == 60);

inline constexpr std::uint64_t location_in_arena = 1ull << 63;
constexpr std::uint64_t pack_origin_of(std::uint32_t lane, std::uint64_t seq) noexcept {
  return seq << 8 | lane;
}
constexpr std::uint32_t lane_of_origin(std::uint64_t origin) noexcept {
  return static_cast<std::uint32_t>(origin & 0xff);
}
constexpr std::uint64_t seq_of_origin(std::uint64_t origin) noexcept { return origin >> 8; }

/// What only messages that failed, or wait, need to know. Under the lock.
struct alignas(64) group_slot_details {
  base::field64 due;          // ticks; of a delayed one, or of a lease with a time of its own
  base::field64 first_ticks;  // first time handed out
  base::field64 lease_begin;  // of an extended lease: when it was claimed
  // Of a skipped key: how many:32 | cursor of the claim that counted last:32
  base::field64 skipped;
  base::field32 reason_block;  // in the arena: name of the member, newline, text of the failure
  base::field32 reason_bytes;  // 0: none
  base::field32 death;         // why it dies
  base::field32 reserved;
  // How many without that claim, which counts when its cursor is stored.
  base::field64 skipped_before;
  base::field64 reserved_too;
};
static_assert(sizeof(group_slot_details) == 64);
constexpr std::uint64_t pack_skipped(std::uint64_t count, std::uint64_t cursor_seq) noexcept {
  return (count & 0xffffffffu) | cursor_seq << 32;
}
constexpr std::uint64_t count_of_skipped(std::uint64_t packed) noexcept {
  return packed & 0xffffffffu;
}
constexpr bool was_counted_at(std::uint64_t packed, std::uint64_t cursor_seq) noexcept {
  return packed >> 32 == (cursor_seq & 0xffffffffu);
}

struct group_timer {
  base::field64 due;
  base::field32 slot;
  base::field32 reserved;
};
static_assert(sizeof(group_timer) == 16);

/// A key that something in the window has, or waits for. Slot numbers are + 1, so that zeroes are
/// empty.
struct group_key {
  base::field64 key;          // 0 = free
  base::field32 holder;       // the message that is out, or next
  base::field32 first, last;  // parked; of a free one `first` is the next free one, + 1
  base::field32 parked;
  base::field32 skip;  // the slot that says from where on they were passed over
  // bit 0: that slot is in the list of those that are looked at again bits 1-31: place in the index
  base::field32 where;

  bool is_looked_at_again() const noexcept { return (where & 1) != 0; }
  void look_again(bool yes) noexcept { where = (where & ~1u) | (yes ? 1u : 0u); }
  std::uint32_t place() const noexcept { return where >> 1; }
  void set_place(std::uint32_t to) noexcept { where = (where & 1u) | to << 1; }
};
static_assert(sizeof(group_key) == 32);

struct alignas(64) group_member {
  base::word who;  // process id:32 | consumer id:32; 0 = free. Taken by compare-and-swap
  base::word claimed, settled;  // statistics; writer: the member
  base::word joined_by;         // pid:32 | thread id:32, as its own namespace knows them
  base::word reserved[4];
  char name[64];
};
static_assert(sizeof(group_member) == 128);

/// What a member settled, in that order, for the lock's holder to collect.
struct alignas(64) group_settled {
  static constexpr std::uint64_t places = 128;
  base::word tail;                       // entries written; writer: the member          edge Q3
  alignas(64) base::word head;           // entries done with; writer: the lock's holder
  alignas(64) base::word entry[places];  // slot:32 | generation of the lease:32
};
static_assert(sizeof(group_settled) == 1152);
constexpr std::uint64_t pack_settled(std::uint32_t slot, std::uint32_t generation) noexcept {
  return std::uint64_t{slot} << 32 | generation;
}
constexpr std::uint32_t slot_of_settled(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry >> 32);
}
constexpr std::uint32_t generation_of_settled(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry);
}

/// Where the group stands in a lane: everything at or above is unclaimed. Two copies, so that one
/// store changes all of it.
struct group_position {
  base::word position;
  base::word seq;
  base::word filtered;  // messages below that did not match
  base::word dropped;   // messages below that the ring had lost
};
struct alignas(128) group_cursor {
  group_position copy[2];
  base::word which;      // 0 or 1: the copy that counts                           edge Q2
  base::word attached;   // the lane was entered; 0: not yet
  base::word first_seq;  // where the group began
  base::field32 ring_first, ring_last;  // list of slots whose record lies in this ring
  base::word told;                      // of `dropped`: so many a consumer was told of
  base::word lost_first;                // first sequence of those that none was told of
  base::word reserved[2];
};
static_assert(sizeof(group_cursor) == 128);

/// What never changes about a group. Durations in nanoseconds.
struct group_info {
  std::uint64_t stream_id;
  std::uint64_t group_epoch;  // random; no two groups have the same
  std::uint32_t ordinal;      // in readers tables
  std::uint32_t slot_count, member_count, key_capacity, block_count;
  std::uint32_t ack, order, on_fail, mode, start_kind;
  std::uint32_t max_ack_pending, max_delayed, max_parked;
  std::int32_t max_deliver;  // -1: no limit
  std::uint32_t backoff_count, jitter_permille;
  std::uint32_t dead_letters;  // 1: there is a dead-letter stream
  std::uint32_t headers_all;   // all header conditions must hold; 0: any
  std::uint32_t filter_count, header_count;
  std::uint64_t ack_wait_ns, max_lease_ns, idle_release_ns;
  std::uint64_t start_value;  // sequence, or wall clock in ns
  std::uint64_t hold_bytes;
  std::uint64_t backoff_ns[group_backoff_max];
  char name[group_name_bytes];
  char stream[group_name_bytes];
  char filter[group_filter_bytes];  // patterns, then key=value conditions, each with a zero byte
  std::uint64_t check;              // hash of all bytes above
};
static_assert(std::has_unique_object_representations_v<group_info>);

/// Heads of lists and counts. Indexes.
struct group_lists {
  base::field32 free_first, free_count;
  base::field32 ready_first, ready_last, ready_count;
  base::field32 lease_first, lease_last, lease_count;
  base::field32 timer_count, delayed_count, parked_count;
  base::field32 dying_first, dying_last, dying_count;
  base::field32 rescan_first;  // skipped keys that nothing holds any more
  base::field32 block_first, block_free;
  base::field32 slots_used;  // slots above were never used
  base::field32 key_count;
  base::field32 key_free;   // + 1; 0 = none
  base::field32 keys_used;  // keys above were never used
  base::field32 reserved;
};

/// Sums that people look at. No decision depends on them.
struct group_counters {
  base::word claimed, redelivered, nacked, released, rejected, expired, died, dead, repaired,
      returned_unstarted, held_copies, extended;
};

struct group_header {
  segment_header segment;
  group_info info;
  alignas(128) base::word lock;  // as a lane's lock                                   edge L1
  base::word damaged;            // 1: something impossible was met; `bus group repair`
  alignas(128) base::word
      settled_by;                // members, bit = number % 64, that settled something (GROUP-3)
  base::word unlisted;           // 1: some of it is in no queue of theirs
  alignas(128) base::word bell;  // low half a futex: rises when something may be claimed
  base::word sleepers;           // consumers that sleep, or are about to
  base::word settle_sleepers;    // those of them that wait for a message to be settled
  alignas(128) base::word paused_until;  // ticks; 0 = not paused, ~0 = until resumed
  base::word active;                     // exclusive and failover: member + 1:32 | token:32
  base::word tokens;                     // fencing tokens given out
  base::word claims;                     // leases given: each one's fencing token
  base::word last_member_ticks;          // somebody was here
  base::word released_ring;              // 1: idle for too long, does not hold publishers back
  base::word closed;                     // 1: the group was removed
  base::word blocks_reserved;            // blocks of the arena that are backed by memory
  base::word members_used;               // members above were never there
  base::word begun;                      // 1: all lanes that there were at first are entered
  alignas(128) base::word move_intent;   // slot:24 | low bits of the dead letter's sequence:40
  base::word discarded;                  // dead letters that dlq=none dropped: count:40 | seq:24
  base::word dead_letters_floor;         // position in the dead-letter lane: below, dropped
  base::word dead_letters_floor_seq;
  base::word dead_letters_dropped;
  alignas(128) group_lists lists;
  alignas(128) group_counters counters;
};
static_assert(std::is_standard_layout_v<group_header>);
static_assert(offsetof(group_header, info) == 64);
static_assert(offsetof(group_header, lock) == 2560);
static_assert(offsetof(group_header, settled_by) == 2688);
static_assert(offsetof(group_header, bell) == 2816);
static_assert(offsetof(group_header, paused_until) == 2944);
static_assert(offsetof(group_header, move_intent) == 3072);
static_assert(offsetof(group_header, lists) == 3200);
static_assert(offsetof(group_header, counters) == 3328);

inline constexpr std::uint64_t group_cursors_offset = 8192;
inline constexpr std::uint64_t group_pins_offset =
    group_cursors_offset + group_lanes_max * sizeof(group_cursor);
inline constexpr std::uint64_t group_pin_bytes = 64;
inline constexpr std::uint64_t group_members_offset =
    group_pins_offset + group_lanes_max * group_pin_bytes;
static_assert(sizeof(group_header) <= group_cursors_offset);
static_assert(group_members_offset % 4096 == 0);

/// Where the tables lie.
struct group_geometry {
  std::uint64_t settled = 0, timers = 0, key_index = 0, keys = 0, slots = 0, details = 0, chain = 0,
                blocks = 0, total = 0;

  /// Each busy key has a slot; without order=key there are none.
  static constexpr std::uint32_t keys_of(std::uint32_t slots, std::uint32_t capacity) noexcept {
    return slots < capacity ? slots : capacity;
  }
  static constexpr group_geometry of(std::uint32_t members, std::uint32_t slots, std::uint32_t keys,
                                     std::uint32_t blocks) noexcept {
    constexpr auto page = [](std::uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; };
    group_geometry g;
    g.settled = group_members_offset + page(members * sizeof(group_member));
    g.timers = g.settled + page(members * sizeof(group_settled));
    g.key_index = g.timers + page(slots * sizeof(group_timer));
    g.keys = g.key_index + page(keys * sizeof(std::uint32_t));
    g.slots = g.keys + page(keys_of(slots, keys) * sizeof(group_key));
    g.details = g.slots + page(slots * sizeof(group_slot));
    g.chain = g.details + page(slots * sizeof(group_slot_details));
    g.blocks = g.chain + page(blocks * sizeof(std::uint32_t));
    g.total = g.blocks + page(std::uint64_t{blocks} * group_block_bytes);
    return g;
  }
};

/// In a readers table a group stands with this in place of a process; its pins lie in its file.
inline constexpr std::uint32_t group_reader = 0xffffffffu;
constexpr bool is_group_reader(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry >> 32) == group_reader;
}

}  // namespace bus::layout
