/// lane_log, upkeep: what becomes of segments that are full. W6 is of lane_log.hpp.

#include <algorithm>
#include <cerrno>

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

std::optional<std::uint64_t> lane_log::next_full_segment() const {
  const auto after =
      std::upper_bound(segments_.begin(), segments_.end(), settled_seq_,
                       [](std::uint64_t seq, const segment& one) { return seq < one.base_seq; });
  if (segments_.end() - after < 2) return std::nullopt;  // the last one is being written
  return after->base_seq;
}

int lane_log::replace_segment(std::uint64_t base_seq, const std::string& path,
                              std::uint64_t bytes) {
  settle_segment(base_seq);
  const auto found =
      std::lower_bound(segments_.begin(), segments_.end(), base_seq,
                       [](const segment& one, std::uint64_t seq) { return one.base_seq < seq; });
  // It may be gone, and must not come back.
  int failure = found != segments_.end() && found->base_seq == base_seq
                    ? disk_.rename(path, log::segment_path(directory_, base_seq))
                    : -ENOENT;
  if (failure != 0)
    (void)disk_.remove(path);
  else
    found->bytes = bytes;
  return failure;
}

}  // namespace bus::storage
