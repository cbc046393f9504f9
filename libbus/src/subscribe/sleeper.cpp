#include "subscribe/sleeper.hpp"

#include <algorithm>

#include "os/event_set.hpp"
#include "os/files.hpp"
#include "os/futex.hpp"
#include "sync/words.hpp"

namespace bus::subscribe {

namespace {

using namespace std::chrono_literals;

constexpr auto just_attached = 10ms;  // publishers may not have seen may_sleep yet
constexpr auto just_attached_bound = 1ms;
constexpr auto lately_active = 2s;
constexpr auto lately_active_bound = 8ms;  // a publisher was killed between commit and wake-up
constexpr auto idle_bound = 50ms;

}  // namespace

std::chrono::nanoseconds sleeper::bound() const noexcept {
  const auto now = std::chrono::steady_clock::now();
  if (now - born_ < just_attached) return just_attached_bound;
  return now - last_activity_ < lately_active ? std::chrono::nanoseconds(lately_active_bound)
                                              : std::chrono::nanoseconds(idle_bound);
}

void sleeper::arm_futexes(const sources& from) noexcept {
  expected_.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    auto& readers = from[i]->lane->readers();
    // [A1] relaxed: see bound(). Written only if it changes, so that the line stays shared.
    if (sync::load_relaxed(readers.may_sleep) == 0) sync::store_relaxed(readers.may_sleep, 1);
    // [W1] armed before the last check; pairs with the publisher's exchange after its commit.
    expected_[i] =
        static_cast<std::uint32_t>(sync::set_bits_both(readers.armed, layout::armed_futex));
    sync::store_relaxed(from[i]->slot->flags,
                        sync::load_relaxed(from[i]->slot->flags) | layout::slot_sleeping);
  }
}

void sleeper::wait_armed(const sources& from, session_core& session,
                         std::chrono::nanoseconds wait) noexcept {
  wait = std::min(wait, bound());
  // With a lane per publisher, lanes often come during the sleep: the generation is watched, too.
  if (from.size() == 1 && from[0]->stream->facts().config.mode == lane_mode::fixed) {
    os::futex_wait(os::futex_half(from[0]->lane->readers().armed), expected_[0], wait);
    hand_on_wake_up(from[0]->lane->readers(), expected_[0]);
    return;
  }
  std::vector<os::futex_expectation> words;
  const auto& generation = session.directory->control().generation;
  words.push_back(
      {os::futex_half(generation), static_cast<std::uint32_t>(session.directory->generation())});
  for (std::size_t i = 0; i < from.size() && words.size() < os::futex_wait_any_max; ++i)
    words.push_back({os::futex_half(from[i]->lane->readers().armed), expected_[i]});
  // More lanes than the kernel can watch: check the others every millisecond.
  if (from.size() + 1 > os::futex_wait_any_max)
    wait = std::min<std::chrono::nanoseconds>(wait, 1ms);
  os::futex_wait_any(words, wait);
  for (std::size_t i = 0; i < from.size(); ++i)
    hand_on_wake_up(from[i]->lane->readers(), expected_[i]);
}

// A reader that was woken by a commit wakes some that still sleep. If the word still has the
// expected value, nothing was committed, and it wakes none.
void hand_on_wake_up(layout::readers_header& readers, std::uint32_t expected) noexcept {
  if (sync::load_relaxed(readers.hand_on) == 0) return;
  if (static_cast<std::uint32_t>(sync::load_relaxed(readers.armed)) == expected) return;
  os::futex_wake(os::futex_half(readers.armed), layout::woken_at_once);
}

void sleeper::disarm(const sources& from) noexcept {
  // The armed words stay set, because other readers may sleep on them. A publisher clears them at
  // its next commit.
  for (const auto& source : from)
    sync::store_relaxed(source->slot->flags, sync::load_relaxed(source->slot->flags) &
                                                 ~std::uint64_t{layout::slot_sleeping});
}

result<int> sleeper::descriptor(const sources& from, session_core& session,
                                std::uint32_t subscriber_id) {
  if (!events_) {
    bell_path_ = session.me->bell_path(subscriber_id);
    auto bell = os::make_fifo(bell_path_, 0600);
    if (!bell) return std::move(bell.error());
    auto timer = os::make_timer();
    if (!timer) return std::move(timer.error());
    auto events = os::make_event_set(bell->get(), timer->get());
    if (!events) return std::move(events.error());
    bell_ = std::move(*bell);
    timer_ = std::move(*timer);
    events_ = std::move(*events);
  }
  for (const auto& source : from)
    sync::store_relaxed(source->slot->flags,
                        sync::load_relaxed(source->slot->flags) | layout::slot_bell);
  return events_.get();
}

void sleeper::arm_bell(const sources& from) noexcept {
  for (const auto& source : from) {
    sync::store_relaxed(source->slot->flags, sync::load_relaxed(source->slot->flags) |
                                                 layout::slot_bell | layout::slot_sleeping);
    auto& readers = source->lane->readers();
    if (sync::load_relaxed(readers.may_sleep) == 0) sync::store_relaxed(readers.may_sleep, 1);
    sync::set_bits_both(
        readers.armed,
        layout::armed_bell);  // [W1] as in arm_futexes; also orders the flags before it
  }
  os::set_timer(timer_.get(), bound());
}

void sleeper::disarm_bell(const sources& from) noexcept { disarm(from); }

void sleeper::drain() noexcept {
  os::drain(bell_.get());
  os::drain(timer_.get());
}

void sleeper::close(session_core&) noexcept {
  if (!bell_path_.empty()) os::remove_file(bell_path_);
}

}  // namespace bus::subscribe
