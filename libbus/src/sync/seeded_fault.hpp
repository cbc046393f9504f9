#pragma once
/// seeded_fault: mistakes that the library makes at a test's request, so that the test can prove
/// that it would notice.
///
/// Compiles to nothing in the product: only the library's test build (BUS_FAILPOINTS) has them.

#include <atomic>
#include <cstdint>

namespace bus::sync {

enum class fault : std::uint8_t {
  none,
  cursor_before_slots,          // GROUP-2 in the wrong order
  ack_without_generation,       // GROUP-1: a former holder of the lease may settle it, too
  dead_letter_freed_too_early,  // GROUP-4: a crash in between loses the message
  dead_letter_written_again,    // GROUP-4: an announced one is not searched for after a crash
  unlisted_never_collected,     // GROUP-3: a dead member's last, unannounced settlement
  passed_over_unlisted,         // GROUP-3: an entry is passed whose holder is about to settle it
  key_released_early,           // Q6: a message that waits for its retry does not hold its key
  returned_is_settled,          // a returned message is taken for settled
  passed_over_is_forgotten,     // a key with too many waiting messages loses them
  timed_leases_forgotten,       // leases with a time of their own are in no list of leases
  unstarted_fails,              // a lease that expires counts as failed, started or not
  loss_unreported,              // losses in the ring are counted, and reported to no consumer
  place_stays_active,           // a dead active member's entry remains the active one
  newcomers_forgotten,          // N2: a new lane holds back only for those that came to it
  changes_misnamed,             // J1: an entry of the journal reports no change
  dead_change_unmarked          // a process that dies during a change leaves no mark of it
};

#if defined(BUS_FAILPOINTS)
inline std::atomic<fault> seeded{fault::none};  // of this process and its forked children
inline bool makes(fault one) noexcept { return seeded.load(std::memory_order_relaxed) == one; }
#else
constexpr bool makes(fault) noexcept { return false; }
#endif

}  // namespace bus::sync
