/// lane_log, recovery: opens a log after whatever happened. LOG-1 - LOG-11 are those of
/// lane_log.hpp.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "os/failure.hpp"
#include "os/random.hpp"
#include "storage/lane_log.hpp"

namespace bus::storage {

namespace {

// A lost high water exceeds what is known of it by less than this.
constexpr std::uint64_t never_reached = 1ull << 32;

// LOG-5. After an orderly stop the high water is exact, unless a process has published since: then
// a ring is added. Returns 0 or a negative errno.
int mend_high_water(log::disk& on, const std::string& directory, layout::log_state& state) {
  if ((state.flags & layout::log_state_exact) == 0) return 0;
  const int file = on.open(log::reopened_path(directory), log::disk_mode::read, false);
  if (file >= 0) on.close(file);
  if (file < 0 && file != -ENOENT) return file;
  if (file < 0) return 0;
  state.high_water += state.ring_messages;
  state.flags &= ~layout::log_state_exact;
  return 0;
}

}  // namespace

result<std::unique_ptr<lane_log>> lane_log::open(log::disk& on, std::string directory,
                                                 const log_identity& who,
                                                 const log_options& options,
                                                 recovery_report& report) {
  std::unique_ptr<lane_log> made(new lane_log(on, std::move(directory), options));
  made->who_ = who;
  std::vector<std::string> names;
  int failure = on.list(made->directory_, names);
  if (failure != 0) return made->failed(failure, "cannot open a log");
  log::state_damage damaged;
  auto state = log::read_state(on, made->directory_, failure, &damaged);
  if (!state && failure != -EBADMSG && failure != -ENOENT)
    return made->failed(failure, "cannot read the state of a log");
  // Nothing is written or removed until it is certain whose files these are.
  if (state && (state->stream_id != who.stream_id || state->lane_index != who.lane))
    return error{errc::corrupt, 0, "cannot open the log in " + made->directory_,
                 state->stream_id != who.stream_id
                     ? "it belongs to another stream"
                     : "it is lane " + std::to_string(state->lane_index) + " of its stream, not " +
                           std::to_string(who.lane),
                 "restore the lane's own directory: nothing was changed"};
  report.state_damaged = damaged.copies;
  report.bound_damaged = damaged.bound;
  std::vector<std::uint64_t> bases;
  failure = log::list_segments(on, made->directory_, bases);
  if (failure != 0) return made->failed(failure, "cannot open a log");
  if (!state) {
    // Both copies are damaged: rebuilt from the segments, with a high water above all given out.
    report.state_damaged = false;
    report.state_rebuilt = true;
    log::segment_reader probe(on);
    layout::log_state rebuilt{};
    bool any_foreign = false;
    for (auto base_seq = bases.rbegin(); base_seq != bases.rend() && rebuilt.log_id == 0;
         ++base_seq) {
      if (probe.open(log::segment_path(made->directory_, *base_seq), 0, *base_seq) != 0) continue;
      const auto& header = *probe.header();
      if (header.stream_id != who.stream_id || header.lane_index != who.lane) {
        any_foreign = true;
        continue;
      }
      rebuilt.log_id = probe.log_id();
      rebuilt.epoch = header.epoch;
    }
    if (rebuilt.log_id == 0 && any_foreign)
      return error{errc::corrupt, 0, "cannot open the log in " + made->directory_,
                   "it has no state, and its segments belong to another stream or lane",
                   "restore the lane's own directory: nothing was changed"};
    rebuilt.stream_id = who.stream_id;
    rebuilt.lane_index = who.lane;
    if (rebuilt.log_id == 0) rebuilt.log_id = os::random_id();
    rebuilt.first_seq = bases.empty() ? 1 : bases.front();
    made->state_ = rebuilt;
  } else {
    made->state_ = *state;
    failure = mend_high_water(on, made->directory_, made->state_);
    if (failure != 0) return made->failed(failure, "cannot open a log");
  }
  made->clock_.load(made->state_);
  for (const std::string& name : names)
    if (name.ends_with(half_made)) (void)on.remove(made->directory_ + "/" + name);
  auto listed = made->list(bases, report);
  if (!listed) return std::move(listed.error());
  auto recovered = made->recover(report);
  if (!recovered) return std::move(recovered.error());
  made->is_intact_ = report.damages.empty() && !report.state_rebuilt && !report.state_damaged &&
                     !made->has_unread_end();
  // The intact copy may be the older one (LOG-5).
  if (report.state_rebuilt || report.state_damaged)
    made->state_.high_water = std::max(made->state_.high_water, made->next_seq_) + never_reached;
  if (made->has_unread_end()) made->resume_at(made->state_.high_water + 1);
  // Even if nothing was wrong: a process that was killed, or whose disk failed, may have left a
  // state or a name that is only in the page cache.
  failure = on.sync_directory(made->directory_);
  if (failure == 0) {
    (void)made->now();
    if (!made->segments_.empty()) made->named_base_ = made->segments_.back().base_seq;
    made->note_bounds(made->state_);
    failure = report.state_rebuilt ? log::create_state(on, made->directory_, made->state_)
                                   : log::write_state(on, made->directory_, made->state_);
  }
  if (failure == 0 && report.state_damaged)
    failure = log::write_state(on, made->directory_, made->state_);
  if (failure == 0) made->write_bound();
  if (failure == 0 && report.state_rebuilt) failure = on.sync_directory(made->directory_);
  if (failure != 0) return made->failed(failure, "cannot write the state of a log");
  // Removes the files of removed messages that still exist. Not earlier: the state that was read
  // may have been only in the page cache (LOG-9).
  if (!options.spill) made->drop_consumed(made->state_.first_seq);
  return made;
}

result<lane_log::outlook> lane_log::look(log::disk& on, const std::string& directory,
                                         const log_identity& who) {
  outlook found;
  log::history history(on, directory);
  int failure = history.open(owner_of(who));
  log::state_damage damaged;
  int state_failure = 0;
  auto state = log::read_state(on, directory, state_failure, &damaged);
  if (failure == 0 && !state) failure = state_failure;
  if (failure == 0) failure = mend_high_water(on, directory, *state);
  if (failure != 0) return os::failure(-failure, "cannot inspect the log in " + directory);
  const std::uint64_t from = history.bases().empty() ? 1 : history.bases().back();
  found.last_seq = std::max(from - 1, state->durable_upto);
  std::uint64_t highest = found.last_seq;
  bool torn = false;
  history.seek(from);
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, layout::sequence_mask);
    // As recovery will decide: up to the first hole above what is durable, and whole batches only.
    if (outcome == log::walk_outcome::gap)
      torn = torn || history.loss().first + history.loss().count - 1 > state->durable_upto;
    if (outcome == log::walk_outcome::record) {
      highest = std::max(highest, record.seq);
      if (!torn && (record.shape.flags & layout::flag_continues) == 0)
        found.last_seq = std::max(found.last_seq, record.seq);
    }
    if (outcome == log::walk_outcome::failure)
      return os::failure(-history.failure(), "cannot inspect the log in " + directory);
    if (outcome == log::walk_outcome::end || history.next_seq() > state->high_water) break;
  }
  found.next_epoch_seq = std::max(state->high_water, highest + (damaged.copies ? 1 : 0)) + 1 +
                         (damaged.copies ? never_reached : 0);
  return found;
}

// Lists the segments of this log (LOG-10), and reports what is missing before them (LOG-9).
result<void> lane_log::list(const std::vector<std::uint64_t>& bases, recovery_report& report) {
  bool announces_gap = false;
  for (const std::uint64_t base_seq : bases) {
    const std::string path = log::segment_path(directory_, base_seq);
    const int file = disk_.open(path, log::disk_mode::read, false);
    if (file == -ENOENT) continue;
    if (file < 0) return failed(file, "cannot read the log");
    const std::int64_t bytes = disk_.size(file);
    std::byte head[sizeof(layout::log_segment_header)] = {};
    (void)disk_.read(file, head, 0);
    disk_.close(file);
    const auto header = log::parse_segment_header(head);
    const auto size = static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0));
    if (header && log::is_foreign(*header, state_.log_id, base_seq, owner_of(who_))) {
      foreign_.push_back(base_seq);
      report.damages.push_back({0, size, base_seq, 0});
      continue;
    }
    if (segments_.empty()) announces_gap = header && header->gap_reason != 0;
    // What its header states of everything before it holds for the segment before it.
    if (!segments_.empty() && header && header->before_s != 0 && header->before_s != ~0u)
      segments_.back().latest_ns = std::uint64_t{header->before_s} * 1'000'000'000;
    segments_.push_back({base_seq, size, {}});
  }
  if (options_.spill || segments_.empty()) return {};
  const std::uint64_t first_seq = std::max<std::uint64_t>(state_.first_seq, 1);
  if (segments_.front().base_seq > first_seq && !announces_gap)
    report.damages.push_back({0, 0, first_seq, segments_.front().base_seq - first_seq});
  return {};
}

// LOG-9: the sequence that the log must reach.
std::uint64_t lane_log::must_reach() const noexcept {
  if (options_.spill) return 0;
  return std::max(state_.durable_upto, state_.last_base != 0 ? state_.last_base - 1 : 0);
}

// There is no segment: the log is new, or all its messages were removed on purpose, or all were
// lost.
result<void> lane_log::begin_again(std::uint64_t fresh, recovery_report& report) {
  const std::uint64_t lost_upto = must_reach();
  next_seq_ = std::max(fresh, lost_upto + 1);
  written_seq_ = durable_seq_ = next_seq_ - 1;
  if (next_seq_ == fresh) return roll(fresh, 0, layout::log_gap::none);
  report.damages.push_back({0, 0, fresh, next_seq_ - fresh});
  return roll(next_seq_, fresh, layout::log_gap::corrupt);
}

// Reads the last segment only: every other one was complete and durable before a newer one got its
// name (LOG-3).
result<void> lane_log::recover(recovery_report& report) {
  const std::uint64_t fresh = std::max<std::uint64_t>(state_.first_seq, 1);
  if (segments_.empty()) return begin_again(fresh, report);
  const std::uint64_t base_seq = segments_.back().base_seq;
  log::segment_reader reader(disk_);
  const int opened =
      reader.open(log::segment_path(directory_, base_seq), state_.log_id, base_seq, owner_of(who_));
  if (opened == -EPROTONOSUPPORT)
    return error{errc::unsupported, 0, "cannot open the log in " + directory_,
                 "a newer busd wrote it", "use that version of busd or a newer one"};
  if (opened != 0) return failed(opened, "cannot read the log");
  struct run {
    std::uint64_t first, last, end;
    std::uint64_t whole_last, whole_end;  // of the last record that leaves no batch open
  };
  std::vector<run> runs;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> frames;  // first sequence, offset
  std::uint64_t durable = base_seq - 1, end = layout::log_header_bytes, latest_ns = 0;
  for (log::logged_record record;;) {
    const std::uint64_t before = reader.expected();
    const auto outcome = reader.next(record);
    if (outcome == log::walk_outcome::failure)
      return failed(reader.failure(), "cannot read the log");
    if (reader.frame_offset() != 0) clock_.note(log::time_of(reader.frame()));
    if (outcome == log::walk_outcome::end) break;
    if (outcome == log::walk_outcome::gap) continue;
    latest_ns = std::max(latest_ns, record.time_ns);  // its frame's head may be damaged
    if (record.subject_id() != layout::inline_subject_id)
      note_subjects(std::uint64_t{record.subject_id()} + 1);
    if (frames.empty() || frames.back().second != reader.frame_offset())
      frames.emplace_back(record.seq, reader.frame_offset());
    if (runs.empty() || before != runs.back().last + 1) runs.push_back({record.seq, 0, 0, 0, 0});
    run& now = runs.back();
    now.last = record.seq;
    now.end = end = reader.position();
    if ((record.shape.flags & layout::flag_continues) == 0) {
      now.whole_last = now.last;
      now.whole_end = now.end;
    }
  }
  // Purged records were durable, too, and are not copied below.
  durable = std::max({durable, reader.durable_upto(), fresh - 1, must_reach()});
  report.bytes_read += reader.bytes_read();
  report.unreadable_bytes = reader.unreadable_bytes();
  if (reader.header()) {
    note_subjects(reader.header()->subjects);
    active_gap_first_ = reader.header()->gap_first;
    active_gap_reason_ = static_cast<layout::log_gap>(reader.header()->gap_reason);
  }
  if (report.unreadable_bytes != 0) {
    report.damages.insert(report.damages.end(), reader.damages().begin(), reader.damages().end());
    reader.close();
    return leave_unread(runs.empty() ? base_seq - 1 : runs.back().last, report);
  }
  // Damage above what was durable is a torn write: the log is cut there. Below, it is corruption:
  // intact records after it stay.
  std::uint64_t last = base_seq - 1;
  bool torn = false;
  for (const run& r : runs) {
    const bool hole = r.first > last + 1;
    if (hole && !options_.spill && r.first - 1 > durable) {
      torn = true;
      break;
    }
    last = r.last;
    end = r.end;
  }
  // LOG-11: an incomplete batch is a torn write, too.
  if (last > durable && !options_.spill && !options_.keeps_torn_batches) {
    std::uint64_t whole_last = base_seq - 1, whole_end = layout::log_header_bytes;
    bool ends_whole = false;
    for (const run& r : runs) {
      if (r.first > last) break;
      if (r.whole_last != 0) whole_last = r.whole_last, whole_end = r.whole_end;
      ends_whole = r.whole_last == r.last;
    }
    if (!ends_whole) {
      report.cut_bytes += end - whole_end;
      last = std::max(whole_last, durable);
      end = whole_end;
      torn = true;
    }
  }
  // Recorded as durable, but missing: these sequences are lost, and are never used again.
  const bool lost_end = !options_.spill && durable > last;
  bool is_damaged = false;
  for (const log::damage& d : reader.damages()) {
    if (d.offset >= layout::log_header_bytes && d.first_seq > durable)
      torn = true, report.cut_bytes += d.bytes;
    else
      is_damaged = true, report.damages.push_back(d);
  }
  if (lost_end) {
    report.damages.push_back({end, 0, last + 1, durable - last});
    gap_first_ = last + 1;
    gap_reason_ = layout::log_gap::corrupt;
    last = durable;
  }
  durable = std::min(durable, last);
  time_max_ns_ = std::max(reader.time_max_ns(), latest_ns);
  durable_seq_ = durable;
  written_seq_ = last;
  next_seq_ = last + 1;
  // The last segment of a copied log may have been full, and compressed.
  const bool whole = reader.header().has_value() && !reader.is_compressed() && !is_damaged &&
                     !torn && !lost_end && reader.expected() == last + 1;
  if (whole && last == durable && reader.clean_end() != 0 &&
      reader.header()->epoch == state_.epoch) {
    const int file =
        disk_.open(log::segment_path(directory_, base_seq), log::disk_mode::write, options_.direct);
    if (file < 0) return failed(file, "cannot open the log");
    align_ = reader.header()->align_bytes;
    if (disk_.alignment(file) <= align_) {
      file_ = file;
      offset_ = reader.clean_end();
      file_bytes_ = reader.file_bytes();
      previous_crc_ = reader.last_frame_crc();
      index_due_ = offset_ + layout::log_index_stride_bytes;
      const auto entries =
          log::read_index(disk_, directory_, base_seq, state_.log_id, report.bytes_read);
      index_written_ = entries.size();
      return {};
    }
    disk_.close(file);
  }
  report.rewritten = last - durable;
  std::uint64_t from = layout::log_header_bytes;
  for (const auto& [seq, offset] : frames)
    if (seq <= durable + 1 && offset < end) from = std::max(from, offset);
  unsynced_bytes_ = last > durable ? end - from : 0;
  reader.close();
  recovers_ = true;
  auto restarted = restart();
  recovers_ = false;
  if (restarted || !has_unread_end()) return restarted;
  return leave_unread(runs.back().last, report);
}

}  // namespace bus::storage
