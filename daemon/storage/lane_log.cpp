#include "storage/lane_log.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "os/clock.hpp"
#include "os/failure.hpp"
#include "os/random.hpp"

namespace bus::storage {

namespace {

constexpr std::size_t page = 4096;
constexpr std::uint64_t index_stride_bytes = 256 * 1024;
constexpr std::uint64_t small_segment_bytes = 1 << 20;
constexpr std::size_t zero_step_bytes = 1 << 20;
constexpr std::string_view half_made = ".tmp";

std::span<const std::byte> zeroes() {
  static const frame_memory memory(zero_step_bytes);  // zeroed once
  return memory.bytes();
}

}  // namespace

frame_memory::frame_memory(std::size_t bytes)
    : data_(static_cast<std::byte*>(std::aligned_alloc(page, base::round_up(bytes, page)))),
      bytes_(base::round_up(bytes, page)) {
  if (data_ == nullptr) throw std::bad_alloc();
  std::memset(data_, 0, bytes_);
}
frame_memory::frame_memory(frame_memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
frame_memory& frame_memory::operator=(frame_memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}
frame_memory::~frame_memory() { std::free(data_); }

error lane_log::failed(int failure, std::string what) const {
  return os::failure(-failure, std::move(what) + " in " + directory_,
                     failure == -ENOSPC || failure == -EDQUOT
                         ? "free space there: what waits is written by itself then"
                         : "look at the disk (dmesg), then at the log: bus stream verify");
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
          "a write or a sync failed before", "restart() comes first"};
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
  if (failure != 0) return made->failed(failure, "cannot make a log");
  made->state_.log_id = os::random_id();
  made->state_.epoch = who.epoch;
  made->state_.high_water = high_water;
  made->state_.first_seq = 1;
  made->who_ = who;
  failure = log::create_state(on, made->directory_, made->state_);
  if (failure != 0) return made->failed(failure, "cannot make a log");
  auto rolled = made->roll(1, 0, layout::log_gap::none);
  if (!rolled) return std::move(rolled.error());
  return made;
}

result<std::unique_ptr<lane_log>> lane_log::open(log::disk& on, std::string directory,
                                                 const log_identity& who,
                                                 const log_options& options,
                                                 recovery_report& report) {
  std::unique_ptr<lane_log> made(new lane_log(on, std::move(directory), options));
  made->who_ = who;
  std::vector<std::string> names;
  int failure = on.list(made->directory_, names);
  if (failure != 0) return made->failed(failure, "cannot open a log");
  for (const std::string& name : names)
    if (name.ends_with(half_made)) (void)on.remove(made->directory_ + "/" + name);
  auto state = log::read_state(on, made->directory_, failure, &report.state_damaged);
  if (!state && failure != -EBADMSG && failure != -ENOENT)
    return made->failed(failure, "cannot read the state of a log");
  std::vector<std::uint64_t> bases;
  failure = log::list_segments(on, made->directory_, bases);
  if (failure != 0) return made->failed(failure, "cannot open a log");
  if (!state) {
    // Both copies are damaged: what the segments say, and a high water nothing can have passed.
    report.state_damaged = false;
    report.state_rebuilt = true;
    log::segment_reader probe(on);
    layout::log_state rebuilt{};
    for (auto base_seq = bases.rbegin(); base_seq != bases.rend() && rebuilt.log_id == 0;
         ++base_seq) {
      if (probe.open(log::segment_path(made->directory_, *base_seq), 0, *base_seq) != 0) continue;
      rebuilt.log_id = probe.log_id();
      rebuilt.epoch = probe.header()->epoch;
    }
    if (rebuilt.log_id == 0) rebuilt.log_id = os::random_id();
    rebuilt.first_seq = bases.empty() ? 1 : bases.front();
    made->state_ = rebuilt;
  } else {
    made->state_ = *state;
  }
  for (const std::uint64_t base_seq : bases) {
    const int file =
        on.open(log::segment_path(made->directory_, base_seq), log::disk_mode::read, false);
    const std::int64_t bytes = file >= 0 ? on.size(file) : 0;
    if (file >= 0) on.close(file);
    made->segments_.push_back(
        {base_seq, static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)), {}});
  }
  auto recovered = made->recover(report);
  if (!recovered) return std::move(recovered.error());
  // The copy that is whole may be the older one (W5).
  constexpr std::uint64_t never_reached = 1ull << 32;
  if (report.state_rebuilt || report.state_damaged)
    made->state_.high_water = std::max(made->state_.high_water, made->next_seq_) + never_reached;
  failure = report.state_rebuilt ? log::create_state(on, made->directory_, made->state_)
                                 : log::write_state(on, made->directory_, made->state_);
  if (failure == 0 && report.state_damaged)
    failure = log::write_state(on, made->directory_, made->state_);
  // Also when nothing was wrong: a process that was killed, or met a disk that fails, may have left
  // a state or a name that only the page cache knows.
  if (failure == 0) failure = on.sync_directory(made->directory_);
  if (failure != 0) return made->failed(failure, "cannot write the state of a log");
  return made;
}

// Reads the last segment only: every other one was complete and durable before a newer one got its
// name (W3).
result<void> lane_log::recover(recovery_report& report) {
  const std::uint64_t fresh = std::max<std::uint64_t>(state_.first_seq, 1);
  if (segments_.empty()) {
    next_seq_ = fresh;
    written_seq_ = durable_seq_ = fresh - 1;
    return roll(fresh, 0, layout::log_gap::none);
  }
  const std::uint64_t base_seq = segments_.back().base_seq;
  log::segment_reader reader(disk_);
  const int opened = reader.open(log::segment_path(directory_, base_seq), state_.log_id, base_seq);
  if (opened == -EPROTONOSUPPORT)
    return error{errc::unsupported, 0, "cannot open the log in " + directory_,
                 "a newer busd wrote it", "use that version, or a newer one"};
  if (opened != 0) return failed(opened, "cannot read the log");
  struct run {
    std::uint64_t first, last, end;
  };
  std::vector<run> runs;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> frames;  // first sequence, offset
  std::uint64_t durable = base_seq - 1, end = layout::log_header_bytes;
  for (log::logged_record record;;) {
    const std::uint64_t before = reader.expected();
    const auto outcome = reader.next(record);
    if (outcome == log::walk_outcome::failure)
      return failed(reader.failure(), "cannot read the log");
    if (outcome == log::walk_outcome::end) break;
    if (outcome == log::walk_outcome::gap) continue;
    if (frames.empty() || frames.back().second != reader.frame_offset())
      frames.emplace_back(record.seq, reader.frame_offset());
    if (runs.empty() || before != runs.back().last + 1) runs.push_back({record.seq, 0, 0});
    runs.back().last = record.seq;
    runs.back().end = end = reader.position();
  }
  // What was purged had been durable, too, and is not copied below.
  durable = std::max({durable, reader.durable_upto(), fresh - 1});
  report.bytes_read += reader.bytes_read();
  if (reader.header()) {
    active_gap_first_ = reader.header()->gap_first;
    active_gap_reason_ = static_cast<layout::log_gap>(reader.header()->gap_reason);
  }
  // Damage above what was durable is a torn write: it is cut there. Below, it is corruption: what
  // is intact behind it stays.
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
  // Said to be durable, and not there any more: its sequences are gone, but never used again.
  const bool lost_end = !options_.spill && durable > last;
  for (const log::damage& d : reader.damages()) {
    if (d.offset >= layout::log_header_bytes && d.first_seq > durable)
      torn = true, report.cut_bytes += d.bytes;
    else
      report.damages.push_back(d);
  }
  if (lost_end) {
    gap_first_ = last + 1;
    gap_reason_ = layout::log_gap::corrupt;
    last = durable;
  }
  durable = std::min(durable, last);
  time_max_ns_ = reader.time_max_ns();
  durable_seq_ = durable;
  written_seq_ = last;
  next_seq_ = last + 1;
  const bool whole = reader.header().has_value() && report.damages.empty() && !torn && !lost_end &&
                     reader.expected() == last + 1;
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
      index_due_ = offset_ + index_stride_bytes;
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
  return restart();
}

// W3. From the files: the page cache has what the disk may not.
result<void> lane_log::restart() {
  in_flight_.reset();
  if (file_ >= 0) disk_.close(file_);
  file_ = -1;
  // Older segments were durable before this one got its name; of a spill log's nobody expects it.
  const std::uint64_t first =
      std::max(durable_seq_ + 1, segments_.empty() ? 0 : segments_.back().base_seq);
  const std::uint64_t last = written_seq_;
  if (gap_reason_ == layout::log_gap::none && !segments_.empty() &&
      segments_.back().base_seq == first) {  // the new one takes its place
    gap_first_ = active_gap_first_;
    gap_reason_ = active_gap_reason_;
  }
  next_seq_ = written_seq_ + 1;
  if (gap_reason_ != layout::log_gap::none && first > last) {
    auto rolled = roll(next_seq_, gap_first_, gap_reason_);
    poisoned_ = !rolled;
    if (rolled) durable_seq_ = written_seq_;
    return rolled;
  }
  std::string path;
  // Room for the tail, however it was framed, and to go on.
  auto made = open_new_file(path, options_.segment_bytes / 4 + 2 * unsynced_bytes_);
  if (!made) return made;
  made = write_header(first, file_bytes_, gap_first_, gap_reason_);
  if (made && first <= last) made = copy_tail(first, last);
  if (made) {
    const int failure = disk_.sync(file_);
    if (failure != 0) made = failed(failure, "cannot sync the log");
  }
  if (made) made = name_segment(path, first, gap_first_, gap_reason_);
  if (!made) {
    poison();
    (void)disk_.remove(path);
    return made;
  }
  durable_seq_ = written_seq_;
  unsynced_bytes_ = 0;
  poisoned_ = false;
  return {};
}

// Records [first, last] from the named segments into the new file. What cannot be read is left out.
result<void> lane_log::copy_tail(std::uint64_t first, std::uint64_t last) {
  log::history from(disk_, directory_);
  if (const int failure = from.open(); failure != 0) return failed(failure, "cannot read the log");
  from.seek(first);
  frame_memory memory(options_.largest_frame_bytes);
  log::frame_builder frame(memory.bytes(), state_.log_id, align_);
  std::uint64_t copied = first - 1;
  const auto put = [&]() -> result<void> {
    if (frame.count() == 0) return {};
    std::uint32_t crc = 0;
    const auto bytes = frame.finish(durable_seq_, previous_crc_, crc);
    if (offset_ + bytes.size() > file_bytes_)
      return error{errc::no_space, 0, "cannot write the tail of the log in " + directory_,
                   "it does not fit into one segment", "use a larger --segment-bytes"};
    const int failure = disk_.write(file_, bytes, offset_);
    if (failure != 0) return failed(failure, "cannot write the log");
    offset_ += bytes.size();
    previous_crc_ = crc;
    return {};
  };
  frame.begin(first);
  for (log::logged_record record; copied < last;) {
    const auto outcome = from.next(record, last);
    if (outcome == log::walk_outcome::failure) return failed(from.failure(), "cannot read the log");
    if (outcome == log::walk_outcome::end) break;
    if (outcome == log::walk_outcome::gap) continue;
    const bool follows = record.seq == frame.next_seq();
    if (!follows && !options_.spill && record.seq > durable_seq_) break;  // a suffix is lost (W1)
    if (!frame.fits(record.shape.total_bytes()) || !follows) {
      auto written = put();
      if (!written) return written;
      frame.begin(record.seq);
    }
    frame.add(record.shape, record.origin, record.time_ns, [&](std::byte* to) {
      std::memcpy(to, record.header(),
                  std::size_t{record.shape.header_bytes} + record.shape.payload_bytes);
    });
    copied = record.seq;
  }
  written_seq_ = copied;
  next_seq_ = copied + 1;
  return put();
}

result<void> lane_log::begin_epoch(std::uint64_t epoch) {
  if (poisoned_) return poisoned();
  const std::uint64_t lost_from = next_seq_;
  const std::uint64_t go_on = std::max(state_.high_water + 1, next_seq_);
  layout::log_state state = state_;
  state.epoch = epoch;
  const int failure = log::write_state(disk_, directory_, state);
  if (failure != 0) return failed(failure, "cannot write the state of a log");
  state_ = state;
  if (go_on == lost_from) return {};
  auto rolled = roll(go_on, lost_from, layout::log_gap::unsynced);
  if (rolled || segments_.back().base_seq == go_on) {
    next_seq_ = go_on;
    written_seq_ = go_on - 1;
  }
  if (rolled) durable_seq_ = written_seq_;
  return rolled;
}

result<void> lane_log::raise_high_water(std::uint64_t seq, std::uint64_t step) {
  if (seq <= state_.high_water) return {};
  layout::log_state raised = state_;
  raised.high_water = seq + step;
  const int failure = log::write_state(disk_, directory_, raised);
  if (failure != 0) return failed(failure, "cannot write the state of a log");
  state_ = raised;
  return {};
}

result<void> lane_log::open_new_file(std::string& path, std::uint64_t wanted_bytes) {
  offset_ = layout::log_header_bytes;
  previous_crc_ = 0;
  index_due_ = offset_ + index_stride_bytes;
  index_pending_.clear();
  index_written_ = 0;
  const std::uint64_t least =
      base::round_up(layout::log_header_bytes + options_.largest_frame_bytes + page, page);
  // The first one is small: a lane may stay quiet for ever.
  const bool is_first = segments_.empty() || written_seq_ < segments_.back().base_seq;
  // A lane that fills a segment within moments makes large commits. Writing zeroes first would cost
  // it half of the disk, and gain what a large commit does not feel.
  const auto now = std::chrono::steady_clock::now();
  const bool is_fast = !is_first && now - segment_begun_ < options_.fast_segment;
  segment_begun_ = now;
  if (options_.take_spare && !is_first && !is_fast) {
    const std::uint64_t bytes = std::max(options_.segment_bytes, least);
    if (wanted_bytes <= bytes) path = options_.take_spare(directory_, bytes);
    if (!path.empty()) {
      const int file = disk_.open(path, log::disk_mode::write, options_.direct);
      if (file >= 0) {
        file_ = file;
        file_bytes_ = bytes;
        align_ = std::max<std::uint32_t>(512, disk_.alignment(file));
        return {};
      }
    }
  }
  const std::uint64_t bytes = std::max(
      base::round_up(is_fast ? std::max(options_.segment_bytes, wanted_bytes) : wanted_bytes, page),
      least);
  path = directory_ + "/new" + std::string(half_made);
  (void)disk_.remove(path);
  const int file = disk_.open(path, log::disk_mode::create, options_.direct);
  if (file < 0) return failed(file, "cannot make a segment");
  int failure = disk_.reserve(file, bytes);
  // Written once, so that a commit need not also write down that these blocks are in use now.
  for (std::uint64_t done = 0; failure == 0 && !is_fast && done < bytes; done += zero_step_bytes)
    failure = disk_.write(
        file, zeroes().first(std::min<std::uint64_t>(zero_step_bytes, bytes - done)), done);
  if (failure == 0) failure = disk_.sync(file);
  if (failure != 0) {
    disk_.close(file);
    (void)disk_.remove(path);
    return failed(failure, "cannot make a segment");
  }
  file_ = file;
  file_bytes_ = bytes;
  align_ = std::max<std::uint32_t>(512, disk_.alignment(file));
  return {};
}

result<void> lane_log::write_header(std::uint64_t base_seq, std::uint64_t bytes,
                                    std::uint64_t gap_first, layout::log_gap reason) {
  const frame_memory memory(layout::log_header_bytes);
  layout::log_segment_header header{};
  header.magic = layout::log_magic;
  header.major = layout::log_major;
  header.minor = layout::log_minor;
  header.log_id = state_.log_id;
  header.stream_id = who_.stream_id;
  header.epoch = state_.epoch;
  header.base_seq = base_seq;
  header.segment_bytes = bytes;
  header.created_ns = os::wall_ns();
  header.gap_first = gap_first;
  header.gap_reason = static_cast<std::uint32_t>(reason);
  header.lane_index = who_.lane;
  header.align_bytes = align_;
  header.flags = options_.spill ? layout::log_flag_spill : 0;
  header.durable_upto = durable_seq_;
  header.header_crc = log::segment_header_crc(header);
  std::memcpy(memory.bytes().data(), &header, sizeof header);
  const int failure = disk_.write(file_, memory.bytes(), 0);
  if (failure != 0) return failed(failure, "cannot begin a segment");
  return {};
}

// When it fails behind the rename, the segment is there, for readers and for the next open(): it is
// the last one, and only another one can take its place.
result<void> lane_log::name_segment(const std::string& path, std::uint64_t base_seq,
                                    std::uint64_t gap_first, layout::log_gap reason) {
  // One of the same base has nothing that is not in the new one.
  (void)disk_.remove(directory_ + "/" + log::index_name(base_seq));
  int failure = disk_.rename(path, log::segment_path(directory_, base_seq));
  if (failure != 0) return failed(failure, "cannot begin a segment");
  while (!segments_.empty() && segments_.back().base_seq >= base_seq) segments_.pop_back();
  segments_.push_back({base_seq, file_bytes_, {}});
  gap_first_ = 0;
  gap_reason_ = layout::log_gap::none;
  active_gap_first_ = gap_first;
  active_gap_reason_ = reason;
  failure = disk_.sync_directory(directory_);
  if (failure == 0) return {};
  poison();
  return failed(failure, "cannot begin a segment");
}

result<void> lane_log::roll(std::uint64_t base_seq, std::uint64_t gap_first,
                            layout::log_gap reason) {
  flush_index();
  if (file_ >= 0 && written_seq_ > durable_seq_ && !options_.spill) {
    auto synced = sync();
    if (!synced) return synced;
  }
  // The old one stays what it is, should the new one not come to be.
  const auto old_file = file_;
  const auto old =
      std::tuple(offset_, file_bytes_, align_, previous_crc_, index_due_, index_written_);
  file_ = -1;
  const bool first = segments_.empty();
  std::string path;
  auto made = open_new_file(path, first ? std::min(small_segment_bytes, options_.segment_bytes)
                                        : options_.segment_bytes / 4);
  if (made) made = write_header(base_seq, file_bytes_, gap_first, reason);
  if (made) {
    const int failure = disk_.sync(file_);
    if (failure != 0) made = failed(failure, "cannot sync a segment");
  }
  const bool was_poisoned = std::exchange(poisoned_, false);
  if (made) made = name_segment(path, base_seq, gap_first, reason);
  if (poisoned_) {
    if (old_file >= 0) disk_.close(old_file);
    return made;
  }
  poisoned_ = was_poisoned;
  if (!made) {
    if (file_ >= 0) disk_.close(file_);
    if (!path.empty()) (void)disk_.remove(path);
    file_ = old_file;
    std::tie(offset_, file_bytes_, align_, previous_crc_, index_due_, index_written_) = old;
    return made;
  }
  if (old_file >= 0) disk_.close(old_file);
  unsynced_bytes_ = 0;
  return {};
}

result<void> lane_log::begin(log::frame_builder& frame, bool sync_too, std::uint64_t token,
                             int buffer) {
  if (poisoned_) return poisoned();
  const std::uint64_t bytes = base::round_up(frame.used_bytes(), align_);
  if (file_ < 0 || offset_ + bytes > file_bytes_) {
    // A hole between two segments was consumed by everybody: only a spill log has any.
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
  const auto span = frame.finish(durable_seq_, previous_crc_, now.crc);
  now.bytes = span.size();
  now.time_max_ns = frame.time_max_ns();
  in_flight_ = now;
  next_seq_ = now.last_seq + 1;
  disk_.begin_write(file_, span, offset_, sync_too, token, buffer);
  return {};
}

int lane_log::finished(int failure) {
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
  return 0;
}

result<void> lane_log::write_mark() {
  if (file_ < 0 || poisoned_ || in_flight_ || offset_ + align_ > file_bytes_) return {};
  const frame_memory memory(std::max<std::size_t>(align_, page));
  log::frame_builder frame(memory.bytes(), state_.log_id, align_);
  frame.begin(next_seq_);
  std::uint32_t crc = 0;
  const auto span = frame.finish(durable_seq_, previous_crc_, crc, layout::frame_kind::mark);
  const int failure = disk_.write(file_, span, offset_);
  if (failure != 0) {
    poison();
    return failed(failure, "cannot write the log");
  }
  offset_ += span.size();
  previous_crc_ = crc;
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
  if (gap_reason_ == layout::log_gap::none) gap_first_ = next_seq_;
  gap_reason_ = reason;
  next_seq_ = seq;
  written_seq_ = durable_seq_ = seq - 1;
  flush_index();
  if (file_ >= 0) disk_.close(file_);
  file_ = -1;  // the next segment announces it
}

void lane_log::note_index(std::uint64_t seq, std::uint64_t time_max_ns) {
  if (offset_ < index_due_) return;
  layout::log_index_entry entry{};
  entry.seq = seq;
  entry.time_ns = time_max_ns;
  entry.offset = offset_;
  entry.crc = log::index_crc(log::seed_of(state_.log_id), entry);
  index_pending_.push_back(entry);
  index_due_ = offset_ + index_stride_bytes;
  if (index_pending_.size() >= 16) flush_index();
}

// A hint for readers: failures only cost them time.
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

result<void> lane_log::close() {
  flush_index();
  auto synced = sync();
  if (!synced) return synced;
  auto marked = write_mark();
  if (!marked) return marked;
  return sync();
}

}  // namespace bus::storage
