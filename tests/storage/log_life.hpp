#pragma once
/// log_life: writes a lane's log as busd does, and keeps a book of what must be there.
///
/// What must hold after any end
///   LIFE-1  What was confirmed and not removed since is there as it was written.
///   LIFE-2  What is there is a part of what was begun, without holes: only a suffix is lost.
///   LIFE-3  Nothing is there that was never begun, nothing twice, and every hole in the
///           sequences is reported.
///   LIFE-5  Of a batch all records are there, or none.
///   LIFE-4  next_seq() is above everything that was ever durable; after begin_epoch(), above
///           everything ever begun.

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "log/history.hpp"
#include "log_box.hpp"
#include "simulated_disk.hpp"
#include "storage/compress_segment.hpp"
#include "storage/lane_log.hpp"

namespace bus::test {

/// splitmix64: small, and the same on every platform.
class small_random {
 public:
  explicit small_random(std::uint64_t seed) noexcept : state_(mix(seed)) {}
  static constexpr std::uint64_t mix(std::uint64_t value) noexcept {
    value += 0x9e3779b97f4a7c15ull;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
    return value ^ (value >> 31);
  }
  std::uint64_t operator()() noexcept { return mix(state_++); }
  std::uint64_t below(std::uint64_t limit) noexcept { return (*this)() % limit; }
  bool percent(std::uint64_t share) noexcept { return below(100) < share; }

 private:
  std::uint64_t state_;
};

struct begun_record {
  std::uint64_t seq = 0;
  std::uint32_t bytes = 0;
  std::uint32_t salt = 0;  // differs whenever a sequence is begun again
  bool continues = false;  // the next record belongs to its batch
  bool operator==(const begun_record&) const = default;
};

struct log_book {
  std::vector<begun_record> live;  // begun, in order, without those begun again
  std::uint64_t confirmed = 0;
  std::uint64_t floor = 1;  // records below were removed and may be missing
  std::uint64_t highest_begun = 0;
  std::uint64_t high_water = 0;
  bool disk_failed = false;            // reports of damage may then be false
  std::uint64_t refused_from = ~0ull;  // records of `live` from here on were refused
};

inline std::vector<std::byte> contents_of(const begun_record& record) {
  return payload_of(record.seq ^ std::uint64_t{record.salt} << 40, record.bytes);
}

struct found_records {
  std::vector<begun_record> records;
  std::vector<log::log_loss> losses;
  std::vector<log::damage> damages;
  int failure = 0;
  std::string wrong;
};

/// Everything from `from` on, each record compared with its contents (LIFE-3).
inline found_records find_records(log::disk& disk, const std::string& directory,
                                  std::uint64_t from = 1, std::uint64_t limit = ~0ull) {
  found_records all;
  log::history history(disk, directory);
  all.failure = history.open();
  if (all.failure != 0) return all;
  history.seek(from);
  history.look_at_every_byte();
  std::uint64_t next = from;
  for (log::logged_record record;;) {
    const auto outcome = history.next(record, limit);
    if (outcome == log::walk_outcome::record) {
      const begun_record made{record.seq, record.shape.payload_bytes,
                              static_cast<std::uint32_t>(record.origin >> 32),
                              (record.shape.flags & layout::flag_continues) != 0};
      const auto contents = contents_of(made);
      if (record.time_ns != time_of(record.seq) || record.subject_id() != record.seq % 7 ||
          (!contents.empty() &&
           std::memcmp(record.payload(), contents.data(), contents.size()) != 0))
        all.wrong =
            "record " + std::to_string(record.seq) + " has other contents than were written";
      if (record.seq != next)
        all.wrong = "record " + std::to_string(record.seq) + " came where " + std::to_string(next) +
                    " was due";
      next = record.seq + 1;
      all.records.push_back(made);
    } else if (outcome == log::walk_outcome::gap) {
      if (history.loss().first != next || history.loss().count == 0)
        all.wrong = "a gap from " + std::to_string(history.loss().first) + " where " +
                    std::to_string(next) + " was due";
      next = history.loss().first + history.loss().count;
      all.losses.push_back(history.loss());
    } else {
      if (outcome == log::walk_outcome::failure) all.failure = history.failure();
      break;
    }
    if (!all.wrong.empty()) break;
  }
  all.damages = history.take_damages();
  return all;
}

/// Checks LIFE-1, LIFE-2 and LIFE-5. Empty: all is as it must be.
inline std::string differs_from(const log_book& book, const std::vector<begun_record>& found) {
  std::size_t first_due = 0, confirmed = 0;
  while (first_due < book.live.size() && book.live[first_due].seq < book.floor) ++first_due;
  while (confirmed < book.live.size() && book.live[confirmed].seq <= book.confirmed &&
         book.live[confirmed].seq < book.refused_from)
    ++confirmed;
  const std::string story =
      " (confirmed up to " + std::to_string(book.confirmed) + ", removed below " +
      std::to_string(book.floor) + ", " + std::to_string(book.live.size()) + " begun, " +
      std::to_string(found.size()) + " found" +
      (found.empty() ? "" : ", from " + std::to_string(found.front().seq) + " on") + ")";
  if (found.empty()) {
    if (first_due >= confirmed) return {};
    return "confirmed record " + std::to_string(book.live[first_due].seq) +
           " is gone, and everything else" + story;
  }
  std::size_t at = 0;
  while (at < book.live.size() && book.live[at].seq < found.front().seq) ++at;
  if (at > first_due && first_due < confirmed)
    return "record " + std::to_string(book.live[first_due].seq) + " is gone from the beginning" +
           story;
  for (const begun_record& record : found) {
    if (at == book.live.size())
      return "record " + std::to_string(record.seq) + " was never begun, or was begun anew" + story;
    if (!(book.live[at] == record))
      return "record " + std::to_string(record.seq) + " was found where " +
             std::to_string(book.live[at].seq) + " was written" + story;
    ++at;
  }
  if (!found.empty() && found.back().continues)
    return "of the batch that record " + std::to_string(found.back().seq) +
           " belongs to the end is gone" + story;
  if (at < confirmed)
    return "confirmed record " + std::to_string(book.live[at].seq) + " is gone" + story;
  return {};
}

class log_life {
 public:
  static constexpr std::size_t frame_bytes = 4096;
  static constexpr std::uint64_t high_water_step = 40;

  log_life(simulated_disk& on, std::uint64_t seed) : disk_(on), random_(seed) {
    options_.segment_bytes = 64 * 1024;
    options_.largest_frame_bytes = frame_bytes;
    options_.fast_segment = {};  // not by the clock, so that a life can be repeated
  }

  log_book book;
  bool believes_written = false;  // a seeded bug: what is written counts as confirmed
  bool uses_spares = false;
  /// ends_later: the last record of every frame belongs to a batch that continues in the next
  /// frame.
  enum class batch : std::uint8_t { none, sometimes, ends_later } batches = batch::sometimes;

  const std::string& wrong() const noexcept { return wrong_; }
  storage::lane_log* log() noexcept { return log_.get(); }
  const storage::recovery_report& report() const noexcept { return report_; }
  storage::log_options& options() noexcept { return options_; }
  static std::string directory() { return "/lane"; }

  /// The book as of this moment, even in the middle of a call.
  log_book book_now() const {
    log_book now = book;
    if (log_ != nullptr)
      now.confirmed =
          std::max(now.confirmed, believes_written ? log_->written_seq() : log_->durable_seq());
    now.disk_failed = book.disk_failed || disk_.faults_fired() != 0;
    return now;
  }

  bool create() {
    set_options();
    auto made = storage::lane_log::create(disk_, directory(), {7, 1, 0}, 0, options_);
    if (made) log_ = std::move(*made);
    return log_ != nullptr;
  }

  /// Opens the log, whatever it contains.
  bool open_only() {
    log_.reset();
    set_options();
    report_ = {};
    auto made = storage::lane_log::open(disk_, directory(), {7, 1, 0}, options_, report_);
    if (!made) return failed(made.error());
    log_ = std::move(*made);
    confirmed_ = 0;
    return true;
  }

  /// Opens the log and checks it against the book: only a power loss may have lost bytes.
  bool open() {
    log_.reset();
    if (!open_only()) return false;
    auto opened = std::move(log_);  // not yet part of the book
    const auto found = find_records(disk_, directory());
    if (found.failure != 0) {
      failure_ = "history: " + std::to_string(found.failure);
      return false;
    }
    log_ = std::move(opened);
    blame(found.wrong);
    blame(differs_from(book, found.records));
    const std::uint64_t last = found.records.empty() ? 0 : found.records.back().seq;
    if (log_->next_seq() <= std::max(last, book.confirmed))
      blame("next_seq() is " + std::to_string(log_->next_seq()) + ", but " +
            std::to_string(std::max(last, book.confirmed)) + " was durable");
    if (log_->durable_seq() + 1 != log_->next_seq() || log_->written_seq() + 1 != log_->next_seq())
      blame("an opened log has something that is not durable");
    if (log_->high_water() < book.high_water) blame("the high water fell");
    for (const log::damage& damage : report_.damages)
      if (damage.missing != 0 || damage.offset < layout::log_header_bytes ||
          !book_now().disk_failed)
        blame("damage is told at " + std::to_string(damage.offset) + " of " +
              std::to_string(damage.bytes) + " bytes, first " + std::to_string(damage.first_seq) +
              ", missing " + std::to_string(damage.missing) + ", where only power was lost");
    if (report_.state_rebuilt && book.highest_begun != 0)
      blame("both copies of the state were lost");
    take_back(found.records.empty() ? std::min(book.floor, log_->next_seq()) : last + 1);
    book.refused_from = ~0ull;
    book.confirmed = std::max(book.confirmed, last);
    return wrong_.empty();
  }
  /// Why open() or another call returned false.
  const std::string& failure() const noexcept { return failure_; }

  /// False: it failed, which is not an error of the log.
  bool append(std::uint32_t records, std::uint32_t bytes_max, bool sync) {
    if (!restart_if_poisoned()) return false;
    log::frame_builder frame(memory_.bytes(), log_->log_id(), log_->align());
    frame.begin(log_->next_seq());
    take_back(frame.base_seq());
    const bool is_batch =
        batches == batch::ends_later || (batches == batch::sometimes && random_.percent(50));
    std::vector<begun_record> all;
    for (std::uint64_t bytes = sizeof(layout::log_frame); all.size() < records;) {
      all.push_back({frame.next_seq() + all.size(),
                     static_cast<std::uint32_t>(random_.below(bytes_max + 1)), ++salt_});
      bytes += layout::record_shape{all.back().bytes, 0, 0}.total_bytes();
      if (base::round_up(bytes, log_->align()) <= memory_.bytes().size()) continue;
      all.pop_back();
      break;
    }
    const std::size_t whole = batches == batch::ends_later ? 0 : 1;  // records that do not continue
    for (std::size_t i = 0; is_batch && i + whole < all.size(); ++i) all[i].continues = true;
    for (const begun_record& record : all) {
      const layout::record_shape shape{
          record.bytes, 0, record.continues ? layout::flag_continues : std::uint16_t{0}};
      const auto contents = contents_of(record);
      frame.add(shape, layout::pack_origin(static_cast<std::uint32_t>(record.seq % 7), record.salt),
                time_of(record.seq), [&](std::byte* to) {
                  if (!contents.empty()) std::memcpy(to, contents.data(), contents.size());
                });
      book.live.push_back(record);
    }
    if (auto raised = log_->raise_high_water(frame.next_seq() - 1, high_water_step); !raised)
      return failed(raised.error());
    book.high_water = log_->high_water();
    book.highest_begun = std::max(book.highest_begun, frame.next_seq() - 1);
    const std::uint64_t before = log_->written_seq();
    if (auto begun = log_->begin(frame, sync, 9, -1); !begun) return failed(begun.error());
    log::disk_completion done;
    if (disk_.reap({&done, 1}, 1) != 1 || done.token != 9) return blame("no answer of the disk");
    const int failure = log_->finished(done.failure);
    if (failure != 0) {
      if (log_->written_seq() != before) blame("written_seq() rose by a write that failed");
      if (!log_->is_poisoned()) blame("a write failed, and the log goes on");
      return false;
    }
    note_durable();
    if (log_->written_seq() + 1 != frame.next_seq()) blame("a frame is not counted as written");
    if (sync && log_->durable_seq() != log_->written_seq()) blame("a synced frame is not durable");
    return true;
  }

  bool sync() {
    if (!restart_if_poisoned()) return false;
    if (auto done = log_->sync(); !done) return failed(done.error());
    if (log_->durable_seq() != log_->written_seq()) blame("sync() left something behind");
    note_durable();
    return true;
  }

  bool write_mark() {
    if (!restart_if_poisoned()) return false;
    auto done = log_->write_mark();
    return done ? true : failed(done.error());
  }

  bool retain(std::uint64_t messages) {
    // During the call, any segment but the last may be removed.
    const std::uint64_t before = book.floor;
    if (log_->next_seq() > messages) book.floor = std::max(book.floor, log_->next_seq() - messages);
    const std::uint64_t fired = disk_.faults_fired();
    log_->retain({0, 0, messages});
    // A removal is stored in the state first. When that fails, the segment may remain.
    if (disk_.faults_fired() == fired)
      book.floor = std::max(before, std::min(book.floor, log_->first_seq()));
    return true;
  }

  bool purge(std::uint64_t seq) {
    book.floor = std::max(book.floor, std::min(seq, log_->next_seq()));
    auto done = log_->purge(seq);
    note_durable();
    return done ? true : failed(done.error());
  }

  /// Compresses the oldest full segment that is not compressed yet. True: replaced by the copy.
  bool compress() {
    const auto base_seq = log_->next_full_segment();
    if (!base_seq) return false;
    const std::string path = directory() + "/" + log::segment_name(*base_seq) + ".tmp";
    const std::atomic<bool> stop{false};
    const auto copy =
        storage::compress_segment(disk_, directory(), *base_seq, log_->log_id(), path, stop);
    if (copy.outcome == storage::compress_outcome::left) log_->mark_compress_skipped(*base_seq);
    return copy.outcome == storage::compress_outcome::done &&
           log_->replace_segment(*base_seq, path, copy.bytes) == 0;
  }

  bool begin_epoch() {
    if (!restart_if_poisoned()) return false;
    const std::uint64_t begun_anew = log_->next_seq();
    book.refused_from = begun_anew;  // the book's records from here on were begun once, and refused
    auto done = log_->begin_epoch(log_->epoch() + 1);
    book.refused_from = ~0ull;
    if (!done) return failed(done.error());
    take_back(begun_anew);
    if (log_->next_seq() <= book.highest_begun)
      blame("after begin_epoch() next_seq() is " + std::to_string(log_->next_seq()) + ", but " +
            std::to_string(book.highest_begun) + " was begun");
    note_durable();
    return true;
  }

  bool close() {
    if (!restart_if_poisoned()) return false;
    if (auto done = log_->close(); !done) return failed(done.error());
    if (log_->durable_seq() != log_->written_seq()) blame("close() left something behind");
    note_durable();
    return true;
  }

  /// Checks what a reader sees next to the writer.
  bool look() {
    const auto found = find_records(disk_, directory(), 1, log_->written_seq());
    if (found.failure != 0) return false;
    blame(found.wrong);
    log_book now = book_now();
    now.confirmed = log_->written_seq();
    blame(differs_from(now, found.records));
    return wrong_.empty();
  }

  /// A few random calls of a writer, which reacts to a failure as busd does.
  void live_on() {
    const std::uint64_t dice = random_.below(100);
    const auto records =
        static_cast<std::uint32_t>(1 + (random_.percent(50) ? 0 : random_.below(6)));
    const std::uint32_t bytes = random_.percent(70) ? 300 : random_.percent(50) ? 3900 : 0;
    if (dice < 40) {
      append(records, bytes, true);
    } else if (dice < 70) {
      append(records, bytes, false);
    } else if (dice < 78) {
      sync();
    } else if (dice < 84) {
      write_mark();
    } else if (dice < 88) {
      retain(5 + random_.below(30));
    } else if (dice < 91) {
      purge(random_.percent(20) ? log_->next_seq() : log_->first_seq() + random_.below(10));
    } else if (dice < 93) {
      begin_epoch();
    } else if (dice < 95) {
      if (close()) open();
    } else if (dice < 97) {
      note_durable();
      open();  // the process died
    } else if (dice < 99) {
      compress();
    } else {
      look();
    }
  }

  bool restart_if_poisoned() {
    if (!log_->is_poisoned()) return true;
    const std::uint64_t written = log_->written_seq();
    auto done = log_->restart();
    if (!done) return failed(done.error());
    if (log_->is_poisoned()) return blame("poisoned after restart()");
    if (log_->written_seq() < written) blame("restart() lost what could be read");
    if (log_->durable_seq() != log_->written_seq()) blame("restart() left something behind");
    take_back(log_->next_seq());
    note_durable();
    return true;
  }

  /// Always returns false.
  bool blame(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
    return false;
  }
  small_random& random() noexcept { return random_; }
  void set_salt(std::uint32_t salt) noexcept { salt_ = salt; }

 private:
  void set_options() {
    if (!uses_spares) return;
    options_.take_spare = [this](const std::string& in, std::uint64_t bytes) -> std::string {
      const std::string path = in + "/spare-" + std::to_string(++spares_) + ".tmp";
      (void)disk_.remove(path);
      const int file = disk_.open(path, log::disk_mode::create, false);
      if (file < 0) return {};
      int failure = disk_.reserve(file, bytes);
      if (failure == 0) failure = disk_.sync(file);
      disk_.close(file);
      return failure == 0 ? path : std::string();
    };
  }
  void note_durable() {
    if (log_->durable_seq() < confirmed_) blame("durable_seq() fell");
    confirmed_ = log_->durable_seq();
    book.confirmed = book_now().confirmed;
  }
  void take_back(std::uint64_t seq) {
    while (!book.live.empty() && book.live.back().seq >= seq) book.live.pop_back();
  }
  bool failed(const error& why) {
    failure_ = why.message();
    return false;
  }

  simulated_disk& disk_;
  small_random random_;
  storage::log_options options_;
  storage::recovery_report report_;
  storage::frame_memory memory_{frame_bytes};
  std::unique_ptr<storage::lane_log> log_;
  std::uint32_t salt_ = 0;
  std::uint64_t spares_ = 0;
  std::uint64_t confirmed_ = 0;
  std::string wrong_;
  std::string failure_;
};

}  // namespace bus::test
