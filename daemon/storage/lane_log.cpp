#include "storage/lane_log.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "os/clock.hpp"
#include "os/failure.hpp"
#include "os/random.hpp"

namespace bus::storage {

error lane_log::failed(int failure, std::string what) const {
  return os::failure(-failure, std::move(what) + " in " + directory_,
                     failure == -ENOSPC || failure == -EDQUOT
                         ? "free space there: waiting messages are then written automatically"
                         : "check the disk (dmesg), then the log: bus stream verify");
}

lane_log::~lane_log() {
  if (file_ >= 0) disk_.close(file_);
}

void lane_log::poison() noexcept {
  poisoned_ = true;
  if (file_ >= 0) disk_.close(file_);
  file_ = -1;
}

error lane_log::poisoned() const {
  return {errc::system, EIO, "cannot write the log in " + directory_,
          "an earlier write or sync failed", "call restart() first"};
}

std::uint64_t lane_log::first_seq() const noexcept {
  const std::uint64_t there = segments_.empty() ? next_seq_ : segments_.front().base_seq;
  return std::max<std::uint64_t>({there, state_.first_seq, 1});
}

std::uint64_t lane_log::bytes_on_disk() const noexcept {
  std::uint64_t sum = 0;
  for (const segment& s : segments_) sum += s.bytes;
  return sum;
}

result<std::unique_ptr<lane_log>> lane_log::create(log::disk& on, std::string directory,
                                                   const log_identity& who,
                                                   std::uint64_t high_water,
                                                   const log_options& options) {
  std::unique_ptr<lane_log> made(new lane_log(on, std::move(directory), options));
  int failure = on.make_directory(made->directory_);
  if (failure != 0) return made->failed(failure, "cannot create a log");
  made->state_.log_id = os::random_id();
  made->state_.stream_id = who.stream_id;
  made->state_.lane_index = who.lane;
  made->state_.epoch = who.epoch;
  made->state_.high_water = high_water;
  made->state_.first_seq = 1;
  made->who_ = who;
  (void)made->now();
  made->clock_.store(made->state_);
  failure = log::create_state(on, made->directory_, made->state_);
  if (failure != 0) return made->failed(failure, "cannot create a log");
  auto rolled = made->roll(1, 0, layout::log_gap::none);
  if (!rolled) return std::move(rolled.error());
  return made;
}

result<void> lane_log::begin_epoch(std::uint64_t epoch, std::uint64_t least) {
  if (poisoned_) return poisoned();
  const std::uint64_t lost_from = next_seq_;
  std::uint64_t highest = state_.high_water;
  if (is_intact_ && options_.syncs_each && options_.ring_messages != 0)
    // The last frame may have been durable but taken for torn, and publishers were a ring above it.
    highest = std::min(highest, durable_seq_ + 2 * options_.ring_messages);
  const std::uint64_t go_on = std::max({highest + 1, next_seq_, least});
  const std::uint64_t old_epoch = std::exchange(state_.epoch, epoch);  // for the segment's header
  if (go_on != lost_from) {
    auto rolled = roll(go_on, lost_from, layout::log_gap::unsynced);
    if (rolled || segments_.back().base_seq == go_on) {
      next_seq_ = go_on;
      written_seq_ = go_on - 1;
    }
    if (!rolled) {
      state_.epoch = old_epoch;
      return rolled;
    }
    durable_seq_ = written_seq_;
  }
  // Last: a state with the epoch means that it was begun.
  layout::log_state state = state_;
  state.skipped += go_on - lost_from;
  const int failure = store_state(state);
  if (failure != 0) {
    state_.epoch = old_epoch;
    return failed(failure, "cannot write the state of a log");
  }
  unread_from_ = 0;  // what is not known of the old epoch lies below
  return {};
}

result<void> lane_log::raise_high_water(std::uint64_t seq, std::uint64_t step) {
  if (seq <= state_.high_water) return {};
  layout::log_state raised = state_;
  raised.high_water = seq + step;
  raised.flags &= ~layout::log_state_exact;
  const int failure = store_state(raised);
  if (failure != 0) return failed(failure, "cannot write the state of a log");
  return {};
}

// LOG-9. The sequences of a gap that no segment announces yet are not durable.
void lane_log::note_bounds(layout::log_state& state) const noexcept {
  clock_.store(state);
  if (options_.spill) return;  // what its readers have consumed is removed without a record
  state.last_base = std::max(state.last_base, named_base_);
  const std::uint64_t upto =
      gap_reason_ == layout::log_gap::none ? durable_seq_ : std::min(durable_seq_, gap_first_ - 1);
  state.durable_upto = std::max(state.durable_upto, upto);
}

int lane_log::store_state(layout::log_state state) {
  (void)now();
  note_bounds(state);
  const int failure = log::write_state(disk_, directory_, state);
  if (failure == 0) {
    state_ = state;
    kept_up_ns_ = state.up_ns;
  }
  return failure;
}

// Stores early what the next synced write of the state will store; a failure loses only that.
void lane_log::write_bound() {
  if (options_.spill) return;
  (void)now();
  layout::log_state state = state_;
  note_bounds(state);
  if (log::write_bound(disk_, directory_, state) == 0) kept_up_ns_ = state.up_ns;
}

result<void> lane_log::begin(log::frame_builder& frame, bool sync_too, std::uint64_t token,
                             int buffer) {
  BUS_ASSERT(!in_flight_ && frame.count() != 0, frame.base_seq(), frame.count());
  if (poisoned_) return poisoned();
  const std::uint64_t bytes = base::round_up(frame.used_bytes(), align_);
  if (file_ < 0 || offset_ + bytes > file_bytes_) {
    // Every reader has consumed the messages of a hole. Only a spill log has holes.
    const bool hole = frame.base_seq() > next_seq_ && options_.spill;
    auto rolled = gap_reason_ != layout::log_gap::none
                      ? roll(frame.base_seq(), gap_first_, gap_reason_)
                      : roll(frame.base_seq(), hole ? next_seq_ : 0,
                             hole ? layout::log_gap::consumed : layout::log_gap::none);
    if (!rolled) return rolled;
  }
  flight now;
  now.last_seq = frame.next_seq() - 1;
  now.first_seq = frame.base_seq();
  now.synced = sync_too;
  frame.set_time(clock_.tick(options_.time()));
  const auto span = frame.finish(durable_seq_, previous_crc_, now.crc);
  now.bytes = span.size();
  now.time_max_ns = frame.time_max_ns();
  in_flight_ = now;
  next_seq_ = now.last_seq + 1;
  disk_.begin_write(file_, span, offset_, sync_too, token, buffer);
  return {};
}

int lane_log::finished(int failure) {
  BUS_ASSERT(in_flight_.has_value(), failure);
  const flight done = *std::exchange(in_flight_, std::nullopt);
  if (failure == 0 && poisoned_) failure = -EIO;  // a sync failed meanwhile
  if (failure != 0) {
    next_seq_ = written_seq_ + 1;
    poison();
    return failure;
  }
  note_index(done.first_seq, time_max_ns_);
  offset_ += done.bytes;
  previous_crc_ = done.crc;
  time_max_ns_ = std::max(time_max_ns_, done.time_max_ns);
  written_seq_ = std::max(written_seq_, done.last_seq);
  unsynced_bytes_ += done.bytes;
  if (done.synced) durable_seq_ = written_seq_, unsynced_bytes_ = 0;
  // Requested early, so that the next file is there when this one is full.
  if (serves_ && next_bytes_ == 0 && offset_ >= file_bytes_ / 2) (void)ask_for_file(0, false);
  return 0;
}

result<void> lane_log::write_mark() {
  if (file_ < 0 || poisoned_ || in_flight_) return {};
  if (offset_ + align_ > file_bytes_) {  // the segment is full: only the state records it
    write_bound();
    return {};
  }
  const frame_memory memory(std::max<std::size_t>(align_, page));
  log::frame_builder frame(memory.bytes(), state_.log_id, align_);
  frame.begin(next_seq_);
  frame.set_time(now());
  std::uint32_t crc = 0;
  const auto span = frame.finish(durable_seq_, previous_crc_, crc, layout::frame_kind::mark);
  const int failure = disk_.write(file_, span, offset_);
  if (failure != 0) {
    poison();
    return failed(failure, "cannot write the log");
  }
  offset_ += span.size();
  previous_crc_ = crc;
  write_bound();
  return {};
}

result<void> lane_log::sync() {
  if (poisoned_) return poisoned();
  if (file_ < 0) return {};
  const int failure = disk_.sync(file_);
  if (failure != 0) {
    poison();
    return failed(failure, "cannot sync the log");
  }
  durable_seq_ = written_seq_;
  unsynced_bytes_ = 0;
  return {};
}

void lane_log::skip_to(std::uint64_t seq, layout::log_gap reason) noexcept {
  BUS_ASSERT(!in_flight_ && written_seq_ == durable_seq_, seq, written_seq_, durable_seq_);
  if (gap_reason_ == layout::log_gap::none) gap_first_ = next_seq_;
  gap_reason_ = reason;
  next_seq_ = seq;
  written_seq_ = durable_seq_ = seq - 1;
  flush_index();
  if (file_ >= 0) disk_.close(file_);
  file_ = -1;  // the next segment announces the gap
}

void lane_log::note_index(std::uint64_t seq, std::uint64_t time_max_ns) {
  if (offset_ < index_due_) return;
  layout::log_index_entry entry{};
  entry.seq = seq;
  entry.time_ns = time_max_ns;
  entry.offset = offset_;
  entry.crc = log::index_crc(log::seed_of(state_.log_id), entry);
  index_pending_.push_back(entry);
  index_due_ = offset_ + layout::log_index_stride_bytes;
  if (index_pending_.size() >= 16) flush_index();
}

// A hint for readers: a failure only costs them time.
void lane_log::flush_index() {
  if (index_pending_.empty() || segments_.empty()) return;
  const std::string path = directory_ + "/" + log::index_name(segments_.back().base_seq);
  int file =
      disk_.open(path, index_written_ == 0 ? log::disk_mode::create : log::disk_mode::write, false);
  if (file == -EEXIST) file = disk_.open(path, log::disk_mode::write, false);
  if (file >= 0) {
    const std::span<const std::byte> bytes{
        reinterpret_cast<const std::byte*>(index_pending_.data()),
        index_pending_.size() * sizeof(layout::log_index_entry)};
    if (disk_.write(file, bytes, index_written_ * sizeof(layout::log_index_entry)) == 0)
      index_written_ += index_pending_.size();
    disk_.close(file);
  }
  index_pending_.clear();
}

void lane_log::forget_reopening() { (void)disk_.remove(log::reopened_path(directory_)); }

result<void> lane_log::close(std::optional<std::uint64_t> beyond) {
  flush_index();
  auto synced = sync();
  if (!synced) return synced;
  auto marked = write_mark();
  if (!marked) return marked;
  synced = sync();
  if (!synced) return synced;
  layout::log_state state = state_;
  // LOG-5. The exact end, if it is known.
  if (beyond && !options_.spill && gap_reason_ == layout::log_gap::none) {
    state.high_water = written_seq_ + *beyond;
    state.flags |= layout::log_state_exact;
    state.ring_messages =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(options_.ring_messages, UINT32_MAX));
  }
  const int failure = store_state(state);
  if (failure != 0) return failed(failure, "cannot write the state of a log");
  return {};
}

}  // namespace bus::storage
