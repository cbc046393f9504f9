#pragma once
/// core: what happens to the messages of a group: claim, settle, failure, retry, death, and repair
/// after a crash.
///
/// Invariants
///   GROUP-0  A message at or above the cursor is unclaimed. Below it and in no slot it is settled,
///            filtered, dropped, or a dead letter.
///   GROUP-1  The status of a message is one word. leased -> settled is the only change without
///            the lock, a compare-and-swap by the holder. Every other change away from leased is a
///            compare-and-swap, too: exactly one wins, and the generation makes all former holders
///            `stale`.
///   GROUP-2  Slots are filled first, then the cursor is stored: a slot at or above its lane's
///            cursor is void. So a crash during a claim claims nothing.
///   GROUP-3  The holder of the lock may collect any settled slot. The members' queues name them,
///            as a hint: an entry is written before the decision, so that no settled slot is
///            missing there. An entry whose slot is not settled under its generation is passed
///            over, but one that is still leased is waited for. A member that finds its queue full,
///            or its entry passed over, sets `unlisted`: then all leases are checked.
///   GROUP-4  A dead letter is announced (move_intent), decided (moving), written, and only then
///            its slot is freed: after a crash it is in the dead letters, or will be, exactly once.
///   GROUP-5  The record of a slot is in its lane's ring, held by the group's pin, or in the arena.
///   GROUP-6  Of one key at most one message is out: ready, leased, or delayed while on_fail=block.
///
/// REQUIRES the group's lock for everything but ack, start, is_held and may_collect.
/// Nothing here waits or enters the kernel. Only repair and dead_letter_sink::scratch allocate.

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "group/group_memory.hpp"
#include "group/hold_arena.hpp"
#include "ring/lane_memory.hpp"
#include "ring/lane_reader.hpp"
#include "ring/pin.hpp"

namespace bus::group {

enum class settled : std::uint8_t { ok, stale, already };

enum class death : std::uint32_t { none, rejected, expired, max_deliver };

struct lease_token {
  std::uint32_t slot = no_index;
  std::uint32_t generation = 0;
  std::uint64_t origin = 0;
};

/// One message as it is handed out.
struct claimed {
  lease_token token;
  std::uint64_t location = 0;
  std::uint32_t acquired = 0;  // including this time
  std::uint32_t failed = 0;
  std::uint64_t number = 0;  // of the lease: rises in the group
};

enum class nothing_because : std::uint8_t {
  empty,   // every message is claimed
  window,  // max_ack_pending
  slots,   // no free slot: delayed, parked and dying messages hold them
  paused,
  standby,      // another member is the active one
  unknown,      // a subject must be learned first, outside the lock
  broken_lane,  // see its reader's outcome
  rescanning,   // ready messages may be there now: try again
  more,         // enough for one turn of the lock: try again
};

/// Where dead letters go. Implemented by dead_letters; null in tests without deaths.
class dead_letter_sink {
 public:
  struct dead_letter {
    std::uint32_t attempts = 0;
    std::uint64_t first_ticks = 0;  // when it was first handed out
    std::uint32_t lane = 0;
    std::uint64_t seq = 0;
    death why = death::none;
    const std::byte* record = nullptr;  // the whole record, contiguous
    std::uint64_t record_bytes = 0;
    layout::record_shape shape{};     // of the record, as checked
    std::string_view member, reason;  // the last holder, and the error
  };
  virtual ~dead_letter_sink() = default;
  /// The sequence that the next dead letter gets.
  virtual std::uint64_t next_seq() noexcept = 0;
  virtual bool has_room(std::uint64_t record_bytes) noexcept = 0;
  /// REQUIRES: has_room
  virtual void append(const dead_letter& l) noexcept = 0;
  /// A buffer for a contiguous copy of a record. Null: the record is too large.
  virtual std::byte* scratch(std::uint64_t bytes) noexcept = 0;
};

/// The place of a key is prefetched this many messages before it is needed.
inline constexpr std::uint64_t keys_ahead = 4;

/// Limit of the text of a failure; the rest is cut off.
inline constexpr std::size_t reason_max_bytes = 256;

inline constexpr std::uint64_t intent_mask = (1ull << 40) - 1;

class core {
 public:
  core(group_memory& memory, dead_letter_sink* dead_letters) noexcept
      : m_(memory), dead_letters_(dead_letters) {}

  void use_dead_letters(dead_letter_sink* dead_letters) noexcept { dead_letters_ = dead_letters; }
  /// Sets the mapping of a lane in this process.
  void know_lane(std::uint32_t lane, const ring::lane_memory& memory) noexcept {
    lanes_[lane] = memory;
  }
  bool knows_lane(std::uint32_t lane) const noexcept {
    return lane < layout::group_lanes_max && lanes_[lane].header != nullptr;
  }

  // --- without the lock

  /// Called by one thread per member.
  settled ack(const lease_token& token, std::uint32_t member) noexcept;
  /// From now on the lease counts as failed if its holder dies.
  settled start(const lease_token& token) noexcept;
  bool is_held(const lease_token& token) const noexcept;

  // --- under the lock

  /// Collects what this member settled, and handles due timers, ended leases, and dead letters that
  /// waited for room. What other members settled is left to collect().
  void housekeep(std::uint64_t now, std::uint32_t member) noexcept {
    collect_from(member);
    if (m_.lists().dying_count != 0 || next_event() <= now) [[unlikely]]
      run_events(now);
  }
  void housekeep(std::uint64_t now) noexcept {
    collect();
    if (m_.lists().dying_count != 0 || next_event() <= now) run_events(now);
  }
  /// Collects what all members settled. `member`: its own queue is always checked.
  void collect(std::uint32_t member = no_index) noexcept;
  /// Collects every settled slot among the leases, even if its member was stopped before it
  /// announced it. Returns how many.
  std::uint32_t collect_unlisted() noexcept;
  /// True when another member may have settled something that is not collected. Needs no lock.
  bool may_collect(std::uint32_t member) const noexcept {
    return (sync::load_relaxed(m_.header->settled_by) & ~own_bit(member)) != 0 ||
           sync::load_relaxed(m_.header->unlisted) != 0;
  }
  /// True when this thread's last ack filled the member's queue: the member should collect.
  bool take_queue_full() noexcept { return std::exchange(queue_full_, false); }
  /// A feed receives what is handed out, and knows the messages:
  ///   match(view)         yes, no, unknown: is it for this group?
  ///   key(view)           hash of its key; 0: none
  ///   full(view)          true: it takes no more now
  ///   take(view, claimed) a new message
  ///   undo()              the last message taken was overwritten: drop it
  ///   again(claimed)      a message that was out before; false: it takes no more
  ///   starts()            true: work on the message is about to begin
  template <class Reader, class Feed>
  nothing_because claim(std::uint32_t lane, std::uint32_t member, std::uint32_t max,
                        std::uint64_t now, Reader& reader, Feed& feed) noexcept;
  /// Hands out messages that were out before, or whose key became free. Returns how many.
  template <class Feed>
  std::uint32_t claim_ready(std::uint32_t member, std::uint32_t max, std::uint64_t now,
                            Feed& feed) noexcept;
  std::uint32_t window(std::uint32_t max) const noexcept;

  settled nack(const lease_token& token, std::uint64_t now, const std::uint64_t* delay,
               std::string_view reason) noexcept;
  settled release(const lease_token& token) noexcept;
  settled reject(const lease_token& token, std::string_view reason) noexcept;
  settled extend(const lease_token& token, std::uint64_t now,
                 const std::uint64_t* duration) noexcept;
  /// Settles all messages of the lane up to `seq` that this member holds. Returns how many.
  std::uint32_t ack_all(std::uint32_t member, std::uint32_t lane, std::uint64_t seq) noexcept;

  /// Returns the member's leases to the group. Returns how many.
  std::uint32_t member_died(std::uint32_t member, std::uint64_t now) noexcept;
  /// Collects what the member settled last without announcing it. No thread of it may still store.
  void member_left(std::uint32_t member) noexcept;
  /// Takes over the entry of a former member.
  void member_joins(std::uint32_t member) noexcept;

  /// Rebuilds all indexes. Returns how many slots were invalid and were dropped. Without
  /// `knows_subject` the subject ids of the records are trusted.
  std::uint32_t repair(const std::function<bool(std::uint32_t)>& knows_subject = {}) noexcept;

  /// Blocks of the arena from `from` on are backed by memory now. Does nothing if another process
  /// has added them.
  void add_blocks(std::uint32_t from, std::uint32_t count) noexcept;

  /// True when a publisher waits for space in the lane.
  bool has_waiting_publisher(std::uint32_t lane) const noexcept {
    return sync::load_relaxed(lanes_[lane].header->counters.waiting) != 0;
  }
  /// Bytes between the pin and the cursor.
  std::uint64_t pin_lag(std::uint32_t lane) const noexcept;
  /// Lets publishers overwrite what is no longer needed. True: the pin rose.
  bool update_pin(std::uint32_t lane) noexcept;
  /// Copies out all records that are still in the lane's ring. False: one of them cannot be copied.
  bool empty_ring(std::uint32_t lane) noexcept;
  /// Copies out records that lag by more than half a ring, a few per claim.
  void relieve(std::uint32_t lane, std::uint32_t claims) noexcept;
  /// When housekeep has something to do; ~0: not known.
  std::uint64_t next_event() const noexcept;

  lane_cursor cursor_of(std::uint32_t lane) const noexcept { return read_cursor(m_.cursors[lane]); }
  /// The lane in which passed-over messages are searched for first; no_index: there are none.
  std::uint32_t rescan_lane() const noexcept {
    const std::uint32_t first = m_.lists().rescan_first;
    return first == 0 ? no_index
                      : layout::lane_of_origin(sync::load_relaxed(m_.slot(first - 1).origin));
  }
  void store_cursor(std::uint32_t lane, const lane_cursor& to) noexcept;

  ring::pin_words& pin(std::uint32_t lane) const noexcept {
    return reinterpret_cast<ring::pin_words*>(m_.pins)[lane];
  }
  group_memory& memory() noexcept { return m_; }
  const ring::lane_memory& lane_memory(std::uint32_t lane) const noexcept { return lanes_[lane]; }

  /// Reads `bytes` of a message's record from `offset` on, wherever it lies.
  void read_record(const layout::group_slot& slot, std::uint64_t offset, std::byte* to,
                   std::uint64_t bytes) const noexcept;
  layout::record_shape shape_of(const layout::group_slot& slot) const noexcept;

  /// True when something became ready, or space in the window free: the caller wakes sleepers.
  bool take_wake_request() noexcept { return std::exchange(wake_consumers_, false); }
  /// Leases that ended at `ack_wait` since the last call, oldest first. When the buffer of
  /// unreported ones is full, further leases wait.
  struct expired_lease {
    std::uint64_t origin = 0;
    std::uint32_t owner = 0;
    bool started = false;
    char name[sizeof(layout::group_member::name)] = {};  // the owner's at that time
  };
  bool has_expired() const noexcept { return expired_count_ != 0; }
  template <class Tell>
  void drain_expired(Tell&& tell) noexcept {
    const std::uint32_t count = std::exchange(expired_count_, 0);
    for (std::uint32_t i = 0; i < count; ++i) tell(expired_[i]);
  }
  /// An active member that hung was deposed; no_index: none was.
  bool has_deposed() const noexcept { return deposed_ != no_index; }
  const char* deposed_name() const noexcept { return deposed_name_; }
  std::uint32_t take_deposed() noexcept { return std::exchange(deposed_, no_index); }
  /// The member is no longer the active one; its leases end as usual.
  /// REQUIRES: the lock.
  void depose(std::uint32_t member) noexcept;
  /// REQUIRES: the lock.
  /// Cost: a walk over all leases
  bool has_lease_of(std::uint32_t member) const noexcept;

  /// Messages that the ring had lost before they were claimed. `count` is exact for the lane.
  struct loss {
    std::uint64_t first = 0, count = 0;
  };
  /// Counts a loss, and keeps it until it is reported to a consumer.
  /// REQUIRES for this and take_loss: the lock.
  void note_lost(std::uint32_t lane, lane_cursor& at, std::uint64_t first,
                 std::uint64_t count) noexcept {
    auto& cursor = m_.cursors[lane];
    if (at.dropped == sync::load_relaxed(cursor.told))
      sync::store_relaxed(cursor.lost_first, first);
    at.dropped += count;
    has_lost_ = true;
  }
  void look_for_losses() noexcept { has_lost_ = true; }
  bool has_lost() const noexcept { return has_lost_; }
  void clear_losses() noexcept { has_lost_ = false; }
  /// The losses that no consumer was notified of; from now on they count as reported.
  loss take_loss(std::uint32_t lane) noexcept;
  /// True when a dead letter was written: the caller wakes its readers.
  bool take_wrote_dead_letter() noexcept { return std::exchange(wrote_dead_letter_, false); }

 private:
  friend struct repairer;
  template <class Feed>
  struct claim_sink;

  slot_status status(std::uint32_t index) const noexcept {
    return slot_status::unpack(sync::load_acquire(m_.slot(index).status));
  }
  static void store_status(layout::group_slot& slot, slot_status to) noexcept {
    // [Q1] release: the other fields before the word that makes them count.
    sync::store_release(slot.status, to.pack());
  }
  void store_status(std::uint32_t index, slot_status to) const noexcept {
    store_status(m_.slot(index), to);
  }
  // Stored before the status, so that no number is given twice, whichever process dies.
  std::uint64_t next_number() noexcept {
    const std::uint64_t number = sync::load_relaxed(m_.header->claims) + 1;
    sync::store_relaxed(m_.header->claims, number);
    return number;
  }
  bool leave_lease(std::uint32_t index, slot_status from, slot_status to) noexcept;
  settled held(const lease_token& token, slot_status& found) const noexcept;
  settled held(const lease_token& token, std::uint64_t& found) const noexcept;

  // A member that is alone with its bit checks its own queue anyway, without clearing the bit.
  std::uint64_t own_bit(std::uint32_t member) const noexcept {
    return member < 64 && sync::load_relaxed(m_.header->members_used) <= 64 ? 1ull << member : 0;
  }
  template <class Act>
  void each_lease(Act&& act) noexcept;
  void collect_from(std::uint32_t member) noexcept;
  void collect_slot(layout::group_slot& slot, std::uint32_t index) noexcept;
  void run_events(std::uint64_t now) noexcept;
  void finish(layout::group_slot& slot, std::uint32_t index) noexcept;
  void unlink_lease(layout::group_slot& slot, std::uint32_t index) noexcept;
  void leave_ring(layout::group_slot& slot, std::uint32_t index) noexcept;
  void drop_record(layout::group_slot& slot, std::uint32_t index) noexcept;
  void drop_copy(std::uint32_t index) noexcept;
  void drop_reason(std::uint32_t index) noexcept;
  void relieve_ring(std::uint32_t lane, std::uint64_t end, std::uint32_t claims) noexcept;
  bool copy_out_of_ring(std::uint32_t index) noexcept;
  bool fail(std::uint32_t index, slot_status old, const std::uint64_t* delay, death last,
            std::uint64_t now) noexcept;
  bool return_unstarted(std::uint32_t index, slot_status t) noexcept;
  void to_ready(std::uint32_t index, slot_status to, bool in_front) noexcept;
  void to_delayed(std::uint32_t index, slot_status to, std::uint64_t due) noexcept;
  void timer_due(std::uint32_t index, std::uint64_t now) noexcept;
  void to_death(std::uint32_t index, slot_status to, death why) noexcept;
  void decide_move(std::uint32_t index, slot_status t, std::uint64_t number) noexcept;
  bool try_move(std::uint32_t index) noexcept;
  void finish_move(std::uint32_t index) noexcept;
  void lease_expired(std::uint32_t index, slot_status t, std::uint64_t now) noexcept;
  void note_failure(std::uint32_t index, std::uint32_t owner, std::string_view reason) noexcept;
  std::uint64_t backoff_of(std::uint32_t failed, std::uint64_t salt) const noexcept;

  void release_key(std::uint32_t index) noexcept;
  void promote(layout::group_key* entry) noexcept;
  void park(layout::group_key& entry, std::uint32_t index, slot_status t) noexcept;
  enum class admission : std::uint8_t { out, parked, passed_over, no_room };
  /// `entry`: the one of the slot's key; null: the key is free. If it is not free, the slot waits,
  /// or marks the beginning of what is passed over.
  admission admit_key(std::uint32_t index, layout::group_key* entry) noexcept;
  /// True when the key's messages are passed over in this lane, and this one is counted with them.
  bool is_passed_over(const layout::group_key& key, std::uint32_t lane) noexcept;
  template <class Reader, class Feed>
  nothing_because rescan(std::uint32_t lane, Reader& reader, Feed& feed) noexcept;
  template <class Feed>
  struct rescan_sink;
  /// Takes in a message that was passed over, now in a slot: ready if its key is free, else parked.
  void take_up(std::uint32_t index) noexcept;
  /// What is passed over begins later from now on, or there is nothing more.
  void continue_from(std::uint32_t skip, bool nothing_left, std::uint64_t position,
                     std::uint64_t seq, std::uint32_t found) noexcept;
  std::uint32_t new_slot(std::uint32_t lane, const ring::record_view& view,
                         std::uint64_t key) noexcept;
  void undo_slot(std::uint32_t index) noexcept;
  /// Inserts a slot into the list of its ring, by position. `behind`: a slot before it, from which
  /// the search starts.
  void insert_in_ring(std::uint32_t behind, std::uint32_t index) noexcept;

  group_memory& m_;
  dead_letter_sink* dead_letters_;
  ring::lane_memory lanes_[layout::group_lanes_max] = {};
  struct known_key {
    std::uint64_t origin = 0, position = 0, key = 0;
  };
  known_key known_keys_[keys_ahead];  // of messages that come soon
  bool wake_consumers_ = false;
  bool wrote_dead_letter_ = false;
  bool queue_full_ = false;
  bool has_lost_ = false;
  std::uint32_t deposed_ = no_index;
  char deposed_name_[sizeof(layout::group_member::name)] = {};
  std::uint32_t expired_count_ = 0;
  expired_lease expired_[32];
};

}  // namespace bus::group

#include "group/claim.hpp"
