#include "storage/thin_segments.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "log/format.hpp"
#include "log/lane_files.hpp"
#include "log/segment_reader.hpp"

namespace bus::storage {

namespace {

constexpr std::size_t step_bytes = 1 << 20;
constexpr std::uint64_t least_share = 8;  // removing a smaller part of all messages is not worth it
constexpr std::uint64_t page = 4096;
constexpr std::uint64_t frame_span_s = 60;  // ages in one frame of a copy differ by at most this

/// Writes one copy. Functions return 0 or a negative errno.
class copy_writer {
 public:
  copy_writer(log::disk& on, std::uint64_t log_id, const log::segment_reader& first,
              thinned_segment& into)
      : disk_(on),
        into_(into),
        header_(*first.header()),
        seed_(log::seed_of(log_id)),
        log_id_(log_id),
        memory_(step_bytes),
        frame_(memory_, log_id, layout::log_unit) {}
  ~copy_writer() {
    if (file_ >= 0) disk_.close(file_);
  }
  copy_writer(const copy_writer&) = delete;
  copy_writer& operator=(const copy_writer&) = delete;

  int open() {
    (void)disk_.remove(into_.path);
    (void)disk_.remove(into_.index_path);
    file_ = disk_.open(into_.path, log::disk_mode::create, false);
    return std::min(file_, 0);
  }
  std::uint64_t bytes() const noexcept { return at_ + made_.size() + frame_.used_bytes(); }

  /// `time`: of the record's frame. The copy's frame gets the latest of its records, so that no
  /// message becomes older than it is.
  int add(const log::logged_record& record, const log::lane_time& time) {
    const std::uint64_t bytes = record.shape.total_bytes();
    if (frame_.count() != 0 && log::seconds_between(frame_.time(), time) > frame_span_s)
      if (const int failure = end_frame(); failure != 0) return failure;
    if (frame_.count() != 0 && (record.seq != frame_.next_seq() || !frame_.fits(bytes)))
      if (const int failure = end_frame(); failure != 0) return failure;
    if (frame_.count() == 0) {
      if (memory_.size() < bytes + sizeof(layout::log_frame)) {
        memory_.resize(bytes + sizeof(layout::log_frame));
        frame_ = log::frame_builder(memory_, log_id_, layout::log_unit);
      }
      frame_.begin(record.seq);
      frame_.set_time(time);
    }
    frame_.set_time(
        {std::max(frame_.time().up_s, time.up_s), std::max(frame_.time().off_s, time.off_s)});
    const std::uint64_t copied = record.shape.header_bytes + record.shape.payload_bytes;
    frame_.add(record.shape, record.origin, record.time_ns,
               [&](std::byte* to) { std::memcpy(to, record.header(), copied); });
    ++into_.records;
    return 0;
  }

  int finish() {
    int failure = frame_.count() != 0 ? end_frame() : 0;
    const std::uint64_t end = base::round_up(at_ + made_.size(), page);
    made_.resize(end - at_);
    if (failure == 0) failure = flush();
    header_.major = layout::log_major;
    header_.minor = layout::log_minor_thinned;
    header_.flags = (header_.flags & ~layout::log_flag_compressed) | layout::log_flag_thinned;
    header_.segment_bytes = into_.bytes = end;
    header_.align_bytes = layout::log_unit;  // below any disk's: the segment is never continued
    header_.records = into_.records;
    header_.end_seq = into_.end_seq;
    header_.subjects = into_.subjects;
    header_.header_crc = log::segment_header_crc(header_);
    std::vector<std::byte> head(layout::log_header_bytes);
    std::memcpy(head.data(), &header_, sizeof header_);
    if (failure == 0) failure = disk_.write(file_, head, 0);
    if (failure == 0) failure = disk_.sync(file_);
    if (failure == 0) write_index();
    return failure;
  }

 private:
  int end_frame() {
    note_index();
    std::uint32_t crc = 0;
    // Everything in a full segment is durable.
    const auto whole = frame_.finish(frame_.next_seq() - 1, previous_crc_, crc);
    previous_crc_ = crc;
    time_max_ns_ = std::max(time_max_ns_, frame_.time_max_ns());
    made_.insert(made_.end(), whole.begin(), whole.end());
    frame_.begin(frame_.next_seq());
    return made_.size() >= step_bytes ? flush() : 0;
  }
  int flush() {
    const int failure = made_.empty() ? 0 : disk_.write(file_, made_, at_);
    at_ += made_.size();
    made_.clear();
    return failure;
  }
  void note_index() {
    const std::uint64_t offset = at_ + made_.size();
    if (offset < index_due_) return;
    layout::log_index_entry entry{frame_.base_seq(), time_max_ns_, offset, 0, 0};
    entry.crc = log::index_crc(seed_, entry);
    index_.push_back(entry);
    index_due_ = offset + layout::log_index_stride_bytes;
  }
  // A hint for readers: a failure only costs them time.
  void write_index() {
    if (index_.empty()) return;
    const int file = disk_.open(into_.index_path, log::disk_mode::create, false);
    if (file < 0) return;
    const auto* begin = reinterpret_cast<const std::byte*>(index_.data());
    (void)disk_.write(file, {begin, index_.size() * sizeof index_[0]}, 0);
    disk_.close(file);
  }

  log::disk& disk_;
  thinned_segment& into_;
  layout::log_segment_header header_;
  const std::uint32_t seed_;
  const std::uint64_t log_id_;
  log::disk_file file_ = -1;
  std::vector<std::byte> memory_;
  log::frame_builder frame_;
  std::vector<std::byte> made_;
  std::uint64_t at_ = layout::log_header_bytes;  // of the first byte of made_
  std::uint32_t previous_crc_ = 0;
  std::uint64_t time_max_ns_ = 0;
  std::uint64_t index_due_ = layout::log_header_bytes + layout::log_index_stride_bytes;
  std::vector<layout::log_index_entry> index_;
};

class thinner {
 public:
  thinner(log::disk& on, const thinning& what, const std::atomic<bool>& stop)
      : disk_(on), what_(what), stop_(stop) {}

  thinned_segments run() {
    count();
    if (result_.failure == 0 && !stop_) {
      result_.outcome = thin_outcome::left;
      if (superseded() * least_share >= records_ && records_ != 0) copy();
    }
    if (stop_) result_.outcome = thin_outcome::stopped;
    if (result_.failure != 0) result_.outcome = thin_outcome::failed;
    if (result_.outcome != thin_outcome::done) {
      remove_copies(disk_, result_.made);
      result_.made.clear();
    }
    return std::move(result_);
  }

 private:
  std::size_t segments() const noexcept { return what_.bases.size() - 1; }

  // `each` returns 0 or a failure. Records beyond the beginning of the next segment belong to that.
  template <class Each>
  void walk(std::size_t index, log::segment_reader& reader, Each&& each) {
    log::logged_record record;
    while (result_.failure == 0 && !stop_) {
      const auto outcome = reader.next(record);
      if (outcome == log::walk_outcome::failure) result_.failure = reader.failure();
      if (outcome >= log::walk_outcome::end) return;
      if (outcome == log::walk_outcome::gap) continue;
      if (record.seq >= what_.bases[index + 1]) return;
      result_.failure = each(record);
    }
  }
  bool open(std::size_t index, log::segment_reader& reader) {
    const std::uint64_t base_seq = what_.bases[index];
    result_.failure =
        reader.open(log::segment_path(what_.directory, base_seq), what_.log_id, base_seq);
    return result_.failure == 0;
  }
  // Ids come from shared memory and may be anything: only those below `subjects` have a counter.
  bool has_subject(const log::logged_record& record) const noexcept {
    return record.subject_id() < what_.subjects && (record.shape.flags & layout::flag_control) == 0;
  }
  bool is_old(const log::segment_reader& reader) const noexcept {
    return what_.max_age_ns != 0 &&
           log::is_older(log::time_of(reader.frame()), what_.now, what_.max_age_ns);
  }

  void count() {
    is_whole_.resize(segments());
    left_.resize(what_.subjects);
    for (std::size_t i = 0; i < segments() && result_.failure == 0 && !stop_; ++i) {
      log::segment_reader reader(disk_);
      if (!open(i, reader)) return;
      walk(i, reader, [&](const log::logged_record& record) {
        ++records_;
        if (is_old(reader))
          ++old_;
        else if (has_subject(record))
          ++left_[record.subject_id()];
        return 0;
      });
      is_whole_[i] = reader.header() && reader.damages().empty() && reader.unreadable_bytes() == 0;
    }
  }
  std::uint64_t superseded() const noexcept {
    std::uint64_t sum = old_;
    for (const std::uint64_t messages : left_)
      if (messages > what_.keep) sum += messages - what_.keep;
    return sum;
  }

  bool stays(const log::logged_record& record, const log::segment_reader& reader) {
    if (is_old(reader)) return false;
    if (!has_subject(record)) return true;
    std::uint64_t& left = left_[record.subject_id()];
    // More records than were counted: this one stays.
    if (left == 0) return true;
    return left-- <= what_.keep;
  }

  void copy() {
    std::optional<copy_writer> writer;
    const auto finish = [&] {
      if (writer && result_.failure == 0) result_.failure = writer->finish();
      writer.reset();
    };
    result_.made.reserve(segments());  // writers point into it
    for (std::size_t i = 0; i < segments() && result_.failure == 0 && !stop_; ++i) {
      log::segment_reader reader(disk_);
      if (!open(i, reader)) break;
      const bool starts_segment = !is_whole_[i] || reader.header()->gap_reason != 0 ||
                                  (writer && writer->bytes() >= what_.segment_bytes / 2);
      if (starts_segment) finish();
      if (is_whole_[i] && !writer && result_.failure == 0) {
        const std::string base_path = log::segment_path(what_.directory, what_.bases[i]);
        thinned_segment& made = result_.made.emplace_back();
        made.path = base_path + ".tmp";
        made.index_path = what_.directory + "/" + log::index_name(what_.bases[i]) + ".tmp";
        writer.emplace(disk_, what_.log_id, reader, made);
        result_.failure = writer->open();
      }
      if (writer) {
        thinned_segment& into = result_.made.back();
        into.covers.push_back(what_.bases[i]);
        into.end_seq = what_.bases[i + 1];
        into.subjects = std::max(into.subjects, reader.header()->subjects);
      }
      walk(i, reader, [&](const log::logged_record& record) {
        const bool stay = stays(record, reader);
        if (!stay && writer) ++result_.removed;
        return stay && writer ? writer->add(record, log::time_of(reader.frame())) : 0;
      });
      // If the second reading finds damage that the first did not, the copies are discarded.
      if (is_whole_[i] && (!reader.damages().empty() || reader.unreadable_bytes() != 0))
        result_.failure = -EIO;
    }
    finish();
    if (result_.failure == 0 && !stop_)
      result_.outcome = result_.removed != 0 ? thin_outcome::done : thin_outcome::left;
  }

  log::disk& disk_;
  const thinning& what_;
  const std::atomic<bool>& stop_;
  thinned_segments result_;
  std::vector<bool> is_whole_;
  std::vector<std::uint64_t> left_;  // of each subject, from here to the end
  std::uint64_t records_ = 0;
  std::uint64_t old_ = 0;
};

}  // namespace

thinned_segments thin_segments(log::disk& on, const thinning& what, const std::atomic<bool>& stop) {
  return thinner(on, what, stop).run();
}

void remove_copies(log::disk& on, const std::vector<thinned_segment>& copies) {
  for (const thinned_segment& copy : copies) {
    (void)on.remove(copy.path);
    (void)on.remove(copy.index_path);
  }
}

}  // namespace bus::storage
