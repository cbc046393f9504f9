#pragma once
/// failpoint: named steps of publish, consume, attach, set-up and groups where a test can stop or
/// kill the process.
///
/// Compiles to nothing in the product. In the test build of the library (BUS_FAILPOINTS) each step
/// calls `failpoint_reached`, which the test defines.

#include <cstddef>
#include <cstdint>

namespace bus::sync {

enum class failpoint : std::uint8_t {
  publish_begin,
  publish_locked,
  publish_reserved,
  publish_header,
  publish_payload,
  publish_before_commit,
  publish_committed,
  publish_zeroed,
  publish_waypoint_open,
  publish_waypoint,
  publish_state_stored,
  publish_unlocked,
  publish_woken,
  reserve_candidate,
  reserve_scanned,
  reserve_done,
  open_record,
  open_progress,
  open_closing,
  batch_record,
  full_waiting,
  full_slept,
  lock_waiting,
  lock_taken_over,
  repair_begin,
  repair_walked,
  repair_waypoint,
  repair_end,
  lease_taken,
  lease_returned,
  consume_found,
  consume_copied,
  consume_checked,
  consume_delivered,
  consume_released,
  consume_tick,
  attach_announced,
  attach_pinned,
  attach_checked,
  attach_walked,
  detach_begin,
  detach_end,
  sleep_armed,
  sleep_woken,
  intern_locked,
  intern_written,
  intern_committed,
  create_stream_built,
  create_stream_named,
  create_lane_named,
  create_lane_announced,
  create_process_built,
  create_process_named,
  dead_cleared,
  remove_stream_renamed,
  claim_begin,  // the first step of groups
  claim_taking,
  claim_undone,
  claim_passed_over,
  claim_slots,
  claim_cursor,
  claim_again,
  claim_unlocked,
  settle_begin,
  settle_listed,
  settle_marked,
  settle_announced,
  collect_taken,
  collect_unlinked,
  collect_freed,
  key_promoted,
  key_to_rescan,
  rescan_found,
  rescan_placed,
  rescan_freed,
  return_marked,
  return_unlinked,
  extend_unlinked,
  timer_taken,
  hold_copied,
  hold_left_ring,
  death_announced,
  death_decided,
  death_written,
  death_freed,
  member_joined,
  member_returned,
  member_collected,
  pin_raised,
  group_repair_dropped,
  group_repair_sorted,
  group_repair_linked,
  group_repaired,
  group_file_built,
  group_file_named,
  group_announced,
  count
};

/// Name of a step, as tests and docs/memory_model.md use it.
const char* failpoint_name(failpoint at) noexcept;

#if defined(BUS_FAILPOINTS)
void failpoint_reached(failpoint at) noexcept;  // defined by the test
inline void reach(failpoint at) noexcept { failpoint_reached(at); }
#else
inline void reach(failpoint) noexcept {}
#endif

}  // namespace bus::sync
