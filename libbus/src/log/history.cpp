#include "log/history.hpp"

#include <algorithm>
#include <cerrno>

namespace bus::log {

int history::open(const log_owner& owner) {
  int failure = 0;
  const auto state = read_state(*disk_, directory_, failure);
  if (!state && failure != -EBADMSG && failure != -ENOENT) return failure;
  owner_ = owner;
  if (state) {
    if (owner.stream_id != 0 &&
        (state->stream_id != owner.stream_id || state->lane_index != owner.lane))
      return -ESTALE;
    owner_ = {state->stream_id, state->lane_index};
    log_id_ = state->log_id;
    floor_ = std::max<std::uint64_t>(state->first_seq, 1);
    must_reach_ = std::max(state->durable_upto, state->last_base != 0 ? state->last_base - 1 : 0);
  }
  const int listed = list_bases();
  if (listed != 0) return listed;
  if (log_id_ != 0) return 0;
  if (bases_.empty()) return failure;
  // Without a state, any valid segment has the id.
  for (const std::uint64_t base_seq : bases_) {
    segment_reader probe(*disk_);
    if (probe.open(segment_path(directory_, base_seq), 0, base_seq, owner_) == 0) {
      log_id_ = probe.log_id();
      owner_ = {probe.header()->stream_id, probe.header()->lane_index};
      return 0;
    }
  }
  return -EBADMSG;
}

int history::list_bases() {
  const int listed = list_segments(*disk_, directory_, bases_);
  if (listed != 0) return listed;
  // In the meantime busd may have moved the foreign file away and used its name.
  std::erase_if(foreign_, [&](std::uint64_t base_seq) {
    segment_reader probe(*disk_);
    return probe.open(segment_path(directory_, base_seq), log_id_, base_seq, owner_) == 0;
  });
  for (const std::uint64_t base_seq : foreign_) std::erase(bases_, base_seq);
  return 0;
}

// True when lower sequences were removed on purpose. Retention records that in the state before it
// removes a file.
bool history::is_removed_below(std::uint64_t seq) {
  if (seq <= floor_) return true;
  int failure = 0;
  const auto state = read_state(*disk_, directory_, failure);
  if (!state) return true;  // a damaged state is reported elsewhere
  floor_ = std::max(floor_, state->first_seq);
  return seq <= floor_;
}

std::uint64_t history::first_seq() const noexcept {
  return bases_.empty() ? floor_ : std::max(floor_, bases_.front());
}

void history::leave_segment() {
  if (!segment_.is_open()) return;
  bytes_read_ += segment_.bytes_read();
  unreadable_bytes_ += segment_.unreadable_bytes();
  damages_.insert(damages_.end(), segment_.damages().begin(), segment_.damages().end());
  segment_.close();
  pending_.reset();
}

std::vector<damage> history::take_damages() {
  std::vector<damage> all = std::move(damages_);
  damages_.clear();
  if (segment_.is_open())
    all.insert(all.end(), segment_.damages().begin(), segment_.damages().end());
  return all;
}

void history::seek(std::uint64_t seq) noexcept {
  leave_segment();
  next_seq_ = seq;
}

// Leaves the segment open, at or before next_seq_.
int history::enter_segment(std::size_t index) {
  leave_segment();
  index_ = index;
  damages_before_ = 0;
  const std::uint64_t base_seq = bases_[index];
  const int opened = segment_.open(segment_path(directory_, base_seq), log_id_, base_seq, owner_);
  if (opened != 0) return opened;
  if (next_seq_ <= base_seq) return 0;
  const auto entries = read_index(*disk_, directory_, base_seq, log_id_, bytes_read_);
  const auto after =
      std::upper_bound(entries.begin(), entries.end(), next_seq_,
                       [](std::uint64_t seq, const auto& entry) { return seq < entry.seq; });
  // A hint: used only where a frame begins with that sequence.
  for (auto at = after; at != entries.begin();) {
    --at;
    if (segment_.has_frame_at(at->seq, at->offset)) {
      segment_.start_at(at->seq, at->offset);
      break;
    }
  }
  return 0;
}

std::uint64_t history::segment_end() const noexcept {
  return index_ + 1 < bases_.size() ? bases_[index_ + 1] : ~0ull;
}

// The sequences from next_seq_ up to `upto`, exclusive, are missing.
walk_outcome history::report(std::uint64_t upto, layout::log_gap reason) {
  loss_ = {next_seq_, upto - next_seq_, reason};
  next_seq_ = upto;
  return walk_outcome::gap;
}

// True when the segment after the gap announces it.
bool history::is_known_gap(std::uint64_t first, layout::log_gap& reason) const noexcept {
  if (!segment_.header() || segment_.header()->gap_reason == 0 ||
      first < segment_.header()->gap_first)
    return false;
  reason = static_cast<layout::log_gap>(segment_.header()->gap_reason);
  return true;
}

// Opens the segment that holds next_seq_, or the first one above it. `end`: there is none.
walk_outcome history::locate() {
  if (to_the_end_ && segment_.is_open() && next_seq_ >= segment_end()) {
    logged_record record;
    while (segment_.next(record) < walk_outcome::end) {
    }
  }
  leave_segment();
  for (;;) {
    const int listed = list_bases();
    if (listed != 0) return fail(listed);
    if (bases_.empty()) return walk_outcome::end;
    const auto after = std::upper_bound(bases_.begin(), bases_.end(), next_seq_);
    const std::size_t index =
        after == bases_.begin() ? 0 : static_cast<std::size_t>(after - bases_.begin()) - 1;
    const int entered = enter_segment(index);
    if (entered == 0) return walk_outcome::record;
    if (entered == -ESTALE) {  // foreign: the segment before continues here
      damages_.push_back({0, segment_.file_bytes(), bases_[index], 0});
      foreign_.push_back(bases_[index]);
      segment_.close();
    } else if (entered != -ENOENT) {
      return fail(entered);  // otherwise it was just removed
    }
  }
}

walk_outcome history::next(logged_record& found, std::uint64_t limit) {
  segment_.set_limit(limit);
  while (next_seq_ <= limit && next_seq_ <= layout::sequence_mask) {
    if (!segment_.is_open()) {
      const walk_outcome located = locate();
      if (located == walk_outcome::end) return at_end(limit);
      if (located != walk_outcome::record) return located;
    }
    const std::uint64_t begin = std::max(bases_[index_], index_ == 0 ? floor_ : 0);
    if (next_seq_ < begin) {
      if (begin > limit) return walk_outcome::end;
      layout::log_gap reason = layout::log_gap::corrupt;
      if (!is_known_gap(next_seq_, reason) && index_ == 0 &&
          (segment_.hole_reason() == layout::log_gap::consumed || is_removed_below(begin)))
        reason = layout::log_gap::removed;
      return report(begin, reason);
    }
    const std::uint64_t end = segment_end();
    if (next_seq_ >= end) {
      const walk_outcome located = locate();
      if (located == walk_outcome::end) return at_end(limit);
      if (located != walk_outcome::record) return located;
      continue;
    }
    if (!pending_) {
      logged_record record;
      const walk_outcome outcome = segment_.expected() <= std::min(limit, end - 1)
                                       ? segment_.next(record)
                                       : walk_outcome::end;
      if (outcome == walk_outcome::failure) return fail(segment_.failure());
      if (outcome == walk_outcome::gap) continue;  // the next record has its sequence
      if (outcome == walk_outcome::record) {
        if (record.seq < next_seq_) {  // on the way to the start
          damages_before_ = segment_.damages().size();
          continue;
        }
        pending_ = std::move(record);
      }
    }
    if (pending_ && pending_->seq == next_seq_) {
      found = std::move(*pending_);
      pending_.reset();
      damages_before_ = segment_.damages().size();
      ++next_seq_;
      looked_for_ = 0;
      return walk_outcome::record;
    }
    // The record is not where it should be. The next sequence of this segment, if any:
    const std::uint64_t there = pending_ ? pending_->seq : std::max(segment_.expected(), next_seq_);
    if (end != ~0ull && (there >= end || !pending_)) {  // it has no more of its own
      // If its end was lost with its length, opening it has reported that.
      layout::log_gap reason =
          segment_.damages().empty() && segment_.hole_reason() == layout::log_gap::superseded
              ? layout::log_gap::superseded
              : layout::log_gap::corrupt;
      if (reason == layout::log_gap::superseded && segment_.header()->end_seq < end) {
        // It does not cover everything up to the next one: a segment in between is missing.
        if (next_seq_ < segment_.header()->end_seq)
          return report(segment_.header()->end_seq, reason);
        reason = layout::log_gap::corrupt;
      }
      const std::uint64_t first = next_seq_;
      next_seq_ = end;
      const walk_outcome located = locate();
      next_seq_ = first;
      if (located == walk_outcome::end) return at_end(limit);
      if (located != walk_outcome::record) return located;
      if (bases_[index_] < end) continue;  // that one is foreign: this one continues
      // The gap that the next segment announces may begin after what is missing here.
      if (segment_.header() && segment_.header()->gap_reason != 0 &&
          first < segment_.header()->gap_first && segment_.header()->gap_first < end)
        return report(segment_.header()->gap_first, reason);
      (void)is_known_gap(first, reason);
      return report(end, reason);
    }
    if (!pending_ && limit == ~0ull) return at_end(limit);
    // It may have been rewritten in a newer segment: check once more, unless it was superseded.
    if (looked_for_ != next_seq_ && !(pending_ && frame_gap() == layout::log_gap::superseded)) {
      looked_for_ = next_seq_;
      leave_segment();
      continue;
    }
    const std::uint64_t behind = limit == ~0ull ? limit : limit + 1;
    return report(pending_ ? std::min(there, behind) : behind, frame_gap());
  }
  return walk_outcome::end;
}

// There are no more segments, so the rest of what the state requires is missing.
walk_outcome history::at_end(std::uint64_t limit) {
  const std::uint64_t upto = limit == ~0ull ? must_reach_ : std::min(limit, must_reach_);
  if (next_seq_ > upto) return walk_outcome::end;
  return report(upto + 1,
                is_removed_below(upto + 1) ? layout::log_gap::removed : layout::log_gap::corrupt);
}

// True when the segment's header states that everything before it is older.
bool history::is_all_older_before(std::uint64_t base_seq, std::uint64_t time_ns) {
  const int file = disk_->open(segment_path(directory_, base_seq), disk_mode::read, false);
  if (file < 0) return false;
  std::byte head[sizeof(layout::log_segment_header)] = {};
  const bool whole = read_all(*disk_, file, head, 0) == 0;
  disk_->close(file);
  bytes_read_ += sizeof head;
  const auto header = whole ? parse_segment_header(head) : std::nullopt;
  return header && !is_foreign(*header, log_id_, base_seq, owner_) && header->before_s != 0 &&
         header->before_s != ~0u && std::uint64_t{header->before_s} * 1'000'000'000 < time_ns;
}

// True when every record of a segment other than the last is certainly older. The index covers all
// but its end.
bool history::is_all_older_in(std::uint64_t base_seq, std::uint64_t time_ns) {
  segment_reader reader(*disk_);
  if (reader.open(segment_path(directory_, base_seq), log_id_, base_seq, owner_) != 0) return false;
  const auto entries = read_index(*disk_, directory_, base_seq, log_id_, bytes_read_);
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry)
    if (reader.has_frame_at(entry->seq, entry->offset)) {
      if (entry->time_ns >= time_ns) return false;
      reader.start_at(entry->seq, entry->offset);
      break;
    }
  logged_record record;
  walk_outcome outcome = walk_outcome::record;
  while (outcome < walk_outcome::end) {
    outcome = reader.next(record);
    if (outcome == walk_outcome::record && record.time_ns >= time_ns) break;
  }
  bytes_read_ += reader.bytes_read();
  return outcome == walk_outcome::end && reader.damages().empty() && reader.unreadable_bytes() == 0;
}

// Finds a position before which everything is older, as near to the first newer record as is cheap
// to find. Wall clocks are set, so times need not rise with sequences, neither over segments nor
// within one.
int history::seek_time(std::uint64_t time_ns) {
  const int listed = list_bases();
  if (listed != 0) return listed;
  if (bases_.empty()) return 0;
  std::size_t at = bases_.size() - 1;
  while (at != 0 && !is_all_older_before(bases_[at], time_ns)) --at;
  while (at + 1 < bases_.size() && is_all_older_in(bases_[at], time_ns)) ++at;
  std::uint64_t from = bases_[at];
  segment_reader probe(*disk_);
  if (probe.open(segment_path(directory_, from), log_id_, from, owner_) == 0)
    for (const auto& entry : read_index(*disk_, directory_, bases_[at], log_id_, bytes_read_)) {
      if (entry.time_ns >= time_ns) break;
      // a hint, as in enter_segment
      if (probe.has_frame_at(entry.seq, entry.offset)) from = entry.seq;
    }
  seek(std::max(from, first_seq()));
  return 0;
}

}  // namespace bus::log
