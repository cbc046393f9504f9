#include "client/subscriber_core.hpp"

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
// Looks at the clock and at other things than its rings only now and then.
constexpr std::uint32_t looks_per_check = 64;
// An empty look followed at once by another drags the line away from a publisher that is about to write it.
constexpr int pauses_between_looks = 8;

}  // namespace

// Takes records into the batch; the arena for lanes that may overwrite them.
struct subscriber_core::batch_sink {
  subscriber_core& core;
  detail::source& from;
  std::size_t& count;
  std::uint64_t batch_bytes = 0;

  ring::verdict take(const ring::record_view& view) noexcept {
    const auto matched = from.match_of(view);
    if (matched != detail::source::match::yes) [[unlikely]]
      return from.failed ? ring::verdict::full : ring::verdict::skipped;
    const std::uint64_t total = view.shape.total_bytes();
    // A batch of large records is cut, so that their space goes back while the rest is read.
    if (count != 0 && batch_bytes + total > from.lane->memory().capacity_bytes / 8) return ring::verdict::full;
    const std::byte* header = view.header();
    if (from.reader.may_be_lapped() && !core.options.in_place) {
      const std::size_t bytes = view.shape.header_bytes + view.shape.payload_bytes;
      const std::size_t padded = base::round_up(bytes, 32) + 32;
      if (core.arena_used_ + padded > core.arena_.size()) {
        if (count != 0) return ring::verdict::full;
        core.arena_.resize(core.arena_used_ + padded + arena_start_bytes);  // count is 0: nothing points into it
      }
      std::byte* to = core.arena_.data() + core.arena_used_;
      to += base::round_up(reinterpret_cast<std::uintptr_t>(to), 32) - reinterpret_cast<std::uintptr_t>(to);
      sync::hardware::copy_out(to, header, bytes);
      core.arena_used_ += padded;
      header = to;
    }
    if (view.shape.flags & layout::flag_extension) [[unlikely]] {
      const layout::header_area area(header, view.shape.header_bytes, view.shape.flags);
      if (!area.understood()) {
        if (!from.reader.lapped())
          from.failed = error{errc::unsupported, 0, "cannot read stream '" + from.stream->name() + "'",
                              "a newer library wrote records that this one does not understand", "use the newer library here, too"};
        return ring::verdict::full;
      }
    }
    message& m = core.batch_[count];
    m.payload_ = header + view.shape.header_bytes;
    m.source_ = &from;
    m.sequence_ = view.seq;
    m.ticks_ = view.ticks;
    m.position_ = view.position;
    m.payload_bytes_ = view.shape.payload_bytes;
    m.subject_id_ = view.subject_id();
    m.publisher_id_ = view.publisher_id();
    m.header_bytes_ = view.shape.header_bytes;
    m.flags_ = view.shape.flags;
    m.open_ = view.open;
    m.in_place_ = core.options.in_place;
    ++count;
    batch_bytes += total;
    return ring::verdict::taken;
  }
  void undo() noexcept { --count; }
};

result<std::unique_ptr<subscriber_core>> subscriber_core::make(std::shared_ptr<session_core> session,
                                                               std::span<const std::string_view> patterns,
                                                               subscriber_options options) {
  auto core = std::make_unique<subscriber_core>();
  if (patterns.empty())
    return error{errc::invalid_argument, 0, "cannot subscribe", "no pattern was given", "use '>' for everything"};
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
  core->wish_.may_sleep = options.wait == wait_strategy::block || options.wait == wait_strategy::adaptive;
  core->wish_.id = session->next_object_id();
  core->session = std::move(session);
  core->options = std::move(options);
  core->arena_.resize(arena_start_bytes);
  core->refresh_sources(core->options.start);
  if (core->failure) return std::move(*core->failure);
  return core;
}

subscriber_core::~subscriber_core() {
  if (session && session->guard.same_process()) sleeper_.close(*session);
}

// Streams made later are read from their beginning, `from` is for those that were there at the start.
void subscriber_core::refresh_sources(const start& from) noexcept {
  generation_seen_ = session->directory->generation();
  std::vector<error> broken;
  const auto streams = session->streams(&broken);
  for (auto& source : sources_) {
    source->draining = std::none_of(streams.begin(), streams.end(), [&](const auto& stream) {
      return stream->facts().stream_id == source->stream->facts().stream_id;
    });
  }
  for (const auto& stream : streams) {
    const bool wanted = stream->is_default() || std::any_of(wish_.patterns.begin(), wish_.patterns.end(),
                                                            [&](const auto& pattern) { return stream->may_match(pattern); });
    if (wanted) attach(stream, from);
  }
  if (!broken.empty() && !failure) failure = std::move(broken.front());
}

void subscriber_core::attach(const std::shared_ptr<client::stream_handle>& stream, const start& from) noexcept {
  const std::uint32_t lanes = stream->lane_count();
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    const bool known = std::any_of(sources_.begin(), sources_.end(), [&](const auto& source) {
      return source->stream->facts().stream_id == stream->facts().stream_id && source->lane->index() == lane;
    });
    if (known) continue;
    auto attached = detail::source::attach(*session, stream, lane, wish_, from);
    if (attached) {
      sources_.push_back(std::move(*attached));
      if (sleeper_.has_descriptor()) (void)sleeper_.descriptor(sources_, *session, wish_.id);
    } else if (attached.error().code != errc::not_found) {  // not_found: removed this moment
      failure = std::move(attached.error());
    }
  }
}

void subscriber_core::retire(std::size_t index) noexcept {
  const detail::source& gone = *sources_[index];
  retired_.delivered += gone.delivered;
  retired_.lost += gone.lost;
  retired_.gaps += gone.gaps;
  retired_.aborted += gone.aborted;
  sources_.erase(sources_.begin() + static_cast<std::ptrdiff_t>(index));
}

void subscriber_core::report_gap(detail::source& from, std::uint64_t first, std::uint64_t count) noexcept {
  if (count == 0) return;
  from.lost += count;
  ++from.gaps;
  sync::store_relaxed(from.pin->lost, from.lost);
  if (options.on_gap) options.on_gap({from.stream->name(), from.lane->index(), first, count});
}

std::size_t subscriber_core::fill_from(detail::source& from, std::size_t max) noexcept {
  if (from.first_gap_from) [[unlikely]] {
    const std::uint64_t first = *from.first_gap_from;
    from.first_gap_from.reset();
    report_gap(from, first, from.reader.next_seq() - first);
  }
  for (int laps = 0; laps < 8; ++laps) {
    std::size_t count = 0;
    batch_sink sink{*this, from, count};
    const ring::poll_outcome outcome = from.reader.poll(max, sink);
    // What a gated lane handed out in place is still there only if nobody took our pin away.
    if (count != 0 && !from.reader.may_be_lapped() && from.reader.lapped()) [[unlikely]]
      count = 0;
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
      case ring::poll_outcome::more:
        return 0;
      case ring::poll_outcome::aborted:
        ++from.aborted;
        return 0;
      case ring::poll_outcome::lapped: {
        std::uint64_t first = 0;
        if (from.reader.resume(first)) report_gap(from, first, from.reader.next_seq() - first);
        break;
      }
      case ring::poll_outcome::corrupt:
        from.failed = layout::corrupt(client::lane_path(from.stream->directory(), from.lane->index()),
                                      "at sequence " + std::to_string(from.reader.next_seq()) + " there is no record");
        return 0;
      case ring::poll_outcome::unsupported:
        from.failed = error{errc::unsupported, 0, "cannot read stream '" + from.stream->name() + "'",
                            "a newer library wrote records that this one does not understand", "use the newer library here, too"};
        return 0;
    }
  }
  return 0;
}

std::size_t subscriber_core::refill(std::size_t max) noexcept {
  if (!session->guard.same_process()) [[unlikely]] {
    if (!failure) failure = session->forked_error();
    return 0;
  }
  arena_used_ = 0;
  if (anything_held_) {
    for (auto& source : sources_) {
      if (source->reader.held_bytes() < source->lane->memory().capacity_bytes / 8) continue;
      source->release();
      source->tick();
    }
  }
  if (changed()) [[unlikely]]
    refresh_sources(start::all());
  max = std::min(max, batch_max);
  for (std::size_t looked = 0; looked < sources_.size(); ++looked) {
    if (next_source_ >= sources_.size()) next_source_ = 0;
    detail::source& source = *sources_[next_source_];
    const std::size_t count = fill_from(source, max);
    if (count != 0) {
      ++next_source_;
      anything_held_ = true;
      return count;
    }
    if (source.failed) [[unlikely]] {
      failure = std::move(*source.failed);
      retire(next_source_);
    } else if (source.draining) [[unlikely]] {
      retire(next_source_);
    } else {
      ++next_source_;
    }
  }
  // Nothing anywhere: what was read goes back, and a waiting publisher is told.
  release_all();
  for (auto& source : sources_) source->tick();
  return 0;
}

void subscriber_core::release_all() noexcept {
  if (!anything_held_) return;
  anything_held_ = false;
  for (auto& source : sources_)
    if (source->reader.held_bytes() != 0) source->release();
}

bool subscriber_core::any_ready() noexcept {
  return changed() || std::any_of(sources_.begin(), sources_.end(), [](const auto& source) { return source->ready(); });
}

bool subscriber_core::wait(std::chrono::nanoseconds wait) noexcept {
  if (!session->guard.same_process()) return false;
  release_all();
  for (auto& source : sources_) {
    source->tick();
    sync::store_relaxed(source->pin->thread, static_cast<std::uint64_t>(os::thread_id()));
  }
  if (any_ready()) return true;
  const auto begin = clock::now();
  const auto far = std::chrono::hours(24 * 365);
  const auto deadline = begin + std::min<std::chrono::nanoseconds>(std::max<std::chrono::nanoseconds>(wait, std::chrono::nanoseconds(0)), far);
  const bool sleeps = options.wait == wait_strategy::block || options.wait == wait_strategy::adaptive;
  const auto spin_end = options.wait == wait_strategy::block ? begin : std::min(deadline, begin + adaptive_spin);
  for (std::uint32_t looks = 1;; ++looks) {
    if (any_ready()) {
      sleeper_.note_activity();
      return true;
    }
    if (options.wait == wait_strategy::busy_spin && looks % looks_per_check != 0) continue;
    if (options.wait == wait_strategy::spin_pause || options.wait == wait_strategy::adaptive)
      for (int i = 0; i < pauses_between_looks; ++i) base::relax();
    if (stopped()) return false;
    if (!sleeps && looks % looks_per_check != 0) continue;
    const auto now = clock::now();
    if (now >= deadline) return false;
    if (sleeps && now >= spin_end) sleeper_.sleep(sources_, *session, deadline - now, [this] { return any_ready() || stopped(); });
  }
}

result<int> subscriber_core::fd() { return sleeper_.descriptor(sources_, *session, wish_.id); }

bool subscriber_core::arm() noexcept {
  if (!sleeper_.has_descriptor()) return false;
  release_all();
  for (auto& source : sources_) source->tick();
  sleeper_.arm_bell(sources_);
  if (!any_ready()) return true;
  sleeper_.disarm_bell(sources_);
  return false;
}

void subscriber_core::drain() noexcept {
  if (!sleeper_.has_descriptor()) return;
  sleeper_.drain();
  sleeper_.disarm_bell(sources_);
  sleeper_.note_activity();
}

void subscriber_core::expect_type(std::uint64_t type) noexcept {
  wish_.type = type;
  for (auto& source : sources_) source->matches.clear();  // decided without the type
}

subscriber_stats subscriber_core::stats() const noexcept {
  subscriber_stats sum = retired_;
  for (const auto& source : sources_) {
    sum.delivered += source->delivered;
    sum.lost += source->lost;
    sum.gaps += source->gaps;
    sum.aborted += source->aborted;
  }
  sum.lanes = sources_.size();
  return sum;
}

}  // namespace bus
