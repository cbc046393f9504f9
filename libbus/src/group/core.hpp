#pragma once
/// core: what happens to the messages of a group: claim, settle, failure, retry, death, and what a
/// crash left of them.
///
/// Invariants
///   GROUP-0  A message at or above the cursor is unclaimed; below it and in no slot it is settled,
///       filtered, dropped, or a dead letter.
///   GROUP-1  The truth about a message is one word. leased -> settled is the only change without
///       the lock, a compare-and-swap by the holder; every change away from leased is one, too:
///       exactly one wins, and the generation makes whoever held it before `stale`.
///   GROUP-2  Slots are filled first, then the cursor is stored: a slot at or above its lane's
///       cursor is void. So a crash in a claim claims nothing.
///   GROUP-3  Whoever holds the lock may collect any settled slot. Where they are the queues of the
///       members say, which is a hint: an entry is written before the decision, so that no settled
///       slot is missing there, and one whose slot is not settled under that generation is passed
///       over; one whose lease still stands is waited for. Who finds its queue full, or its entry
///       passed over, says `unlisted`: then all leases are looked at.
///   GROUP-4  A dead letter is announced (move_intent), decided (moving), written, and only then
///       its slot is freed: after a crash it is in the dead letters, or will be, exactly once.
///   GROUP-5  The record of a slot is in its lane's ring, held by the group's pin, or in the arena.
///   GROUP-6  Of one key at most one message is out: ready, leased, or delayed while on_fail=block.
///
/// REQUIRES the group's lock for everything but ack, start and check.
/// Nothing here waits or enters the kernel, and nothing but repair allocates.

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

/// One message as it was handed out.
struct claimed {
  lease_token token;
  std::uint64_t location = 0;
  std::uint32_t acquired = 0;  // this time included
  std::uint32_t failed = 0;
  std::uint64_t number = 0;  // of the lease: rises in the group
};

enum class nothing_because : std::uint8_t {
  empty,   // every message that there is is out
  window,  // max_ack_pending
  slots,   // no slot for another one: delayed, parked and dying ones have them
  paused,
  standby,      // another member is the active one
  unknown,      // a subject that must be learned first, outside the lock
  broken_lane,  // its reader says why
  rescanning,   // ready messages may be there now: ask again
  more,         // so many were looked at that others shall have the lock: ask again
};

/// Where dead letters go. Implemented by dead_letters; null in tests of what never dies.
class dead_letter_sink {
 public:
  struct dead_letter {
    std::uint32_t attempts = 0;
    std::uint64_t first_ticks = 0;  // handed out first
    std::uint32_t lane = 0;
    std::uint64_t seq = 0;
    death why = death::none;
    const std::byte* record = nullptr;  // whole, in one piece
    std::uint64_t record_bytes = 0;
    layout::record_shape shape{};     // of the record, as it was checked
    std::string_view member, reason;  // who had it last, and what was wrong
  };
  virtual ~dead_letter_sink() = default;
  /// The sequence that the next letter gets.
  virtual std::uint64_t next_seq() noexcept = 0;
  virtual bool has_room(std::uint64_t record_bytes) noexcept = 0;
  /// REQUIRES: has_room
  virtual void append(const dead_letter& l) noexcept = 0;
  /// A buffer for a record in one piece. Null: it is too large for it.
  virtual std::byte* scratch(std::uint64_t bytes) noexcept = 0;
};

/// So many messages before it is needed the place of a key is fetched.
inline constexpr std::uint64_t keys_ahead = 4;

/// Of why a message failed; what is longer is cut.
inline constexpr std::size_t reason_max_bytes = 256;

inline constexpr std::uint64_t intent_mask = (1ull << 40) - 1;

class core {
 public:
  core(group_memory& memory, dead_letter_sink* dead_letters) noexcept
      : m_(memory), dead_letters_(dead_letters) {}

  void use_dead_letters(dead_letter_sink* dead_letters) noexcept { dead_letters_ = dead_letters; }
  /// The lanes as this process has them mapped.
  void know_lane(std::uint32_t lane, const ring::lane_memory& memory) noexcept {
    lanes_[lane] = memory;
  }
  bool knows_lane(std::uint32_t lane) const noexcept {
    return lane < layout::group_lanes_max && lanes_[lane].header != nullptr;
  }

  // --- without the lock

  /// One thread per member.
  settled ack(const lease_token& token, std::uint32_t member) noexcept;
  /// The lease counts as failed from now on, should its holder die.
  settled start(const lease_token& token) noexcept;
  bool is_held(const lease_token& token) const noexcept;

  // --- under the lock

  /// What this member settled, timers that are due, leases that ended, dead letters that had no
  /// room. What others settled waits for collect().
  void housekeep(std::uint64_t now, std::uint32_t member) noexcept {
    collect_from(member);
    if (m_.lists().dying_count != 0 || next_event() <= now) [[unlikely]]
      run_events(now);
  }
  void housekeep(std::uint64_t now) noexcept {
    collect();
    if (m_.lists().dying_count != 0 || next_event() <= now) run_events(now);
  }
  /// What anybody settled. `member`: who looks at its own queue anyway.
  void collect(std::uint32_t member = no_index) noexcept;
  /// Looks at all leases: also for what its member told nobody of, because it was stopped. How
  /// many.
  std::uint32_t collect_unlisted() noexcept;
  /// Without the lock, too: has anybody but `member` settled what nobody has collected?
  bool may_collect(std::uint32_t member) const noexcept {
    return (sync::load_relaxed(m_.header->settled_by) & ~own_bit(member)) != 0 ||
           sync::load_relaxed(m_.header->unlisted) != 0;
  }
  /// This thread's last ack filled the member's queue: it should collect.
  bool take_queue_full() noexcept { return std::exchange(queue_full_, false); }
  /// A feed takes what is handed out, and knows the messages:
  ///   match(view)         yes, no, unknown: is it for this group?
  ///   key(view)           hash of its key, 0: none
  ///   full(view)          no more of them now
  ///   take(view, claimed) a new message;  undo(): it was overwritten, take it back
  ///   again(claimed)      one that was out before; false: no more
  ///   starts()            is work on it about to begin?
  template <class Reader, class Feed>
  nothing_because claim(std::uint32_t lane, std::uint32_t member, std::uint32_t max,
                        std::uint64_t now, Reader& reader, Feed& feed) noexcept;
  /// Messages that were out before, or whose key got free. How many.
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
  /// Everything of the lane up to the sequence that this member has. How many.
  std::uint32_t ack_all(std::uint32_t member, std::uint32_t lane, std::uint64_t seq) noexcept;

  /// Its leases go back. Returns how many.
  std::uint32_t member_died(std::uint32_t member, std::uint64_t now) noexcept;
  /// No thread of it stores any more: what it settled last, and told nobody, is collected.
  void member_left(std::uint32_t member) noexcept;
  /// Takes the place of one that is gone.
  void member_joins(std::uint32_t member) noexcept;

  /// Makes all indexes anew. Answers how many slots were nonsense and were dropped. Without
  /// `knows_subject` what the records say is trusted.
  std::uint32_t repair(const std::function<bool(std::uint32_t)>& knows_subject = {}) noexcept;

  /// Blocks of the arena from `from` on have memory behind them now; those of another call:
  /// nothing.
  void add_blocks(std::uint32_t from, std::uint32_t count) noexcept;

  /// Does a publisher wait for space in the lane?
  bool has_waiting_publisher(std::uint32_t lane) const noexcept {
    return sync::load_relaxed(lanes_[lane].header->counters.waiting) != 0;
  }
  /// Bytes that lie between the pin and what was claimed.
  std::uint64_t pin_lag(std::uint32_t lane) const noexcept;
  /// Publishers may overwrite what is below. True: it rose.
  bool update_pin(std::uint32_t lane) noexcept;
  /// Copies out everything that still lies in the lane's ring. False: there is no room for it.
  bool empty_ring(std::uint32_t lane) noexcept;
  /// Copies out what lags half a ring behind: some per claim.
  void relieve(std::uint32_t lane, std::uint32_t claims) noexcept;
  /// When housekeep has something to do; ~0: no time is known.
  std::uint64_t next_event() const noexcept;

  struct lane_cursor {
    std::uint64_t position = 0, seq = 0, filtered = 0, dropped = 0;
  };
  lane_cursor cursor_of(std::uint32_t lane) const noexcept;
  /// Messages that were passed over are to be looked at in this lane first; no_index: none are.
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

  /// A message's record, wherever it lies: `bytes` of it from `offset` on.
  void read_record(const layout::group_slot& slot, std::uint64_t offset, std::byte* to,
                   std::uint64_t bytes) const noexcept;
  layout::record_shape shape_of(const layout::group_slot& slot) const noexcept;

  /// Something became ready, or a place in the window free: whoever sleeps shall look.
  bool take_wake_request() noexcept { return std::exchange(wake_consumers_, false); }
  /// Leases that ended at `ack_wait` since the last call, oldest first. When as many as there is
  /// room for are not told yet, the next ones wait.
  struct expired_lease {
    std::uint64_t origin = 0;
    std::uint32_t owner = 0;
    bool started = false;
    char name[sizeof(layout::group_member::name)] = {};  // of the owner, then
  };
  bool has_expired() const noexcept { return expired_count_ != 0; }
  template <class Tell>
  void drain_expired(Tell&& tell) noexcept {
    const std::uint32_t count = std::exchange(expired_count_, 0);
    for (std::uint32_t i = 0; i < count; ++i) tell(expired_[i]);
  }
  /// An active member was found to hang, and is active no more; no_index: none was.
  bool has_deposed() const noexcept { return deposed_ != no_index; }
  const char* deposed_name() const noexcept { return deposed_name_; }
  std::uint32_t take_deposed() noexcept { return std::exchange(deposed_, no_index); }
  /// REQUIRES: the lock. The member is not the active one any more; its leases end as they would.
  void depose(std::uint32_t member) noexcept;
  /// REQUIRES: the lock.
  /// Cost: a look at all leases
  bool has_lease_of(std::uint32_t member) const noexcept;

  /// Messages that the ring had lost before they were claimed. `count` is exact for the lane.
  struct loss {
    std::uint64_t first = 0, count = 0;
  };
  /// REQUIRES for all: the lock. Counts a loss, and notes it until a consumer is told.
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
  /// What no consumer was told of yet; from now on it was.
  loss take_loss(std::uint32_t lane) noexcept;
  /// A dead letter was written: its readers shall look.
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
  // Before the truth that makes the lease: no number is given twice, whoever dies.
  std::uint64_t next_number() noexcept {
    const std::uint64_t number = sync::load_relaxed(m_.header->claims) + 1;
    sync::store_relaxed(m_.header->claims, number);
    return number;
  }
  bool leave_lease(std::uint32_t index, slot_status from, slot_status to) noexcept;
  settled held(const lease_token& token, slot_status& found) const noexcept;
  settled held(const lease_token& token, std::uint64_t& found) const noexcept;

  // Alone with this bit it need not be told of its own: it is not cleared for that.
  std::uint64_t own_bit(std::uint32_t member) const noexcept {
    return member < 64 && sync::load_relaxed(m_.header->members_used) <= 64 ? 1ull << member : 0;
  }
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
  /// `entry`: of its key; null: that is free. If not, the slot waits, or stands for all that were
  /// passed over.
  admission admit_key(std::uint32_t index, layout::group_key* entry) noexcept;
  /// Messages of this key are passed over. In this lane? Then this one is, too.
  bool is_passed_over(const layout::group_key& key, std::uint32_t lane) noexcept;
  template <class Reader, class Feed>
  nothing_because rescan(std::uint32_t lane, Reader& reader, Feed& feed) noexcept;
  template <class Feed>
  struct rescan_sink;
  /// A message that was passed over, in a slot now: out when its key is free, else parked.
  void take_up(std::uint32_t index) noexcept;
  /// What is passed over begins later from now on, or nothing is any more.
  void continue_from(std::uint32_t skip, bool nothing_left, std::uint64_t position,
                     std::uint64_t seq, std::uint32_t found) noexcept;
  std::uint32_t new_slot(std::uint32_t lane, const ring::record_view& view,
                         std::uint64_t key) noexcept;
  void undo_slot(std::uint32_t index) noexcept;
  /// Into the list of its ring, by position, looking from `behind` on, which lies before it.
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
