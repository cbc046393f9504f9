/// lane_log, upkeep: what happens to full segments. LOG-6 is of lane_log.hpp.

#include <algorithm>
#include <cerrno>

#include "storage/lane_log.hpp"
#include "base/assert.hpp"

namespace bus::storage {

namespace {

// Each keeps a descriptor until it is closed.
constexpr std::size_t closing_max = 16;

}  // namespace

// Empty: the segment has no frame, or none that can be read.
std::optional<log::lane_time> lane_log::first_time_of(segment& one) {
  if (!one.first_time)
    one.first_time = log::first_time_in(disk_, log::segment_path(directory_, one.base_seq),
                                        state_.log_id, one.base_seq);
  return one.first_time;
}

// A power loss takes back the clock to its last stored value: stores it often enough.
void lane_log::keep_clock(std::uint64_t max_age_ns) {
  constexpr std::uint64_t at_most_ns = 600'000'000'000;
  layout::log_state state = state_;
  clock_.store(state);
  if (state.up_ns - kept_up_ns_ > std::min(at_most_ns, max_age_ns / 64)) write_bound();
}

// REQUIRES: the segment is full
std::uint64_t lane_log::records_of(std::size_t index) {
  BUS_ASSERT(index + 1 < segments_.size(), index, segments_.size());
  segment& one = segments_[index];
  if (one.records) return *one.records;
  const auto header_of = [&](std::uint64_t base_seq) {
    std::byte head[sizeof(layout::log_segment_header)] = {};
    const int file =
        disk_.open(log::segment_path(directory_, base_seq), log::disk_mode::read, false);
    if (file >= 0) {
      (void)disk_.read(file, head, 0);
      disk_.close(file);
    }
    return log::parse_segment_header(head);
  };
  // What the next segment announces as missing is not in this one.
  std::uint64_t end = segments_[index + 1].base_seq;
  if (const auto next = header_of(end); next && next->gap_reason != 0)
    end = std::clamp(next->gap_first, one.base_seq, end);
  one.records = end - one.base_seq;
  const auto header = header_of(one.base_seq);
  one.is_thinned = header && (header->flags & layout::log_flag_thinned) != 0;
  if (one.is_thinned) one.records = std::min(*one.records, header->records);
  return *one.records;
}

bool lane_log::remove_first() {
  const std::uint64_t base_seq = segments_.front().base_seq;
  if (drop_file(log::segment_path(directory_, base_seq)) != 0) return false;
  (void)disk_.remove(directory_ + "/" + log::index_name(base_seq));
  segments_.pop_front();
  return true;
}

std::size_t lane_log::retain(const retention_limits& limits) {
  const log::lane_time time = now();
  if (limits.max_age_ns != 0) keep_clock(limits.max_age_ns);
  std::size_t goes = 0, old = 0;
  // What was written before the first frame of a segment is at least as old as that frame. A
  // segment without a frame, or of an older busd, gives no information.
  for (std::size_t i = 1; limits.max_age_ns != 0 && i < segments_.size(); ++i) {
    const auto begun = first_time_of(segments_[i]);
    if (!begun) continue;
    if (!log::is_older(*begun, time, limits.max_age_ns)) break;
    old = i;
  }
  std::uint64_t messages_after_first = 0;
  if (limits.max_messages != 0) {
    messages_after_first = next_seq_ - std::min(next_seq_, segments_.back().base_seq);
    for (std::size_t i = 1; i + 1 < segments_.size(); ++i) messages_after_first += records_of(i);
  }
  for (std::uint64_t bytes = bytes_on_disk(); goes + 1 < segments_.size(); ++goes) {
    const bool is_large = limits.max_bytes != 0 && bytes > limits.max_bytes;
    const bool is_many = limits.max_messages != 0 && messages_after_first >= limits.max_messages;
    if (!is_large && !is_many && goes >= old) break;
    bytes -= std::min(bytes, segments_[goes].bytes);
    if (limits.max_messages != 0 && goes + 2 < segments_.size())
      messages_after_first -= std::min(messages_after_first, records_of(goes + 1));
  }
  if (goes == 0) return 0;
  // LOG-9: recorded first, and durably. Whatever else is missing is damage.
  layout::log_state state = state_;
  state.first_seq = std::max(state.first_seq, segments_[goes].base_seq);
  if (store_state(state) != 0) return 0;
  const std::size_t had = segments_.size();
  drop_consumed(state_.first_seq);
  return had - segments_.size();
}

void lane_log::learn_counts() {
  for (std::size_t i = 0; i + 1 < segments_.size(); ++i) (void)records_of(i);
}

void lane_log::drop_consumed(std::uint64_t seq) {
  if (options_.spill) consumed_ = seq;
  closing_ = 0;
  while (segments_.size() > 1 && segments_[1].base_seq <= seq && closing_ < closing_max &&
         remove_first()) {
  }
}

result<void> lane_log::purge(std::uint64_t seq) {
  // Otherwise, after a crash, sequences could be given out that no reader ever sees.
  if (written_seq_ > durable_seq_) {
    auto synced = sync();
    if (!synced) return synced;
  }
  layout::log_state state = state_;
  state.first_seq = std::max(std::min(seq, written_seq_ + 1), state.first_seq);
  const int failure = store_state(state);
  if (failure != 0) return failed(failure, "cannot write the state of a log");
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
  mark_compress_skipped(base_seq);
  const auto found =
      std::lower_bound(segments_.begin(), segments_.end(), base_seq,
                       [](const segment& one, std::uint64_t seq) { return one.base_seq < seq; });
  // It may have been removed meanwhile, and must not come back.
  if (found == segments_.end() || found->base_seq != base_seq) {
    (void)drop_file(path);
    return -ENOENT;
  }
  const int failure = rename_over(path, log::segment_path(directory_, base_seq));
  if (failure != 0)
    (void)drop_file(path);
  else
    found->bytes = bytes;
  return failure;
}

// A log that serves closes the replaced file later, which frees its space. Opened for reading, the
// file keeps its bytes until then: the new name is not durable yet.
int lane_log::rename_over(const std::string& path, const std::string& name) {
  const int file = serves_ ? disk_.open(name, log::disk_mode::read, false) : -1;
  const int failure = disk_.rename(path, name);
  if (file >= 0) closing_ = options_.close_later(file);
  return failure;
}

std::vector<std::uint64_t> lane_log::bases() const {
  std::vector<std::uint64_t> all;
  for (const segment& one : segments_) all.push_back(one.base_seq);
  return all;
}

std::uint64_t lane_log::full_bytes() const noexcept {
  return segments_.empty() ? 0 : bytes_on_disk() - segments_.back().bytes;
}

lane_log::thinned_part lane_log::thinned() {
  thinned_part part;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    part.upto = segments_[i].base_seq;
    if (i + 1 == segments_.size()) break;
    (void)records_of(i);
    if (!segments_[i].is_thinned) break;
    part.bytes += segments_[i].bytes;
  }
  return part;
}

int lane_log::replace_segments(const std::vector<thinned_segment>& copies) {
  const auto position_of = [&](std::uint64_t base_seq) {
    return std::lower_bound(
        segments_.begin(), segments_.end(), base_seq,
        [](const segment& one, std::uint64_t seq) { return one.base_seq < seq; });
  };
  const auto all_there = [&](const thinned_segment& copy) {
    auto at = position_of(copy.covers.front());
    for (const std::uint64_t base_seq : copy.covers)
      if (at == segments_.end() || at->base_seq != base_seq || ++at == segments_.end())
        return false;
    return true;
  };
  std::vector<const thinned_segment*> named;
  int failure = 0;
  for (const thinned_segment& copy : copies) {
    // Segments that were removed meanwhile must not come back.
    if (failure != 0 || !all_there(copy)) continue;
    const std::uint64_t base_seq = copy.covers.front();
    const std::string index_path = directory_ + "/" + log::index_name(base_seq);
    (void)disk_.remove(index_path);
    failure = rename_over(copy.path, log::segment_path(directory_, base_seq));
    if (failure != 0) continue;
    (void)disk_.rename(copy.index_path, index_path);
    std::uint64_t latest_ns = 0;
    for (const std::uint64_t covered : copy.covers)
      latest_ns = std::max(latest_ns, position_of(covered)->latest_ns);
    *position_of(base_seq) = {base_seq, copy.bytes, {}, copy.records, true, latest_ns};
    settled_seq_ = std::min(settled_seq_, base_seq - 1);
    named.push_back(&copy);
  }
  if (failure == 0) failure = disk_.sync_directory(directory_);
  for (const thinned_segment* copy : named)
    for (std::size_t i = 1; i < copy->covers.size() && failure == 0; ++i) {
      const std::uint64_t base_seq = copy->covers[i];
      failure = drop_file(log::segment_path(directory_, base_seq));
      if (failure != 0) break;
      (void)disk_.remove(directory_ + "/" + log::index_name(base_seq));
      segments_.erase(position_of(base_seq));
    }
  for (const thinned_segment& copy : copies) {
    (void)drop_file(copy.path);
    (void)disk_.remove(copy.index_path);
  }
  return failure;
}

}  // namespace bus::storage
