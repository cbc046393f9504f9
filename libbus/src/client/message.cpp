#include <bus/message.hpp>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/cycles.hpp"
#include "layout/header_area.hpp"
#include "os/futex.hpp"
#include "subscribe/source.hpp"
#include "sync/words.hpp"

namespace bus {

namespace {

layout::header_area area_of(const std::byte* area, std::uint16_t bytes,
                            std::uint16_t flags) noexcept {
  return {area, bytes, flags};
}

}  // namespace

std::string_view message::subject() const noexcept {
  if (subject_id() == layout::inline_subject_id)
    return area_of(area_, header_bytes(), flags()).subject();
  return source_->subject_of(subject_id());
}

std::string_view message::stream() const noexcept { return source_->stream->name(); }
std::uint32_t message::lane() const noexcept { return source_->lane->index(); }

std::chrono::system_clock::time_point message::publish_time() const noexcept {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(
          (shape_ & flag_logged) != 0 ? ticks_ : source_->clock.to_wall_ns(ticks_))));
}

std::chrono::nanoseconds message::age() const noexcept {
  if ((shape_ & flag_logged) != 0) {
    const std::uint64_t wall = os::wall_ns();
    return std::chrono::nanoseconds(wall > ticks_ ? wall - ticks_ : 0);
  }
  const std::uint64_t now = source_->clock.now();
  if (now <= ticks_) return std::chrono::nanoseconds(0);
  return std::chrono::nanoseconds(
      static_cast<std::int64_t>(static_cast<double>(now - ticks_) * source_->clock.ns_per_tick()));
}

std::optional<std::string_view> message::header(std::string_view key) const noexcept {
  std::optional<std::string_view> found;
  area_of(area_, header_bytes(), flags())
      .each_user_header([&](std::string_view k, std::string_view v) {
        if (k == key) found = v;
        return !found;
      });
  return found;
}

std::vector<bus::header> message::headers() const {
  std::vector<bus::header> all;
  area_of(area_, header_bytes(), flags())
      .each_user_header([&](std::string_view k, std::string_view v) {
        all.push_back({k, v});
        return true;
      });
  return all;
}

bool message::still_valid() const noexcept {
  if ((shape_ & flag_in_place) == 0) return true;
  const auto& memory = source_->lane->memory();
  return !sync::overwritten<sync::hardware>(memory.header->limits.reserved_end, position_,
                                            memory.capacity_bytes);
}

std::size_t message::available() const noexcept {
  if ((shape_ & flag_open) == 0) return payload_bytes();
  const auto& memory = source_->lane->memory();
  if (sync::load_acquire(memory.word_at(position_)) == sequence_) return payload_bytes();
  const auto area = area_of(area_, header_bytes(), flags());
  if (!area.extension(layout::ext_progress)) return 0;
  const auto* progress =
      reinterpret_cast<const base::word*>(area_ + area.offset_of(layout::ext_progress));
  return std::min<std::size_t>(sync::load_acquire(*progress),
                               payload_bytes());  // [O1] pairs with show_progress
}

// A publisher copies some gigabytes a second. If nothing has come after a moment, it has no core or
// is stopped. A spinning reader may be what keeps the core from it.
bool message::wait_available(std::size_t bytes, std::chrono::nanoseconds wait) const noexcept {
  using clock = std::chrono::steady_clock;
  constexpr std::chrono::nanoseconds spin = std::chrono::microseconds(50);
  constexpr std::chrono::nanoseconds longest_nap = std::chrono::milliseconds(1);
  constexpr std::uint32_t looks_per_clock = 64;
  bytes = std::min<std::size_t>(bytes, payload_bytes());
  std::size_t seen = available();
  if (seen >= bytes) return true;
  const auto& memory = source_->lane->memory();
  const auto* stopped = source_->wanted->stopped;
  auto now = clock::now();
  const auto until = now + std::clamp<std::chrono::nanoseconds>(wait, std::chrono::nanoseconds(0),
                                                                std::chrono::hours(24 * 365));
  auto spin_until = now + spin;
  auto nap = spin;
  for (std::uint32_t looks = 1;; ++looks) {
    const std::size_t there = available();
    if (there >= bytes) return true;
    if (looks % looks_per_clock != 0) {
      base::relax();
      continue;
    }
    if ((sync::load_acquire(memory.word_at(position_)) & layout::commit_aborted) != 0) return false;
    if (stopped != nullptr && stopped->load()) return false;
    now = clock::now();
    if (now >= until) return false;
    if (there != seen) {  // the publisher is at work
      seen = there;
      spin_until = now + spin;
      nap = spin;
      continue;
    }
    if (now < spin_until) continue;
    // A lane without publishers is not repaired, so check whether its publisher is alive.
    const auto owner = layout::lease_owner(sync::load_relaxed(memory.header->turn.lease));
    auto& peers = *source_->session->peers;
    if (owner == 0 || peers.state(owner) != sync::life_state::alive) return available() >= bytes;
    // The publisher's death ends the nap.
    const auto sleep = std::min<std::chrono::nanoseconds>(nap, until - now);
    if (const auto* life = peers.life_of(owner))
      os::futex_wait(&life->word, sync::life_value(*life), sleep);
    else
      std::this_thread::sleep_for(sleep);
    nap = std::min(2 * nap, longest_nap);
  }
}

}  // namespace bus
