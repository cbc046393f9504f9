#include "subscribe/source.hpp"

#include <algorithm>
#include <string>

#include "base/cycles.hpp"
#include "layout/header_area.hpp"
#include "layout/validate.hpp"
#include "os/futex.hpp"
#include "registry/reader_table.hpp"
#include "sync/words.hpp"

namespace bus::detail {

namespace {

// A publisher at full speed may overtake an entering reader several times.
constexpr int enter_attempts = 100'000;
constexpr std::uint32_t learned_max = 1u << 24;

}  // namespace

result<std::unique_ptr<source>> source::attach(session_core& session,
                                               std::shared_ptr<registry::stream_handle> stream,
                                               std::uint32_t lane_index, const wish& wanted,
                                               const start& from) {
  auto prepared = stream->prepare_reading();
  if (!prepared) return std::move(prepared.error());
  auto lane = stream->lane(lane_index, false);
  if (!lane && lane.error().code == errc::not_found && stream->facts().held) {
    error why = *stream->facts().held;
    why.what = "cannot subscribe to stream '" + stream->name() + "', whose log is not kept";
    return why;
  }
  if (!lane) return std::move(lane.error());
  auto made = std::make_unique<source>();
  made->session = &session;
  made->wanted = &wanted;
  made->stream = std::move(stream);
  made->lane = std::move(*lane);
  made->clock = session.directory->clock();
  const auto& memory = made->lane->memory();
  const bool gating = wanted.gate && !memory.overwriting;
  auto slot = session.me->claim_slot(
      layout::slot_kind::reader, wanted.id, made->stream->facts().stream_id, lane_index,
      wanted.label, made->stream->name(), gating ? std::uint64_t{layout::slot_gating} : 0);
  if (!slot) return std::move(slot.error());
  made->slot_index_ = *slot;
  made->has_slot_ = true;
  made->slot = &session.me->slot(*slot);
  made->pin = &session.me->pin(*slot);
  sync::store_relaxed(made->pin->lane_key, made->lane->lane_key());  // ordered by the announcement
  sync::store_relaxed(made->pin->thread, static_cast<std::uint64_t>(os::thread_id()));
  made->reader = reader_type(memory, made->pin, wanted.gate);
  made->reader.wants_open(wanted.early);
  auto announced = made->announce();
  if (!announced) return std::move(announced.error());
  if (wanted.may_sleep) sync::store_relaxed(made->lane->readers().may_sleep, 1);
  auto entered = made->enter_readable(from);
  if (!entered) return std::move(entered.error());
  if (from.at == start::kind::from_last_per_subject) entered = made->choose_last_per_subject();
  if (!entered) return std::move(entered.error());
  return made;
}

source::~source() {
  if (session == nullptr || !session->guard.same_process()) return;
  sync::reach(sync::failpoint::detach_begin);
  if (has_slot_) {
    reader.leave();
    // Publishers that wait for us need not find out by themselves.
    sync::bump_release(pin->tick);  // [W2] as lane_reader::tick, of the pin's state
    os::futex_wake(os::futex_half(pin->tick), 1 << 30);
    withdraw();
    session->me->give_back(slot_index_);
  }
  sync::reach(sync::failpoint::detach_end);
}

// The announcement comes before the pin: a publisher that sees the pin's gate has seen its owner.
result<void> source::announce() {
  entry_ = registry::announce_reader(
      *lane, layout::pack_reader(session->me->id(), slot_index_), [this](std::uint32_t process) {
        return session->peers->state(process) != sync::life_state::alive;
      });
  if (entry_) return {};
  return error{errc::no_space, 0, "cannot subscribe to stream '" + stream->name() + "'",
               "all its " + std::to_string(lane->reader_entries()) + " reader entries are in use",
               "recreate the stream with a larger --max-readers"};
}

result<std::unique_ptr<source>> source::observe(session_core& session,
                                                std::shared_ptr<registry::stream_handle> stream,
                                                std::uint32_t lane_index, const wish& wanted) {
  auto prepared = stream->prepare_reading();
  if (!prepared) return std::move(prepared.error());
  auto lane = stream->lane(lane_index, false);
  if (!lane) return std::move(lane.error());
  auto made = std::make_unique<source>();
  made->session = &session;
  made->wanted = &wanted;
  made->stream = std::move(stream);
  made->lane = std::move(*lane);
  made->clock = session.directory->clock();
  made->reader = reader_type(made->lane->memory(), nullptr, false);
  return made;
}

result<void> source::enter_through(ring::pin_words& held, const start& from) {
  pin = &held;
  reader = reader_type(lane->memory(), pin, true);
  auto entered = enter_readable(from);
  const std::uint64_t position = reader.position(), seq = reader.next_seq();
  pin = nullptr;
  first_gap_from.reset();
  reader = reader_type(lane->memory(), nullptr, false);
  reader.set_position(position, seq);
  return entered;
}

void source::withdraw() noexcept {
  if (!entry_) return;
  sync::replace(lane->reader_entry(*entry_), layout::pack_reader(session->me->id(), slot_index_),
                0);
  entry_.reset();
}

bool source::wants_subject(std::string_view subject) const noexcept {
  return wanted->everything ||
         std::any_of(wanted->patterns.begin(), wanted->patterns.end(),
                     [&](const auto& pattern) { return pattern.matches(subject); });
}

namespace {

ring::record_view view_of(const log::logged_record& record) noexcept {
  return {record.data, 0, record.seq, record.shape, record.origin, record.time_ns, false};
}

}  // namespace

bool source::go_to_log(std::uint64_t seq) noexcept {
  auto opened =
      registry::log_tail::open(stream->directory(), stream->facts().stream_id, lane->index());
  if (!opened) {
    failed = std::move(opened.error());
    return false;
  }
  tail = std::move(*opened);
  tail->history().seek(seq);
  return true;
}

bool source::go_to_ring() noexcept {
  const std::uint64_t wanted_next = tail->history().next_seq();
  const std::uint64_t next = std::max(wanted_next, readable_from());
  const auto& memory = lane->memory();
  const bool entered = reader.enter([&](std::uint64_t lowest) {
    const auto entry = ring::last_waypoint_before<sync::hardware>(
        memory, lowest, [&](const auto& e) { return e.seq <= next; });
    return entry.found() && entry.seq <= next ? entry : ring::entry_point{};
  });
  if (!entered) return false;
  const std::uint64_t since =
      tail->skip_before_ns != 0 ? clock.from_wall_ns(tail->skip_before_ns) : 0;
  const auto outcome = reader.walk(
      [&](const ring::record_view& view) { return view.seq >= next && view.ticks >= since; });
  if (outcome == ring::poll_outcome::lapped || reader.next_seq() < next) return false;
  if (next > wanted_next && !first_gap_from) first_gap_from = wanted_next;  // purged
  tail.reset();
  reader.release();
  return true;
}

// Reads what the log has, from the requested start; the ring comes after it.
result<void> source::enter_log(const start& from) {
  if (!go_to_log(1)) {
    auto why = std::move(*failed);
    failed.reset();
    return why;
  }
  log::history& history = tail->history();
  switch (from.at) {
    case start::kind::from_sequence: {
      const std::uint64_t first_wanted = std::max<std::uint64_t>(from.sequence, 1);
      // Beyond the end: new messages only.
      if (first_wanted >
          std::max(logged_seq(), sync::load_acquire(lane->header().durability.first_seq)))
        return tail.reset(), error{errc::not_found, 0, "", "", ""};
      history.seek(first_wanted);
      break;
    }
    case start::kind::from_time: {
      tail->skip_before_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(
          0, std::chrono::duration_cast<std::chrono::nanoseconds>(from.time.time_since_epoch())
                 .count()));
      const int failure = history.seek_time(tail->skip_before_ns);
      if (failure != 0) return tail->failed(failure);
      break;
    }
    default: history.seek(history.due_seq()); break;
  }
  return {};
}

// Finds the last matching record, from the newest segment backwards.
result<bool> source::find_last_in_log() {
  if (!go_to_log(1)) return std::move(*failed);
  log::history& history = tail->history();
  const auto bases = history.bases();
  const std::uint64_t limit = logged_seq();
  std::uint64_t end = limit;
  for (auto base_seq = bases.rbegin(); base_seq != bases.rend(); ++base_seq) {
    newest_message last;
    history.seek(std::max(*base_seq, history.first_seq()));
    for (log::logged_record record; history.next_seq() <= end;) {
      const auto outcome = history.next(record, end);
      if (outcome == log::walk_outcome::failure) return tail->failed(history.failure());
      if (outcome == log::walk_outcome::end) break;
      if (outcome == log::walk_outcome::record && match_of(view_of(record)) == match::yes)
        last = {record.seq, record.time_ns, true};
      if (failed) return std::move(*failed);
    }
    if (last.seq != 0) {
      history.seek(last.seq);
      newest.emplace(std::string(), last);
      return true;
    }
    if (*base_seq == 0) break;
    end = *base_seq - 1;
  }
  tail.reset();
  return false;
}

// Walks everything once, from the position that was entered. The newest message of each subject is
// handed out later; the others are skipped.
result<void> source::choose_last_per_subject() {
  const auto note = [&](const ring::record_view& view) {
    if (view.seq < readable_from() || match_of(view) != match::yes) return;
    std::string text(subject_of(view.subject_id()));
    if (view.subject_id() == layout::inline_subject_id) {
      std::byte copy[1024];
      const std::size_t bytes = std::min<std::size_t>(view.shape.header_bytes, sizeof copy);
      sync::hardware::copy_out(copy, view.header(), bytes);
      text = layout::header_area(copy, bytes, view.shape.flags).subject();
    }
    newest[std::move(text)] = {view.seq, view.ticks, tail != nullptr};
  };
  std::uint64_t first = tail ? tail->history().next_seq() : reader.next_seq();
  if (tail) {
    log::history& history = tail->history();
    for (log::logged_record record; !failed;) {
      const auto outcome = history.next(record, logged_seq());
      if (outcome == log::walk_outcome::failure) return tail->failed(history.failure());
      if (outcome == log::walk_outcome::record) note(view_of(record));
      if (outcome == log::walk_outcome::end && go_to_ring()) break;
    }
  }
  if (failed) return *failed;
  const std::uint64_t position = reader.position(), seq = reader.next_seq();
  const auto outcome = reader.walk([&](const ring::record_view& view) {
    note(view);
    return failed.has_value();
  });
  if (failed) return *failed;
  if (outcome == ring::poll_outcome::lapped)
    return error{errc::busy, 0, "cannot subscribe to stream '" + stream->name() + "'",
                 "its publishers overwrite the ring faster than it can be searched",
                 "use a larger ring_bytes"};
  join_seq = reader.next_seq() - 1;
  for (const auto& [text, last] : newest) chosen.push_back(last.seq);
  std::sort(chosen.begin(), chosen.end());
  if (chosen.empty()) {
    join_seq = 0;
    return {};
  }
  first = chosen.front();
  if (first >= seq)
    reader.set_position(position, seq);
  else if (!go_to_log(first))
    return *failed;
  return {};
}

void source::align_newest(std::span<const std::unique_ptr<source>> sources) {
  std::map<std::string_view, const newest_message*> last;
  for (const auto& one : sources)
    for (const auto& [subject, mine] : one->newest) {
      const auto [at, is_first] = last.emplace(subject, &mine);
      if (!is_first && at->second->is_before(mine, one->clock)) at->second = &mine;
    }
  for (const auto& one : sources)
    for (const auto& [subject, mine] : one->newest) {
      if (last.find(subject)->second == &mine) continue;
      one->join_seq = std::max(one->join_seq, mine.seq);
      std::erase(one->chosen, mine.seq);
    }
  last.clear();
  for (const auto& one : sources) one->newest.clear();
}

// Messages that were purged or dropped by hand may still be in the ring: no reader starts there.
result<void> source::enter_readable(const start& from) {
  auto entered = enter(from);
  const std::uint64_t readable = readable_from();
  if (!entered || tail || from.at == start::kind::from_new || reader.next_seq() >= readable)
    return entered;
  const std::optional<std::uint64_t> gap_from = first_gap_from;
  entered = enter(start::by_sequence(readable));
  if (gap_from && entered && !first_gap_from) first_gap_from = gap_from;
  return entered;
}

result<void> source::enter(const start& from) {
  const bool has_history = lane->memory().kept == layout::storage::durable;
  if (has_history && from.at != start::kind::from_new && from.at != start::kind::from_last) {
    auto entered = enter_log(from);
    // Beyond its end, or nothing is logged yet: as in a memory stream.
    if (entered) return {};
    if (entered.error().code != errc::not_found &&
        (entered.error().code != errc::unavailable || logged_seq() != 0))
      return entered;
    tail.reset();
  }
  const auto& memory = lane->memory();
  const std::uint64_t now = clock.now();
  const std::uint64_t wanted_ticks =
      from.at == start::kind::from_time
          ? clock.from_wall_ns(static_cast<std::uint64_t>(std::max<std::int64_t>(
                0,
                std::chrono::duration_cast<std::chrono::nanoseconds>(from.time.time_since_epoch())
                    .count())))
          : 0;
  using access = sync::hardware;
  constexpr int attempts_for_all = 2000;
  int attempt = 0;
  const auto choose = [&](std::uint64_t lowest) {
    switch (from.at) {
      case start::kind::from_new: return ring::newest_waypoint<access>(memory);
      case start::kind::from_sequence: {
        const auto entry = ring::last_waypoint_before<access>(
            memory, lowest, [&](const auto& e) { return e.seq <= from.sequence; });
        // A publisher announces what it may overwrite before it checks who holds it back. On a lane
        // that waits for newcomers it overwrites nothing, so the waypoint will be back.
        const bool is_kept = sync::load_acquire(lane->header().counters.unmet) != 0;
        if (is_kept && attempt < attempts_for_all && entry.found() &&
            entry.seq > std::max<std::uint64_t>(from.sequence, 1))
          return ring::entry_point{};
        return entry;
      }
      case start::kind::from_time:
        return ring::last_waypoint_before<access>(memory, lowest, [&](const auto& e) {
          // Stamps of a clock that can be set need not rise, and a waypoint knows only the first
          // stamp of its block.
          return clock.kind() != os::clock_wall && e.time_ticks < wanted_ticks;
        });
      default: return ring::oldest_waypoint<access>(memory, lowest);
    }
  };
  for (; attempt < enter_attempts; ++attempt) {
    if (!reader.enter(choose)) {
      if (attempt % 64 == 63)
        os::futex_wait(os::futex_half(pin->tick), 0, std::chrono::microseconds(10));
      base::relax();
      continue;
    }
    const std::uint64_t entered_seq = reader.next_seq();
    ring::poll_outcome outcome = ring::poll_outcome::empty;
    if (from.at == start::kind::from_last) {
      // The last that matches: walk everything, remember it, go back.
      bool any = false;
      std::uint64_t position = 0, seq = 0, ticks = 0;
      outcome = reader.walk([&](const ring::record_view& view) {
        if (view.ticks > now && any) return true;  // published meanwhile
        if (view.seq >= readable_from() && match_of(view) == match::yes)
          any = true, position = view.position, seq = view.seq, ticks = view.ticks;
        return failed.has_value();
      });
      newest.clear();
      if (any) {
        reader.set_position(position, seq);
        newest.emplace(std::string(), newest_message{seq, ticks, false});
      }
      if (!any && has_history && outcome != ring::poll_outcome::lapped) {
        auto found = find_last_in_log();
        if (!found && found.error().code != errc::unavailable) return std::move(found.error());
        failed.reset();
      }
    } else if (from.at != start::kind::from_all && from.at != start::kind::from_last_per_subject) {
      outcome = reader.walk([&](const ring::record_view& view) {
        switch (from.at) {
          case start::kind::from_new:
            return view.ticks > now;  // published after subscribe was called
          case start::kind::from_sequence: return view.seq >= from.sequence;
          case start::kind::from_time: return view.ticks >= wanted_ticks;
          default: return true;
        }
      });
    }
    if (failed) return *failed;
    if (outcome == ring::poll_outcome::lapped) continue;
    if (outcome == ring::poll_outcome::corrupt || outcome == ring::poll_outcome::unsupported)
      return outcome == ring::poll_outcome::corrupt
                 ? layout::corrupt(registry::lane_path(stream->directory(), lane->index()),
                                   "a record in it is invalid")
                 : error{errc::unsupported, 0, "cannot read stream '" + stream->name() + "'",
                         "a newer library wrote records that this one does not understand",
                         "use the newer library here too"};
    if (from.at == start::kind::from_sequence &&
        entered_seq > std::max<std::uint64_t>(from.sequence, 1))
      first_gap_from = std::max<std::uint64_t>(from.sequence, 1);
    reader.release();
    return {};
  }
  return error{errc::busy, 0, "cannot subscribe to stream '" + stream->name() + "'",
               "its publishers overwrite the ring faster than a reader can enter",
               "use a larger ring_bytes"};
}

// The lane may be lapped while its record is checked. Then the record means nothing, and the reader
// detects that next. A record of the log cannot be lapped.
source::match source::fail_on(const ring::record_view&, error why) noexcept {
  if (tail || !reader.lapped()) failed = std::move(why);
  return match::no;
}

source::match source::learn(const ring::record_view& view) noexcept {
  const std::uint32_t id = view.subject_id();
  std::string_view text;
  std::uint64_t type = 0;
  std::byte copy[1024];
  if (id == layout::inline_subject_id) {
    const std::size_t bytes = std::min<std::size_t>(view.shape.header_bytes, sizeof copy);
    sync::hardware::copy_out(copy, view.header(), bytes);
    const layout::header_area area(copy, bytes, view.shape.flags);
    text = area.subject();
    type = area.extension(layout::ext_type).value_or(0);
    if (text.empty() || !subject::is_valid(text))
      return fail_on(view, layout::corrupt(registry::lane_path(stream->directory(), lane->index()),
                                           "a record's inline subject is invalid"));
  } else {
    auto known = id < learned_max ? stream->subject_text(id) : std::string_view();
    if (!known) return fail_on(view, std::move(known.error()));
    text = *known;
    if (text.empty())
      return fail_on(view, layout::corrupt(registry::lane_path(stream->directory(), lane->index()),
                                           "a record names subject " + std::to_string(id) +
                                               ", which is not in the subject table"));
    type = wanted->type != 0 ? stream->subject_type(id) : 0;
  }
  match decided = wants_subject(text) ? match::yes : match::no;
  if (decided == match::yes && wanted->type != 0 && type != wanted->type) {
    if (tail || !reader.lapped())
      mismatch = error{errc::type_mismatch, 0,
                       "cannot read subject '" + std::string(text) + "' as this type",
                       type == 0 ? "it carries untyped messages"
                                 : "it carries another type, or another layout of it",
                       "subscribe with the publisher's type, or to other subjects"};
    decided = match::no;
    if (type == 0) return decided;  // it may get one later
  }
  if (id == layout::inline_subject_id) return decided;
  if (id >= matches.size()) {
    const std::size_t size = std::max<std::size_t>(id + 1, matches.size() * 2);
    matches.resize(size, match::unknown);
    texts.resize(size);
  }
  matches[id] = decided;
  texts[id] = text;
  return decided;
}

// The subject has the type, but a message from an untyped publisher has none, now or earlier.
bool source::carries_type(const ring::record_view& view) noexcept {
  // A record with an inline subject names its type itself.
  const bool says_so =
      layout::is_typed_origin(view.origin) || view.subject_id() == layout::inline_subject_id;
  if (says_so && view.shape.payload_bytes == wanted->type_bytes) return true;
  if (!mismatch && (tail || !reader.lapped()))
    mismatch = error{errc::type_mismatch, 0,
                     "cannot read a message of stream '" + stream->name() + "' as this type",
                     "an untyped publisher sent " + std::to_string(view.shape.payload_bytes) +
                         " bytes to a typed subject",
                     "publish to it with a typed publisher only"};
  return false;
}

bool source::ready() const noexcept {
  if (tail == nullptr) return reader.ready();
  // At the end of what is logged, the ring has the rest, if there is any.
  return tail->pending_loss || tail->history().next_seq() <= logged_seq() || reader.ready();
}

// [F1] acquire: what was committed before the fence.
bool source::has_ended() noexcept {
  constexpr auto patience = std::chrono::seconds(5);
  // No process closes a lane without files; its publishers are notified as this reader was.
  if (lane->is_lost() || session->directory->removed()) return true;
  const std::uint64_t lease = sync::load_acquire(lane->header().turn.lease);
  if (lease == layout::lease_closed) return true;
  const std::uint32_t owner = layout::lease_owner(lease);
  if (owner != 0 && session->peers->proven_dead(owner)) return true;
  // The owner does not come back, or the lock could not be taken to close the lane.
  const auto now = std::chrono::steady_clock::now();
  if (draining_since == std::chrono::steady_clock::time_point{}) draining_since = now;
  return now - draining_since > patience;
}

void source::tick() noexcept {
  if (reader.has_unticked_release() && reader.tick())
    os::futex_wake(os::futex_half(pin->tick), 1 << 30);
}

}  // namespace bus::detail
