/// lane_log, retention: which segments go.

#include <algorithm>

#include "storage/lane_log.hpp"

namespace bus::storage {

std::size_t lane_log::retain(const retention_limits& limits, std::uint64_t now_ns) {
  std::size_t removed = 0;
  while (segments_.size() > 1) {
    segment& after = segments_[1];
    bool goes = false;
    if (limits.max_bytes != 0 && bytes_on_disk() > limits.max_bytes) goes = true;
    if (limits.max_messages != 0 && after.base_seq + limits.max_messages <= next_seq_) goes = true;
    if (!goes && limits.max_age_ns != 0) {
      if (!after.first_time_ns) {
        log::segment_reader probe(disk_);
        log::logged_record record;
        if (probe.open(log::segment_path(directory_, after.base_seq), state_.log_id,
                       after.base_seq) == 0 &&
            probe.next(record) == log::walk_outcome::record)
          after.first_time_ns = record.time_ns;
      }
      goes = after.first_time_ns && *after.first_time_ns + limits.max_age_ns < now_ns;
    }
    if (!goes) break;
    const std::uint64_t base_seq = segments_.front().base_seq;
    if (disk_.remove(log::segment_path(directory_, base_seq)) != 0) break;
    (void)disk_.remove(directory_ + "/" + log::index_name(base_seq));
    segments_.pop_front();
    ++removed;
  }
  return removed;
}

void lane_log::drop_consumed(std::uint64_t seq) {
  while (segments_.size() > 1 && segments_[1].base_seq <= seq) {
    const std::uint64_t base_seq = segments_.front().base_seq;
    if (disk_.remove(log::segment_path(directory_, base_seq)) != 0) return;
    (void)disk_.remove(directory_ + "/" + log::index_name(base_seq));
    segments_.pop_front();
  }
}

result<void> lane_log::purge(std::uint64_t seq) {
  // Or a crash would leave sequences to give out that nobody ever sees.
  if (written_seq_ > durable_seq_) {
    auto synced = sync();
    if (!synced) return synced;
  }
  layout::log_state state = state_;
  state.first_seq = std::max(std::min(seq, written_seq_ + 1), state.first_seq);
  const int failure = log::write_state(disk_, directory_, state);
  if (failure != 0) return failed(failure, "cannot write the state of a log");
  state_ = state;
  drop_consumed(state.first_seq);
  return {};
}

}  // namespace bus::storage
