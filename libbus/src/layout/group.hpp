#pragma once
/// group: the file `streams/S/groups/G`: a group's cursors and unsettled messages.
///
/// Written by every consumer of the group. Words are changed without the lock only where noted;
/// everything else is changed under `lock`.
/// The cursors and the slots' status words decide. Lists, the heap, the table of keys and all
/// counts are indexes: a repair rebuilds them.
/// Format     docs/format/group.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/shared_field.hpp"
#include "base/word.hpp"
#include "layout/segment_header.hpp"

namespace bus::layout {

inline constexpr std::uint32_t group_lanes_max = 64;
inline constexpr std::uint32_t group_members_max = 4095;  // as many as the owner's bits can name
inline constexpr std::uint32_t group_slots_max = 1u << 22;
inline constexpr std::uint32_t group_backoff_max = 16;
inline constexpr std::uint32_t group_filter_bytes = 2048;
inline constexpr std::uint32_t group_name_bytes = 64;
inline constexpr std::uint32_t group_block_bytes = 256;  // of the hold arena
inline constexpr std::uint32_t no_index = 0xffffffffu;

enum class slot_state : std::uint32_t {
  free = 0,
  ready = 1,    // to be handed out again
  leased = 2,   // held by a member
  delayed = 3,  // to be handed out again at `due`
  parked = 4,   // its key is busy
  dying = 5,    // waits for room in the dead letters
  moving = 6,   // being written there by the holder of the lock
  settled = 7,  // by its holder, without the lock; not collected yet
  skipped = 8,  // not a message: from this sequence on, the key's messages were passed over
};

/// The status of one message, in one word.
struct slot_status {
  slot_state state = slot_state::free;
  bool started = false;
  std::uint32_t owner = 0;       // member number
  std::uint32_t acquired = 0;    // times handed out
  std::uint32_t failed = 0;      // times that it failed
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

/// Parts of a packed status.
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

/// One pending message. 64 bytes, one line: all that claim and settle touch.
struct alignas(64) group_slot {
  /// slot_status. The holder changes leased to settled without the lock (edge Q1).
  base::word status;
  /// Where the message is from: sequence:56 | lane:8.
  base::word origin;
  /// Position in the ring; with bit 63, first block of a copy in the hold arena.
  base::word location;
  /// Ticks when it was leased or extended.
  base::word since;
  /// Hash of the key; 0: none.
  base::word key;
  /// The next slot of the list that the state implies: free, ready, parked, dying. From here on
  /// changed under the lock.
  base::field32 next;
  /// List of the leases that end ack_wait after `since`.
  base::field32 lease_previous, lease_next;
  /// List of the slots whose record lies in the lane's ring, by position.
  base::field32 ring_previous, ring_next;
  /// Index in the heap of timers, or no_index.
  base::field32 heap_index;
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

/// What only messages that failed or wait need. Changed under the lock.
struct alignas(64) group_slot_details {
  /// Ticks at which a delayed message, or a lease with an end of its own, is due.
  base::field64 due;
  /// Ticks when it was first handed out.
  base::field64 first_ticks;
  /// Ticks when an extended lease was claimed.
  base::field64 lease_begin;
  /// Of a skipped key: messages passed over:32 | cursor of the claim that counted last:32.
  base::field64 skipped;
  /// First arena block of the failure: name of the member, newline, text.
  base::field32 reason_block;
  /// Bytes of that text; 0: none.
  base::field32 reason_bytes;
  /// Reason of the death.
  base::field32 death;
  base::field32 reserved;  ///<  written as 0
  /// The count without that claim, which counts once its cursor is stored.
  base::field64 skipped_before;
  base::field64 reserved_too;  ///< written as 0
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

/// An entry of the heap of timers, sorted by `due`.
struct group_timer {
  /// Ticks, as in the slot's details.
  base::field64 due;
  /// Index of the slot.
  base::field32 slot;
  base::field32 reserved;
};
static_assert(sizeof(group_timer) == 16);

/// A key that a message of the window holds or waits for. Slot numbers are + 1, so that zeroes are
/// empty.
struct group_key {
  base::field64 key;          ///< hash; 0: free
  base::field32 holder;       ///< the message that is out, or next
  base::field32 first, last;  ///< list of the parked; of a free key: `first` is the next, + 1
  base::field32 parked;       ///< how many
  base::field32 skip;         ///< the slot from whose sequence on its messages were passed over
  /// Bit 0: that slot is in the list of those to be looked at again. Bits 1-31: place in the index.
  base::field32 where;

  bool is_looked_at_again() const noexcept { return (where & 1) != 0; }
  void look_again(bool yes) noexcept { where = (where & ~1u) | (yes ? 1u : 0u); }
  std::uint32_t place() const noexcept { return where >> 1; }
  void set_place(std::uint32_t to) noexcept { where = (where & 1u) | to << 1; }
};
static_assert(sizeof(group_key) == 32);

struct alignas(64) group_member {
  base::word who;  ///< process id:32 | consumer id:32; 0: free. Taken by compare-and-swap
  base::word claimed, settled;  ///< statistics, written by the member
  base::word joined_by;         ///< pid:32 | thread id:32, as its own namespace knows them
  base::word reserved[4];
  char name[64];
};
static_assert(sizeof(group_member) == 128);

/// What a member settled, in that order, for the holder of the lock to collect.
struct alignas(64) group_settled {
  static constexpr std::uint64_t places = 128;
  base::word tail;                       ///< entries written, by the member (edge Q3)
  alignas(64) base::word head;           ///< entries collected, written by the holder of the lock
  alignas(64) base::word entry[places];  ///< slot:32 | generation of the lease:32
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

/// A group's cursor in a lane: everything at or above is unclaimed. There are two copies, so that
/// one store changes all of it.
struct group_position {
  base::word position;  ///< of the first unclaimed record
  base::word seq;
  base::word filtered;  ///< messages below that did not match
  base::word dropped;   ///< messages below that the ring had lost
};
struct alignas(128) group_cursor {
  group_position copy[2];
  /// 0 or 1: the copy that counts (edge Q2).
  base::word which;
  /// 1: the lane was entered.
  base::word attached;
  /// Sequence with which the group began.
  base::word first_seq;
  /// List of the slots whose record lies in this ring.
  base::field32 ring_first, ring_last;
  /// How many of `dropped` were reported to a consumer.
  base::word told;
  /// First sequence of those that were not.
  base::word lost_first;
  base::word reserved[2];
};
static_assert(sizeof(group_cursor) == 128);

/// The constants of a group. Durations in nanoseconds.
struct group_info {
  std::uint64_t stream_id;
  std::uint64_t group_epoch;  ///< random; no two groups have the same
  std::uint32_t ordinal;      ///< random, 31 bits: names the group in readers tables
  std::uint32_t slot_count, member_count, key_capacity, block_count;
  std::uint32_t ack, order, on_fail, mode, start_kind;
  std::uint32_t max_ack_pending, max_delayed, max_parked;
  std::int32_t max_deliver;  ///< -1: no limit
  std::uint32_t backoff_count, jitter_permille;
  std::uint32_t dead_letters;  ///< 1: there is a dead-letter stream
  std::uint32_t headers_all;   ///< 1: all header conditions must hold; 0: any
  std::uint32_t filter_count, header_count;
  std::uint64_t ack_wait_ns, max_lease_ns, idle_release_ns;
  std::uint64_t start_value;  ///< sequence, or wall clock in ns
  std::uint64_t hold_bytes;
  std::uint64_t backoff_ns[group_backoff_max];
  char name[group_name_bytes];
  char stream[group_name_bytes];
  char filter[group_filter_bytes];  ///< patterns, then key=value conditions, each with a zero byte
  std::uint64_t check;              ///< hash of all bytes above
};
static_assert(std::has_unique_object_representations_v<group_info>);

/// Heads of lists, and counts. All are indexes.
struct group_lists {
  base::field32 free_first, free_count;
  base::field32 ready_first, ready_last, ready_count;
  base::field32 lease_first, lease_last, lease_count;
  base::field32 timer_count, delayed_count, parked_count;
  base::field32 dying_first, dying_last, dying_count;
  base::field32 rescan_first;  ///< skipped keys that no message holds any more
  base::field32 block_first, block_free;
  base::field32 slots_used;  ///< slots at or above were never used
  base::field32 key_count;
  base::field32 key_free;   ///< + 1; 0: none
  base::field32 keys_used;  ///< keys at or above were never used
  base::field32 reserved;
};

/// Sums for people. No decision depends on them.
struct group_counters {
  base::word claimed, redelivered, nacked, released, rejected, expired, died, dead, repaired,
      returned_unstarted, held_copies, extended;
};

struct group_header {
  segment_header segment;
  group_info info;
  /// As a lane's lock (edge L1).
  alignas(128) base::word lock;
  /// 1: the group is damaged; only a repair clears it.
  base::word damaged;
  alignas(128) base::word
      /// Members that settled something, bit = number % 64 (GROUP-3).
      settled_by;
  /// 1: some settled slots are in no member's queue (GROUP-3).
  base::word unlisted;
  /// Its low half is a futex: rises when something may be claimed.
  alignas(128) base::word bell;
  /// Consumers that sleep, or are about to.
  base::word sleepers;
  /// Those of them that wait for a message to be settled.
  base::word settle_sleepers;
  /// Ticks; 0: not paused; ~0: until resumed.
  alignas(128) base::word paused_until;
  /// Exclusive and failover: member + 1:32 | fencing token:32.
  base::word active;
  /// Fencing tokens given out.
  base::word tokens;
  /// Leases given out. The new value is the lease's fencing token.
  base::word claims;
  /// Ticks when a consumer was last there.
  base::word last_member_ticks;
  /// 1: idle for too long, so the group does not hold publishers back.
  base::word released_ring;
  /// 1: the group was removed.
  base::word closed;
  /// Blocks of the arena that are backed by memory.
  base::word blocks_reserved;
  /// Members at or above were never there.
  base::word members_used;
  /// 1: all lanes that existed at first are entered.
  base::word begun;
  /// Announced dead letter: slot:24 | low bits of its sequence, or of `discarded`:40 (GROUP-4).
  alignas(128) base::word move_intent;
  /// Messages that died in a group without dead letters.
  base::word discarded;
  /// Position in the dead-letter lane: letters below were dropped by hand.
  base::word dead_letters_floor;
  /// Its sequence; 0 means 1.
  base::word dead_letters_floor_seq;
  /// Dead letters that were dropped by hand.
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

/// Offsets of the tables.
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

/// Replaces the process in a group's entry of a readers table; the pins are in the group's file.
inline constexpr std::uint32_t group_reader = 0xffffffffu;
constexpr bool is_group_reader(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry >> 32) == group_reader;
}

}  // namespace bus::layout
