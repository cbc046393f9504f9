#pragma once
/// seeded_fault: mistakes that the library makes when a test asks for them, so that the test can
/// prove that it would notice.
///
/// Nothing at all in the product; only the test build of the library (BUS_FAILPOINTS) has them.

#include <atomic>
#include <cstdint>

namespace bus::sync {

enum class fault : std::uint8_t {
  none,
  cursor_before_slots,          // GROUP-2 the other way round
  ack_without_generation,       // GROUP-1: whoever had the lease before may settle it, too
  dead_letter_freed_too_early,  // GROUP-4: a crash in between loses the message
  dead_letter_written_again,    // GROUP-4: what was announced is not looked at after a crash
  unlisted_never_collected,     // GROUP-3: what a dead member settled last, and told nobody
  passed_over_unlisted,      // GROUP-3: an entry is passed over whose holder is about to settle it
  key_released_early,        // Q6: a message that waits for its retry does not hold its key
  returned_is_settled,       // what comes back is taken for done
  passed_over_is_forgotten,  // a key that has too many waiting loses those
  unstarted_fails,           // a lease that ends counts, whether its message was begun or not
  loss_unreported,           // what the ring lost is counted, and no consumer hears of it
  place_stays_active,        // a dead active member's place is still the active one
  newcomers_forgotten,       // N2: a new lane holds back for those only who have come to it
  changes_misnamed,          // J1: an entry of the journal says that nothing changed
  dead_change_unmarked       // who dies at a change leaves no mark of it
};

#if defined(BUS_FAILPOINTS)
inline std::atomic<fault> seeded{fault::none};  // of this process and those that it forks
inline bool makes(fault one) noexcept { return seeded.load(std::memory_order_relaxed) == one; }
#else
constexpr bool makes(fault) noexcept { return false; }
#endif

}  // namespace bus::sync
