#include "storage/lane_logger.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/assert.hpp"
#include "os/futex.hpp"
#include "registry/lane_fence.hpp"
#include "sync/words.hpp"

namespace bus::storage {

namespace {

constexpr auto retry_every = std::chrono::milliseconds(20);
constexpr auto look_for_newcomers_every = std::chrono::milliseconds(1);
// The log on disk stays; messages that only shared memory has are recorded first.
constexpr const char* make_again =
    "record the messages that only shared memory has (bus record '>' --all --to FILE), stop the "
    "processes of the bus, remove the bus (bus rm), and start busd: it continues above every "
    "sequence that was ever given out";
constexpr int position_attempts = 1000;
constexpr std::uint64_t frame_overhead_bytes = 4096;  // head and padding of a frame, at most

}  // namespace

buffer_pool::buffer_pool(log::disk& on, std::size_t count, std::size_t bytes)
    : buffer_bytes_(bytes) {
  std::vector<std::span<std::byte>> spans;
  for (std::size_t i = 0; i < count; ++i) {
    buffers_.emplace_back(bytes);
    free_.push_back(static_cast<int>(i));
    spans.push_back(buffers_.back().bytes());
  }
  registered_ = on.register_buffers(spans);
}

int buffer_pool::take() noexcept {
  if (free_.empty()) return -1;
  const int index = free_.back();
  free_.pop_back();
  return index;
}

lane_logger::lane_logger(session_core& session, std::shared_ptr<registry::stream_handle> stream,
                         std::shared_ptr<registry::lane_map> lane, std::unique_ptr<lane_log> log,
                         std::shared_ptr<subject_log> subjects, registry::process_table& peers,
                         buffer_pool& buffers, segment_worker& worker, std::uint64_t token)
    : session_(session),
      stream_(std::move(stream)),
      lane_(std::move(lane)),
      log_(std::move(log)),
      subjects_(std::move(subjects)),
      buffers_(buffers),
      worker_(worker),
      token_(token),
      config_(stream_->facts().config),
      gate_(lane_, peers, stream_->directory()),
      reader_(lane_->memory(), nullptr, false),
      clock_(session.directory->clock()) {
  facts_->stream = stream_->name();
  facts_->lane = lane_->index();
}

lane_logger::~lane_logger() {
  drop_filling();
  if (flight_buffer_ >= 0) buffers_.give_back(flight_buffer_);
}

layout::log_health lane_logger::health() const noexcept {
  if (problem_)
    return problem_->code == errc::no_space ? layout::log_health::full : layout::log_health::failed;
  return full_ ? layout::log_health::full : layout::log_health::good;
}

// Publishers compare the generation at every call, so they notice the change at once, at no cost.
void lane_logger::announce_health() {
  const auto now = static_cast<std::uint64_t>(health());
  facts_->health = health();
  if (sync::load_relaxed(words().health) == now) return;
  sync::store_release(words().health, now);
  session_.directory->announce_change(layout::change_kind::changed, config_.name);
  os::futex_wake(os::futex_half(words().durable_seq), INT_MAX);
  os::futex_wake(os::futex_half(words().logged_position), INT_MAX);
}

// Something was written, or there is nothing to write: earlier problems are over.
void lane_logger::all_is_well() {
  announce_health();
  if (std::exchange(said_, errc::ok) == errc::ok) return;
  news_ = error{errc::ok, 0, "the log of stream '" + config_.name + "' can be written again",
                "the disk has recovered", ""};
}

void lane_logger::set_full(bool yes) {
  if (full_ == yes) return;
  full_ = yes;
  announce_health();
}

void lane_logger::report_problem(error why) {
  if (said_ != why.code) news_ = why;
  said_ = why.code;
  problem_ = std::move(why);
  retry_at_ = clock::now() + retry_every;
  drop_filling();
  lost_position_ = true;
  announce_health();
}

// Positions the reader after record next_seq - 1, from the newest waypoint before it.
bool lane_logger::position_reader(std::uint64_t next_seq) {
  const auto& memory = lane_->memory();
  for (int attempt = 0; attempt < position_attempts; ++attempt) {
    reader_ = ring::lane_reader<sync::hardware>(memory, nullptr, false);
    const bool entered = reader_.enter([&](std::uint64_t) {
      const auto entry = ring::last_waypoint_before<sync::hardware>(
          memory, 0, [&](const auto& e) { return e.seq <= next_seq; });
      return entry.found() && entry.seq <= next_seq ? entry : ring::entry_point{};
    });
    if (!entered) continue;
    const auto outcome =
        reader_.walk([&](const ring::record_view& view) { return view.seq >= next_seq; });
    if (outcome != ring::poll_outcome::lapped && reader_.next_seq() == next_seq) return true;
  }
  return false;
}

result<void> lane_logger::take_over() {
  stored_position_ = sync::load_acquire(words().logged_position);
  if (log_->has_unread_end()) log_->resume_at(sync::load_acquire(words().logged_seq) + 1);
  if (!spills() && !position_reader(log_->next_seq())) {
    // The ring has overwritten records that the log lacks. They must not be lost silently.
    const auto& memory = lane_->memory();
    const auto oldest = ring::oldest_waypoint<sync::hardware>(memory, stored_position_);
    if (!oldest.found() || oldest.seq <= log_->next_seq())
      return error{errc::corrupt, 0, "cannot continue the log in " + log_->directory(),
                   "it ends at sequence " + std::to_string(log_->next_seq() - 1) +
                       ", and the ring does not have the next one",
                   make_again};
    log_->skip_to(oldest.seq, layout::log_gap::not_logged);
    // in a segment of its own, before anything else
    if (auto told = log_->restart(); !told) return told;
    news_ = error{
        errc::corrupt, 0, "stream '" + config_.name + "' lost messages",
        "the ring has overwritten messages that the log in " + log_->directory() + " does not have",
        "bus stream gaps " + config_.name + " lists them"};
    if (!position_reader(oldest.seq))
      return error{errc::busy, 0, "cannot continue the log in " + log_->directory(),
                   "its position in the ring kept changing", "start busd again"};
  }
  auto raised = log_->raise_high_water(
      log_->next_seq() + 2 * lane_->memory().capacity_bytes / layout::record_align,
      2 * lane_->memory().capacity_bytes / layout::record_align);
  if (!raised) return raised;
  // The state no longer records an exact end: publishers that wait to publish above it may.
  log_->forget_reopening();
  sync::store_release(words().stopped, 0);
  sync::replace(lane_->header().turn.lease, layout::lease_parked, 0);
  sync::store_release(words().logged_seq, log_->written_seq());
  if (!spills()) sync::store_release(words().durable_seq, log_->durable_seq());
  sync::store_release(words().skipped, log_->skipped());
  sync::store_release(words().largest_batch, buffers_.buffer_bytes() - frame_overhead_bytes);
  publish_progress(reader_.position());
  sync::store_release(words().health, static_cast<std::uint64_t>(health()));
  facts_->health = health();
  if (config_.max_messages != 0 || config_.max_messages_per_subject != 0) log_->learn_counts();
  log_->serve();
  publish_facts();
  return {};
}

void lane_logger::publish_facts() noexcept {
  facts_->first_seq = log_->first_seq();
  facts_->written_seq = log_->written_seq();
  facts_->durable_seq = log_->durable_seq();
  facts_->segments = log_->segments();
  facts_->bytes = log_->bytes_on_disk();
}

void lane_logger::let_go() noexcept {
  BUS_ASSERT(!log_->in_flight());
  if (filling_) reader_.set_position(filling_->begin_position, filling_->begin_seq);
  drop_filling();
}

void lane_logger::drop_filling() noexcept {
  if (filling_ && filling_->buffer >= 0) buffers_.give_back(filling_->buffer);
  filling_.reset();
  waits_ = false;
}

/// Adds records to the frame. Before the reader takes the next record it checks that the last one
/// was not overwritten meanwhile; else it calls undo().
struct lane_logger::sink {
  lane_logger& owner;
  filling& into;
  log::frame_builder& frame;
  std::uint64_t before = 0;
  bool was_in_batch = false;

  ring::verdict take(const ring::record_view& view) noexcept {
    const std::uint64_t total = view.shape.total_bytes();
    if (!frame.fits(total)) return ring::verdict::full;
    if (frame.count() == 0 && frame.base_seq() != view.seq) frame.begin(view.seq);
    before = frame.used_bytes();
    was_in_batch = into.in_batch;
    if (!into.in_batch) {
      into.batch_position = view.position;
      into.batch_seq = view.seq;
      into.batch_bytes = before;
      into.batch_count = frame.count();
    }
    into.in_batch = (view.shape.flags & layout::flag_continues) != 0;
    // the time that readers of the ring see
    const std::uint64_t time = owner.clock_.to_wall_ns(view.ticks);
    frame.add(view.shape, view.origin, time, [&](std::byte* to) {
      sync::hardware::copy_out(to, view.header(),
                               std::size_t{view.shape.header_bytes} + view.shape.payload_bytes);
    });
    if (view.subject_id() != layout::inline_subject_id &&
        (!owner.has_subject_ || view.subject_id() > owner.highest_subject_)) {
      owner.highest_subject_ = view.subject_id();
      owner.has_subject_ = true;
    }
    return ring::verdict::taken;
  }
  void undo() noexcept {
    frame.drop_to(frame.count() - 1, before);
    into.in_batch = was_in_batch;
  }
};

bool lane_logger::gather() {
  if (filling_ && filling_->is_sealed) return false;
  if (!filling_) {
    const int buffer = buffers_.take();
    if (buffer < 0) return false;
    filling_.emplace(
        filling{buffer, log::frame_builder(buffers_.bytes(buffer), log_->log_id(), log_->align()),
                reader_.position(), reader_.position(), reader_.next_seq()});
    filling_->frame.begin(reader_.next_seq());
  }
  sink into{*this, *filling_, filling_->frame};
  const std::uint32_t had = filling_->frame.count();
  for (;;) {
    const std::uint64_t from = reader_.position();
    const auto outcome = reader_.poll(SIZE_MAX, into);
    if (outcome == ring::poll_outcome::corrupt || outcome == ring::poll_outcome::unsupported ||
        (outcome == ring::poll_outcome::lapped && !spills())) {
      report_problem({errc::corrupt, 0, "cannot log stream '" + config_.name + "'",
                      "its ring has no valid record at sequence " +
                          std::to_string(reader_.next_seq()) +
                          ": something other than libbus overwrote it",
                      make_again});
      return false;
    }
    if (outcome == ring::poll_outcome::lapped) {  // its readers continued meanwhile
      drop_filling();
      lost_position_ = true;
      return false;
    }
    if (outcome != ring::poll_outcome::aborted && reader_.position() == from) break;
    if (outcome == ring::poll_outcome::empty) break;
  }
  // LOGGER-5. A batch becomes visible as a whole, so it ends here unless the frame is full. Then
  // its beginning is dropped, and all of it goes into the next frame. A batch that fills a frame
  // alone was not published by libbus.
  if (filling_->in_batch && filling_->batch_count != 0) {
    filling_->frame.drop_to(filling_->batch_count, filling_->batch_bytes);
    reader_.set_position(filling_->batch_position, filling_->batch_seq);
    filling_->in_batch = false;
    filling_->is_sealed = true;
  }
  filling_->end_position = reader_.position();
  const bool more = filling_->frame.count() != had;
  if (filling_->frame.count() == 0) drop_filling();
  return more;
}

// Saves new subjects, before the records that name them are written.
bool lane_logger::save_subjects() {
  if (!has_subject_) return true;
  if (highest_subject_ < subjects_->count()) {  // another lane saved it
    log_->note_subjects(std::uint64_t{highest_subject_} + 1);
    return true;
  }
  std::vector<log::known_subject> more;
  for (std::uint64_t id = subjects_->count(); id <= highest_subject_; ++id) {
    auto text = stream_->subject_text(static_cast<std::uint32_t>(id));
    if (!text || text->empty()) {
      report_problem({errc::corrupt, 0, "cannot log stream '" + config_.name + "'",
                      "a record names subject " + std::to_string(id) + ", which is not interned",
                      make_again});
      return false;
    }
    more.push_back({std::string(*text), stream_->subject_type(static_cast<std::uint32_t>(id))});
  }
  auto added = subjects_->append(more);
  if (!added) report_problem(std::move(added.error()));
  log_->note_subjects(subjects_->count());
  return static_cast<bool>(added);
}

bool lane_logger::begin() {
  auto room = log_->has_room_for(filling_->frame);
  if (!room) {
    report_problem(std::move(room.error()));
    return false;
  }
  waits_ = !*room;
  if (waits_ || !save_subjects()) return false;
  auto raised = log_->raise_high_water(
      filling_->frame.next_seq() + 2 * lane_->memory().capacity_bytes / layout::record_align,
      2 * lane_->memory().capacity_bytes / layout::record_align);
  if (!raised) {
    report_problem(std::move(raised.error()));
    return false;
  }
  auto begun = log_->begin(filling_->frame, syncs_each(), token_,
                           buffers_.registered() ? filling_->buffer : -1);
  if (!begun) {
    report_problem(std::move(begun.error()));
    return false;
  }
  flight_buffer_ = filling_->buffer;
  flight_end_ = filling_->end_position;
  flight_bytes_ = filling_->frame.used_bytes();
  filling_.reset();
  return true;
}

// LOGGER-1. Stores the position of the newest waypoint at or below `end_position`.
void lane_logger::publish_progress(std::uint64_t end_position) {
  const auto& memory = lane_->memory();
  if (end_position / memory.block_bytes() != stored_position_ / memory.block_bytes() ||
      stored_position_ == 0) {
    const auto entry = ring::last_waypoint_before<sync::hardware>(
        memory, stored_position_, [&](const auto& e) { return e.position <= end_position; });
    if (entry.found() && entry.position <= end_position && entry.position > stored_position_) {
      stored_position_ = entry.position;
      sync::store_release(words().logged_position, stored_position_);  // [D1]
    }
  }
  // [W2] full fence: the stores above precede the checks; pairs with the fence of a process that
  // waits.
  sync::full_fence();
  if (sync::load_relaxed(lane_->header().counters.waiting) != 0)
    os::futex_wake(os::futex_half(words().logged_position), INT_MAX);
  if (sync::load_relaxed(words().confirm_waiting) != 0) {
    sync::store_relaxed(words().confirm_waiting, 0);
    os::futex_wake(os::futex_half(words().durable_seq), INT_MAX);
  }
}

void lane_logger::finished(int failure) {
  const std::uint64_t end = flight_end_;
  buffers_.give_back(std::exchange(flight_buffer_, -1));
  if (log_->finished(failure) != 0) {
    report_problem(
        {failure == -ENOSPC || failure == -EDQUOT ? errc::no_space : errc::system, -failure,
         "cannot write the log of stream '" + config_.name + "'",
         "the disk returned error " + std::to_string(-failure) + " in " + log_->directory(),
         "check the disk (dmesg); waiting messages are written automatically when it works again"});
    return;
  }
  ++facts_->commits;
  facts_->bytes_written += flight_bytes_;
  facts_->written_seq = log_->written_seq();
  facts_->durable_seq = log_->durable_seq();
  marked_ = false;
  last_commit_ = clock::now();
  sync::store_release(words().logged_seq, log_->written_seq());                     // [D1]
  if (syncs_each()) sync::store_release(words().durable_seq, log_->durable_seq());  // [D2] LOGGER-2
  publish_progress(end);
  all_is_well();
}

// Of a lane that spills: does a reader lag so far that the ring may overwrite what it needs?
// Positions the reader where spilling begins.
bool lane_logger::choose_spill() {
  const auto& memory = lane_->memory();
  gate_.resolve();
  gate_.forget_dead();
  if (const auto now = clock::now(); now >= next_look_for_newcomers_) {
    next_look_for_newcomers_ = now + look_for_newcomers_every;
    (void)gate_.meet_newcomers(*stream_, *session_.directory);
  }
  const std::uint64_t tail = sync::load_relaxed(lane_->header().limits.reserved_end);
  const auto laggard = gate_.slowest_reader(tail);
  if (!laggard) return spilling_ = false;
  const bool in_log = tail - std::min(tail, laggard->position) > memory.capacity_bytes;
  const std::uint64_t lag = tail - std::min(tail, laggard->position);
  // Spilling begins at a lag of half the ring, and ends below a quarter.
  if (!in_log && lag < memory.capacity_bytes / (spilling_ ? 4 : 2)) return spilling_ = false;
  if (spilling_ && !lost_position_) return true;
  if (in_log) {
    if (!position_reader(log_->next_seq())) return false;
  } else {
    // Position and sequence are two words: the record itself shows whether they belong together.
    const std::uint64_t seq = laggard->next_seq;
    if (seq <= log_->written_seq()) {
      if (!position_reader(log_->next_seq())) return false;
    } else {
      if (laggard->position % layout::record_align != 0 ||
          sync::load_acquire(memory.word_at(laggard->position)) != seq)
        return false;
      reader_ = ring::lane_reader<sync::hardware>(memory, nullptr, false);
      reader_.set_position(laggard->position, seq);
    }
  }
  lost_position_ = false;
  return spilling_ = true;
}

void lane_logger::recover_from_problem(clock::time_point now) {
  if (now < retry_at_) return;
  retry_at_ = now + retry_every;
  if (log_->is_poisoned()) {
    auto room = log_->has_room_to_restart();
    if (room && !*room) return;
    auto restarted = room ? log_->restart() : result<void>(std::move(room.error()));
    if (!restarted) {
      report_problem(std::move(restarted.error()));
      return;
    }
  }
  if (problem_->code == errc::corrupt) return;  // of the ring: busd cannot repair it
  problem_.reset();
  sync::store_release(words().logged_seq, log_->written_seq());
  if (!spills() && config_.fsync != fsync_policy::never)
    sync::store_release(words().durable_seq, log_->durable_seq());
}

bool lane_logger::work(clock::time_point now) {
  if (problem_) {
    recover_from_problem(now);
    if (problem_) return false;
    if (!spills() && !position_reader(log_->next_seq())) {  // LOGGER-4
      report_problem({errc::corrupt, 0, "cannot log stream '" + config_.name + "'",
                      "its ring does not have sequence " + std::to_string(log_->next_seq()),
                      make_again});
      return false;
    }
    lost_position_ = spills();
  }
  const bool idle = spills() && !filling_ && !choose_spill();
  const bool gathered = !idle && gather();
  if (problem_ || log_->in_flight()) return gathered;
  if (!filling_) {
    if (!gathered) all_is_well();  // otherwise publishers would be refused forever
    return gathered;
  }
  if (!begin()) return false;
  // Good is reported once something was begun: a full disk may still be full.
  announce_health();
  return true;
}

bool lane_logger::has_news() noexcept {
  if (problem_ || waits_) return false;
  if (spills()) return spilling_;
  return filling_.has_value() || reader_.ready();
}

}  // namespace bus::storage
