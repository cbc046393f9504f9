#include "subscribe/subscriber_core.hpp"

#include <algorithm>

#include "base/cycles.hpp"
#include "layout/header_area.hpp"
#include "layout/validate.hpp"
#include "sync/words.hpp"

namespace bus {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto adaptive_spin = std::chrono::microseconds(20);
constexpr std::size_t arena_start_bytes = 64 * 1024;
// Checks of the rings per check of the clock and of everything else.
constexpr std::uint32_t looks_per_check = 64;
// An empty check followed at once by another takes the line away from a publisher that is about to
// write it. The pause costs latency and gains several times as much in rate: docs/performance.md.
constexpr auto pause_between_looks = std::chrono::nanoseconds(2500);
constexpr int pauses_per_clock = 8;
// A reader of a log checks whether the ring has the rest when this many messages are left.
constexpr std::uint64_t ring_is_near = 4096;
constexpr std::size_t looked_at_once = 16384;

void pause_for(std::chrono::nanoseconds time) noexcept {
  const auto end = clock::now() + time;
  do {
    for (int i = 0; i < pauses_per_clock; ++i) base::relax();
  } while (clock::now() < end);
}

gap_reason reason_of(layout::log_gap reason) noexcept {
  switch (reason) {
    case layout::log_gap::unsynced: return gap_reason::unsynced;
    case layout::log_gap::not_logged: return gap_reason::not_logged;
    case layout::log_gap::removed: return gap_reason::removed;
    default: return gap_reason::corrupt;
  }
}

}  // namespace

// Takes records into the batch, and copies those that may be overwritten into the arena.
struct subscriber_core::batch_sink {
  subscriber_core& core;
  detail::source& from;
  message* next = core.batch_.data();
  // Plain records are judged by these; a typed subscriber checks more.
  const detail::source::match* matches = from.matches.data();
  std::size_t match_count = plain_matches();

  std::size_t plain_matches() const noexcept {
    return core.wish_.type == 0 && from.join_seq == 0 ? from.matches.size() : 0;
  }
  std::size_t count() const noexcept { return static_cast<std::size_t>(next - core.batch_.data()); }

  ring::verdict take(const ring::record_view& view) noexcept {
    const auto matched = from.match_of(view);
    // It may have learned the subject and moved the table.
    matches = from.matches.data();
    match_count = plain_matches();
    if (matched != detail::source::match::yes) [[unlikely]]
      return from.failed ? ring::verdict::full : ring::verdict::skipped;
    if (from.join_seq != 0 && from.is_passed_over(view.seq)) [[unlikely]]
      return ring::verdict::skipped;
    if (core.wish_.type != 0 && (view.open || !from.carries_type(view))) [[unlikely]]
      return ring::verdict::skipped;
    const std::byte* header = view.header();
    if (from.reader.may_be_lapped() && !core.options.in_place) {
      const std::size_t bytes = view.shape.header_bytes + view.shape.payload_bytes;
      const std::size_t padded = base::round_up(bytes, 32) + 32;
      if (core.arena_used_ + padded > core.arena_.size()) {
        if (count() != 0) return ring::verdict::full;
        // nothing points into it yet
        core.arena_.resize(core.arena_used_ + padded + arena_start_bytes);
      }
      std::byte* to = core.arena_.data() + core.arena_used_;
      to += base::round_up(reinterpret_cast<std::uintptr_t>(to), 32) -
            reinterpret_cast<std::uintptr_t>(to);
      sync::hardware::copy_out(to, header, bytes);
      core.arena_used_ += padded;
      header = to;
    }
    if (view.shape.flags & layout::flag_extension) [[unlikely]] {
      const layout::header_area area(header, view.shape.header_bytes, view.shape.flags);
      if (!area.understood()) {
        if (!from.reader.lapped())
          from.failed =
              error{errc::unsupported, 0, "cannot read stream '" + from.stream->name() + "'",
                    "a newer library wrote records that this one does not understand",
                    "use the newer library here too"};
        return ring::verdict::full;
      }
    }
    std::uint64_t shape = view.shape.pack();
    if (view.open) shape |= message::flag_open;
    if (core.options.in_place) shape |= message::flag_in_place;
    fill(*next++, from, header, view.seq, shape, view.origin, view.ticks, view.position);
    return ring::verdict::taken;
  }
  void undo() noexcept { --next; }

  /// A record without headers on a lane that cannot overwrite it.
  ring::verdict take_plain(const std::byte* data, std::uint64_t position, std::uint64_t seq,
                           std::uint64_t shape, std::uint64_t origin,
                           std::uint64_t ticks) noexcept {
    const auto id = static_cast<std::uint32_t>(origin);
    if (id >= match_count || matches[id] != detail::source::match::yes) [[unlikely]]
      return take({data, position, seq, layout::record_shape::unpack(shape), origin, ticks, false});
    fill(*next++, from, data + layout::record_header_bytes, seq, shape, origin, ticks, position);
    return ring::verdict::taken;
  }
};

result<std::unique_ptr<subscriber_core>> subscriber_core::make(
    std::shared_ptr<session_core> session, std::span<const std::string_view> patterns,
    subscriber_options options) {
  auto core = std::make_unique<subscriber_core>();
  if (patterns.empty())
    return error{errc::invalid_argument, 0, "cannot subscribe", "no pattern was given",
                 "use '>' for everything"};
  for (const std::string_view text : patterns) {
    auto parsed = subject::pattern::parse(text);
    if (!parsed) return std::move(parsed.error());
    core->wish_.everything = core->wish_.everything || parsed->matches_everything();
    core->wish_.label += (core->wish_.label.empty() ? "" : " ") + std::string(text);
    core->wish_.patterns.push_back(std::move(*parsed));
  }
  if (!options.name.empty()) core->wish_.label = options.name + " " + core->wish_.label;
  core->wish_.gate = options.gate;
  core->wish_.early = options.early;
  core->wish_.in_place = options.in_place;
  core->wish_.may_sleep =
      options.wait == wait_strategy::block || options.wait == wait_strategy::adaptive;
  core->wish_.stopped = &core->stopped_;
  core->wish_.id = session->next_object_id();
  core->session = std::move(session);
  core->options = std::move(options);
  core->arena_.resize(arena_start_bytes);
  if (core->wish_.gate) {
    auto shown = registry::interest::show(
        *core->session->me,
        {core->wish_.patterns, core->options.stream, core->options.lane, core->wish_.id});
    if (!shown) return std::move(shown.error());
    core->interest_ = *shown;
  }
  core->refresh_sources(core->options.start);
  if (core->failure) return std::move(*core->failure);
  detail::source::align_newest(core->sources_);
  return core;
}

subscriber_core::~subscriber_core() {
  if (!session || !session->guard.same_process()) return;
  interest_.withdraw(*session->me);
  sleeper_.close(*session);
}

// `from` is for the streams that existed at the start; later ones are read from their beginning.
void subscriber_core::refresh_sources(const start& from) noexcept {
  generation_word_ = &session->directory->control().generation;
  const std::uint64_t before = generation_seen_;
  const std::uint64_t generation = session->directory->generation();
  registry::stream_changes changes = session->directory->changes_between(before, generation);
  // A stream has ended when its remover announced that, not when it cannot be read now.
  const bool gone = session->directory->removed();
  if (!is_attached_ || gone) changes.may_be_any = true;
  const auto streams = changes.may_be_any
                           ? session->streams(nullptr, &generation_seen_)
                           : session->streams_named(changes.names, &generation_seen_);
  // Changes made meanwhile are checked next time.
  if (!changes.may_be_any) generation_seen_ = std::min(generation_seen_, generation);
  for (auto& source : sources_) {
    if (!changes.concerns(source->stream->name())) continue;
    source->draining = gone || source->closed();
    if (source->stream->is_lost() && !gone && !failure) failure = source->stream->lost_error();
  }
  bool all_there = streams.size() >= changes.names.size();
  for (const auto& stream : streams)
    if (wants(*stream)) all_there = attach(stream, from) && all_there;
  bool is_complete = true;
  if (!is_attached_)
    pass_over_leaving();
  else if (changes.may_be_any || !all_there || some_left_since(before))
    is_complete = attach_to_leaving();
  is_attached_ = true;
  if (!is_complete) generation_seen_ = 0;  // the next call checks again
  interest_.has_come(generation_seen_);
  plain_source_ = nullptr;
  if (gone && !failure) failure = session->directory->removed_error();
}

// [N2] Checked after the streams were listed. A lane that was announced and not found there was
// removed. Either nothing is in its place, or another stream is: then the remover announced the
// removal before it released the lock of changes.
bool subscriber_core::some_left_since(std::uint64_t generation) const {
  const auto& bus = *session->directory;
  const auto changes = bus.changes_between(generation, bus.generation());
  return changes.may_be_any || changes.some_left;
}

bool subscriber_core::wants(const registry::stream_handle& stream) const noexcept {
  if (!options.stream.empty() && stream.name() != options.stream) return false;
  return stream.is_default() ||
         std::any_of(wish_.patterns.begin(), wish_.patterns.end(),
                     [&](const auto& pattern) { return stream.may_match(pattern); });
}

// Attaches to streams that came and went since the last check. Their messages are for this
// subscriber: the remover waits until it has come.
bool subscriber_core::attach_to_leaving() noexcept {
  if (!wish_.gate) return true;
  const auto leaving = session->directory->leaving_streams();
  if (!leaving) return false;
  bool is_complete = true;
  for (const std::string& directory : *leaving) {
    const auto facts = registry::read_stream_file(directory);
    is_complete = is_complete && (facts || facts.error().code != errc::no_space);
    if (!facts || facts->config.overflow == overflow::drop_oldest ||
        facts->config.storage != storage_class::memory)
      continue;
    const auto stream = registry::stream_handle::make(directory, *facts, nullptr);
    if (wants(*stream)) attach(stream, start::by_sequence(1));
  }
  for (auto& source : sources_) source->draining = source->draining || source->closed();
  return is_complete;
}

// Messages of streams that were removed before this subscriber came are not for it.
void subscriber_core::pass_over_leaving() noexcept {
  const auto leaving = session->directory->leaving_streams();
  for (const std::string& directory : leaving ? *leaving : std::vector<std::string>())
    if (const auto facts = registry::read_stream_file(directory))
      for (std::uint32_t lane = 0; lane < facts->config.lanes; ++lane)
        met_.insert(facts->lane_key(lane));
}

// False: a lane does not exist any more.
bool subscriber_core::attach(const std::shared_ptr<registry::stream_handle>& stream,
                             const start& from) noexcept {
  bool all_there = true;
  const std::uint32_t lanes = stream->lane_count();
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    if (options.lane && *options.lane != lane) continue;
    const std::uint64_t key = stream->facts().lane_key(lane);
    if (met_.contains(key)) continue;  // met already: nothing is delivered twice
    auto attached = detail::source::attach(*session, stream, lane, wish_, from);
    if (attached) {
      met_.insert(key);
      sources_.push_back(std::move(*attached));
      if (sleeper_.has_descriptor()) (void)sleeper_.descriptor(sources_, *session, wish_.id);
    } else if (attached.error().code != errc::not_found || is_there(*stream)) {
      failure = std::move(attached.error());
    } else {
      all_there = false;
    }
  }
  return all_there;
}

// False: the stream was just removed. True: a lane that was not found was deleted, and the rest of
// the stream exists.
bool subscriber_core::is_there(const registry::stream_handle& stream) const noexcept {
  const auto facts = session->directory->facts_of(stream.name());
  return facts && (*facts)->stream_id == stream.facts().stream_id;
}

void subscriber_core::retire(std::size_t index) noexcept {
  const detail::source& gone = *sources_[index];
  retired_.delivered += gone.delivered;
  retired_.lost += gone.lost;
  retired_.gaps += gone.gaps;
  retired_.aborted += gone.aborted;
  retired_.replayed += gone.replayed;
  plain_source_ = nullptr;
  sources_.erase(sources_.begin() + static_cast<std::ptrdiff_t>(index));
}

void subscriber_core::report_gap(detail::source& from, std::uint64_t first, std::uint64_t count,
                                 gap_reason reason) noexcept {
  if (count == 0) return;
  from.lost += count;
  ++from.gaps;
  sync::store_relaxed(from.pin->lost, from.lost);
  if (!options.on_gap) return;
  try {
    options.on_gap({from.stream->name(), from.lane->index(), first, count, reason});
  } catch (...) {
    thrown_ = std::current_exception();
  }
}

// Keeps the chunk of a message valid until the next batch.
void subscriber_core::hold(const log::logged_record& record) noexcept {
  if (held_chunk_count_ == 0 || !(held_chunks_[held_chunk_count_ - 1] == record.bytes))
    held_chunks_[held_chunk_count_++] = record.bytes;
}

// Messages are views into chunks of the log.
std::size_t subscriber_core::fill_from_log(detail::source& from, std::size_t max) noexcept {
  registry::log_tail& tail = *from.tail;
  log::history& history = tail.history();
  if (const auto loss = std::exchange(tail.pending_loss, std::nullopt))
    report_gap(from, loss->first, loss->count, reason_of(loss->reason));
  const std::uint64_t limit = from.logged_seq();
  // The ring is checked when the log has little left, because that reads all its waypoints.
  if (history.next_seq() + ring_is_near > limit && from.go_to_ring()) return fill_from(from, max);
  std::size_t count = 0;
  for (std::size_t looked = 0; count < max && looked < looked_at_once; ++looked) {
    if (held_chunk_count_ == held_chunks_max) break;  // the next record may be in another chunk
    log::logged_record record;
    const auto outcome = history.next(record, limit);
    if (outcome == log::walk_outcome::end) break;
    if (outcome == log::walk_outcome::failure) {
      from.failed = tail.failed(history.failure());
      break;
    }
    if (outcome == log::walk_outcome::gap) {
      if (!layout::is_loss(history.loss().reason)) continue;
      if (count != 0) {
        tail.pending_loss = history.loss();
        break;
      }
      report_gap(from, history.loss().first, history.loss().count,
                 reason_of(history.loss().reason));
      continue;
    }
    if (record.time_ns < tail.skip_before_ns) continue;
    tail.skip_before_ns = 0;
    const ring::record_view view{record.data,    0,    record.seq, record.shape, record.origin,
                                 record.time_ns, false};
    if (from.match_of(view) != detail::source::match::yes ||
        (from.join_seq != 0 && from.is_passed_over(record.seq)) ||
        (wish_.type != 0 && !from.carries_type(view))) {
      if (from.failed) break;
      continue;
    }
    hold(record);
    fill(batch_[count++], from, record.header(), record.seq,
         record.shape.pack() | message::flag_logged, record.origin, record.time_ns, 0);
  }
  if (from.mismatch && !failure) failure = from.mismatch;
  sync::store_relaxed(from.pin->next_seq, history.next_seq());  // for busd and monitors
  from.delivered += count;
  from.replayed += count;
  return count;
}

std::size_t subscriber_core::fill_from(detail::source& from, std::size_t max) noexcept {
  if (from.tail) [[unlikely]]
    return fill_from_log(from, max);
  if (from.first_gap_from) [[unlikely]] {
    const std::uint64_t first = *from.first_gap_from;
    from.first_gap_from.reset();
    report_gap(from, first, from.reader.next_seq() - first);
  }
  for (int laps = 0; laps < 8; ++laps) {
    batch_sink sink{*this, from};
    const std::uint64_t first_position = from.reader.position(), first_seq = from.reader.next_seq();
    ring::poll_outcome outcome = from.reader.poll(max, sink);
    std::size_t count = sink.count();
    // Messages handed out in place are intact only if our pin was not removed meanwhile.
    if (count != 0 && !from.reader.may_be_lapped() && from.reader.was_overwritten(first_position))
        [[unlikely]] {
      from.reader.set_position(first_position, first_seq);
      outcome = ring::poll_outcome::lapped;
      count = 0;
    }
    if (from.mismatch && !failure) [[unlikely]]
      failure = from.mismatch;
    if (count != 0) {
      from.delivered += count;
      return count;
    }
    if (from.failed) [[unlikely]]
      return 0;
    switch (outcome) {
      case ring::poll_outcome::empty:
      case ring::poll_outcome::more: return 0;
      case ring::poll_outcome::aborted: ++from.aborted; return 0;
      case ring::poll_outcome::lapped: {
        if (from.has_log()) {  // overwritten, but not lost
          plain_source_ = nullptr;
          return from.go_to_log(from.reader.next_seq()) ? fill_from_log(from, max) : 0;
        }
        std::uint64_t first = 0;
        if (from.reader.resume(first)) report_gap(from, first, from.reader.next_seq() - first);
        break;
      }
      case ring::poll_outcome::corrupt:
        from.failed = layout::corrupt(
            registry::lane_path(from.stream->directory(), from.lane->index()),
            "at sequence " + std::to_string(from.reader.next_seq()) + " there is no record");
        return 0;
      case ring::poll_outcome::unsupported:
        from.failed =
            error{errc::unsupported, 0, "cannot read stream '" + from.stream->name() + "'",
                  "a newer library wrote records that this one does not understand",
                  "use the newer library here too"};
        return 0;
    }
  }
  return 0;
}

// For publishers that wait for us: a thread that would wait for itself gets would_deadlock.
void subscriber_core::note_thread() noexcept {
  const auto now = static_cast<std::uint64_t>(os::thread_id());
  if (now == thread_) return;
  thread_ = now;
  for (auto& source : sources_) sync::store_relaxed(source->pin->thread, now);
  interest_.note_thread(now);
}

// Nothing to read: returns what was read, and wakes a waiting publisher.
std::size_t subscriber_core::rest(detail::source& source) noexcept {
  if (++idle_polls_ % 64 == 0) note_thread();
  release(source);
  if (source.reader.has_unticked_release()) source.tick();
  return 0;
}

// One ring, nothing special: the usual case.
std::size_t subscriber_core::refill_plain(std::size_t max) noexcept {
  detail::source& source = *plain_source_;
  arena_used_ = 0;
  if (source.reader.held_bytes() >= source.reader.share_bytes()) [[unlikely]] {
    source.release();
    source.tick();
  }
  const std::size_t count = fill_from(source, std::min(max, batch_max));
  // lapped, broken, an open record: the general path decides, and restores plain_source_
  if (count == 0) [[unlikely]]
    plain_source_ = nullptr;
  return count;
}

std::size_t subscriber_core::refill_slowly(std::size_t max) noexcept {
  if (!guard_.same_process()) {
    if (!failure) failure = session->forked_error();
    return 0;
  }
  note_thread();
  arena_used_ = 0;
  while (held_chunk_count_ != 0) held_chunks_[--held_chunk_count_].reset();
  for (auto& source : sources_) {
    if (source->reader.held_bytes() < source->reader.share_bytes()) continue;
    source->release();
    source->tick();
  }
  // from the beginning: what is overwritten already is a gap
  if (changed()) refresh_sources(start::by_sequence(1));
  plain_source_ = sources_.size() == 1 && !sources_.front()->draining && !sources_.front()->tail &&
                          sources_.front()->join_seq == 0
                      ? sources_.front().get()
                      : nullptr;
  max = std::min(max, batch_max);
  // Each source once: after one is retired, the next has its index.
  for (std::size_t looked = 0; looked < sources_.size();) {
    if (next_source_ >= sources_.size()) next_source_ = 0;
    detail::source& source = *sources_[next_source_];
    const bool has_ended = source.draining && source.has_ended();  // before the last check
    const std::size_t count = fill_from(source, max);
    if (count != 0) {
      ++next_source_;
      return count;
    }
    if (source.failed) [[unlikely]] {
      failure = std::move(*source.failed);
      retire(next_source_);
    } else if (has_ended && (source.tail || !source.reader.ready())) [[unlikely]] {
      retire(next_source_);
    } else {
      ++next_source_;
      ++looked;
    }
  }
  // Nothing to read: returns what was read, and wakes waiting publishers.
  release_all();
  for (auto& source : sources_) source->tick();
  return 0;
}

void subscriber_core::release_each() noexcept {
  for (auto& source : sources_) release(*source);
}

bool subscriber_core::any_ready() noexcept {
  return changed() || std::any_of(sources_.begin(), sources_.end(),
                                  [](const auto& source) { return source->ready(); });
}

bool subscriber_core::wait(std::chrono::nanoseconds wait) noexcept {
  if (!guard_.same_process() || stopped()) return false;
  if (failure && sources_.empty()) return false;  // nothing will ever come
  release_all();
  note_thread();
  for (auto& source : sources_) source->tick();
  // The reader kept up. Checking again at once would take the line from a publisher that is about
  // to write it.
  if (options.wait == wait_strategy::spin_pause)
    pause_for(std::min(wait, std::chrono::nanoseconds(pause_between_looks)));
  if (any_ready()) return true;
  const auto begin = clock::now();
  const auto far = std::chrono::hours(24 * 365);
  const auto deadline =
      begin + std::min<std::chrono::nanoseconds>(
                  std::max<std::chrono::nanoseconds>(wait, std::chrono::nanoseconds(0)), far);
  const bool sleeps =
      options.wait == wait_strategy::block || options.wait == wait_strategy::adaptive;
  const auto spin_end =
      options.wait == wait_strategy::block ? begin : std::min(deadline, begin + adaptive_spin);
  bool slept = false;
  for (std::uint32_t looks = 1;; ++looks) {
    if (any_ready()) {
      if (slept) sleeper_.note_activity();
      return true;
    }
    if (options.wait == wait_strategy::busy_spin && looks % looks_per_check != 0) continue;
    if (options.wait == wait_strategy::spin_pause) pause_for(pause_between_looks);
    if (options.wait == wait_strategy::adaptive)
      for (int i = 0; i < pauses_per_clock; ++i) base::relax();
    if (stopped()) return false;
    if (!sleeps && looks % looks_per_check != 0) continue;
    const auto now = clock::now();
    if (now >= deadline) return false;
    if (sleeps && now >= spin_end) {
      slept = true;
      sleeper_.sleep(sources_, *session, deadline - now,
                     [this] { return any_ready() || stopped(); });
    }
  }
}

result<int> subscriber_core::fd() {
  if (!guard_.same_process()) return session->forked_error();
  return sleeper_.descriptor(sources_, *session, wish_.id);
}

bool subscriber_core::arm() noexcept {
  if (!sleeper_.has_descriptor() || !guard_.same_process()) return false;
  release_all();
  for (auto& source : sources_) source->tick();
  sleeper_.arm_bell(sources_);
  if (!any_ready()) return true;
  sleeper_.disarm_bell(sources_);
  return false;
}

void subscriber_core::drain() noexcept {
  if (!sleeper_.has_descriptor() || !guard_.same_process()) return;
  sleeper_.drain();
  sleeper_.disarm_bell(sources_);
  sleeper_.note_activity();
}

void subscriber_core::expect_type(std::uint64_t type, std::size_t bytes) noexcept {
  wish_.type = type;
  wish_.type_bytes = bytes;
  for (auto& source : sources_) source->matches.clear();  // decided without the type
}

subscriber_stats subscriber_core::stats() const noexcept {
  subscriber_stats sum = retired_;
  for (const auto& source : sources_) {
    sum.delivered += source->delivered;
    sum.lost += source->lost;
    sum.gaps += source->gaps;
    sum.aborted += source->aborted;
    sum.replayed += source->replayed;
  }
  sum.lanes = sources_.size();
  return sum;
}

}  // namespace bus
