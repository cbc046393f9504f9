#include "registry/writer_gate.hpp"

#include <algorithm>
#include <climits>

#include "base/cycles.hpp"
#include "os/files.hpp"
#include "os/futex.hpp"
#include "ring/gate.hpp"
#include "sync/seeded_fault.hpp"
#include "sync/words.hpp"

namespace bus::registry {

namespace {

// After this many commits that found no sleeper, may_sleep is cleared.
constexpr std::uint32_t idle_exchanges_max = 65536;

constexpr std::uint32_t process_of(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry >> 32);
}
constexpr std::uint32_t slot_of(std::uint64_t entry) noexcept {
  return static_cast<std::uint32_t>(entry) - 1;
}

}  // namespace

std::uint32_t writer_gate::entries_in_use() const noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(
      sync::load_acquire(lane_->readers().high_water), lane_->reader_entries()));
}

// Records in the log may be overwritten. [D1] acquire: a reader that is lapped finds them there.
std::uint64_t writer_gate::logged_position(std::uint64_t tail) const noexcept {
  const std::uint64_t capacity = lane_->memory().capacity_bytes;
  const std::uint64_t oldest = tail > capacity ? tail - capacity : 0;
  return std::clamp(sync::load_acquire(lane_->header().durability.logged_position), oldest, tail);
}

std::uint64_t writer_gate::lowest_pin(std::uint64_t tail) noexcept {
  const std::uint64_t capacity = lane_->memory().capacity_bytes;
  const bool spills = lane_->memory().kept == layout::storage::spill;
  const std::uint64_t logged = lane_->memory().has_log() ? logged_position(tail) : 0;
  if (lane_->memory().kept == layout::storage::durable) return logged;
  std::uint64_t lowest = tail;
  unresolved_ = unseen_ = awaits_newcomers_ = false;
  slowest_ = {};
  if (sync::load_relaxed(lane_->header().counters.unmet) != 0 &&
      !sync::makes(sync::fault::newcomers_forgotten)) [[unlikely]] {
    awaits_newcomers_ = true;
    lowest = std::max(logged, tail > capacity ? tail - capacity : 0);
    slowest_.process_id = newcomer_.process;
    slowest_.position = lowest;
    slowest_.is_newcomer = true;
    slowest_.thread = newcomer_.thread;
  }
  const std::uint32_t count = entries_in_use();
  for (std::uint32_t i = 0; i < count; ++i) {
    // [N1] pairs with the announcement
    const std::uint64_t entry = sync::load_acquire(lane_->reader_entry(i));
    if (entry == 0) continue;
    if (i >= readers_.size() || readers_[i].entry != entry) {
      unresolved_ = true;
      lowest = std::min(lowest, std::max(logged, tail > capacity ? tail - capacity : 0));
      continue;
    }
    const known_reader& reader = readers_[i];
    if (reader.unseen) [[unlikely]] {
      unseen_ = true;
      const std::uint64_t held = std::max(logged, tail > capacity ? tail - capacity : 0);
      if (held <= lowest) {
        lowest = held;
        slowest_ = {nullptr, nullptr, nullptr, process_of(entry), held, true};
      }
      continue;
    }
    if (reader.pin == nullptr) continue;
    const std::uint64_t held = spills ? ring::held_position_of_spill<sync::hardware>(
                                            *reader.pin, lane_->lane_key(), tail, capacity, logged)
                                      : ring::held_position<sync::hardware>(
                                            *reader.pin, lane_->lane_key(), tail, capacity);
    if (held < lowest) {
      lowest = held;
      slowest_ = {reader.pin, reader.process.get(), reader.group.get(), process_of(entry), held};
    }
  }
  return lowest;
}

void writer_gate::resolve() {
  group_finder groups(stream_directory_);
  const std::uint32_t count = entries_in_use();
  if (readers_.size() < count) readers_.resize(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t entry = sync::load_acquire(lane_->reader_entry(i));
    known_reader& reader = readers_[i];
    if (reader.entry == entry && !reader.unseen) continue;
    reader = {};
    reader.entry = entry;
    if (entry == 0) continue;
    if (layout::is_group_reader(entry)) {
      resolve_group(reader, i, groups);
      continue;
    }
    reader.process = peers_.find(process_of(entry));
    if (reader.process) {
      reader.slot = reader.process->slot(slot_of(entry));
      if (reader.slot != nullptr)
        reader.pin = reinterpret_cast<const ring::pin_words*>(reader.slot->pin);
      // The slot is not mapped now.
      else
        reader.unseen = slot_of(entry) < reader.process->slots_now();
    } else if (peers_.state(process_of(entry)) == sync::life_state::alive) {
      reader.unseen = true;
    } else {  // its process has left or died, or it was never a valid entry
      reader = {};
      sync::replace(lane_->reader_entry(i), entry, 0);
    }
  }
  unresolved_ = false;
}

bool writer_gate::meet_newcomers(const stream_handle& stream, const bus_directory& directory) {
  base::word& unmet = lane_->header().counters.unmet;
  const std::uint64_t announced = sync::load_acquire(unmet);
  if (announced == 0) return true;
  // A number above the generation was never announced: the word was overwritten.
  if (announced <= directory.generation()) {
    if (const auto found = find_newcomer(peers_, stream, lane_->index(), announced)) {
      newcomer_ = *found;
      slowest_.process_id = found->process;
      slowest_.thread = found->thread;
      return false;
    }
  }
  sync::replace(unmet, announced, 0);
  return true;
}

void writer_gate::resolve_group(known_reader& reader, std::uint32_t index, group_finder& groups) {
  bool gone = false;
  reader.group = groups.find(reader.entry, gone);
  if (reader.group) {
    reader.pin = &reader.group->pin(lane_->index());
    return;
  }
  if (!gone) {
    reader.unseen = true;
    return;
  }
  sync::replace(lane_->reader_entry(index), reader.entry, 0);
  reader = {};
}

std::optional<writer_gate::laggard> writer_gate::slowest_reader(std::uint64_t tail) const noexcept {
  if (sync::load_relaxed(lane_->header().counters.unmet) != 0) [[unlikely]]
    return laggard{0, sync::load_relaxed(lane_->header().durability.first_seq)};
  std::optional<laggard> slowest;
  for (const known_reader& reader : readers_) {
    if (reader.pin == nullptr || sync::load_acquire(reader.pin->state) != ring::pin_gating ||
        sync::load_relaxed(reader.pin->lane_key) != lane_->lane_key())
      continue;
    const std::uint64_t position = sync::load_acquire(reader.pin->cursor);
    if (position > tail || (slowest && slowest->position <= position)) continue;
    slowest = laggard{position, sync::load_relaxed(reader.pin->next_seq)};
  }
  return slowest;
}

std::uint64_t writer_gate::lowest_wanted() const noexcept {
  if (sync::load_relaxed(lane_->header().counters.unmet) != 0) [[unlikely]]
    return 0;
  std::uint64_t lowest = ~0ull;
  for (const known_reader& reader : readers_)
    if (reader.unseen)
      return 0;
    else if (reader.pin != nullptr && sync::load_acquire(reader.pin->state) == ring::pin_gating &&
             sync::load_relaxed(reader.pin->lane_key) == lane_->lane_key())
      lowest = std::min(lowest, sync::load_relaxed(reader.pin->next_seq));
  return lowest;
}

bool writer_gate::forget_dead() {
  bool any = false;
  for (std::uint32_t i = 0; i < readers_.size(); ++i) {
    known_reader& reader = readers_[i];
    if (reader.unseen
            ? layout::is_group_reader(reader.entry) ||
                  peers_.state(process_of(reader.entry)) == sync::life_state::alive
            : !reader.process || sync::read_life(reader.process->life()) == sync::life_state::alive)
      continue;
    // It only read: nothing it may still do for some microseconds can harm the lane.
    sync::replace(lane_->reader_entry(i), reader.entry, 0);
    reader = {};
    any = true;
  }
  return any;
}

void writer_gate::wake_sleepers() noexcept {
  auto& table = lane_->readers();
  // [W1] the commit before the exchange; pairs with the reader's exchange before its last check.
  // The value left in the word is never the same twice: a reader that has armed and does not sleep
  // yet must not find its own value again because another one armed after this exchange.
  const std::uint64_t armed =
      sync::exchange_both(table.armed, (base::cycle_counter() << 2) & 0xfffffffcu) &
      layout::armed_bits;
  if ((armed & layout::armed_futex) != 0) wake_futexes(table);
  if ((armed & layout::armed_bell) != 0) ring_bells();
  if (armed != 0) {
    idle_exchanges_ = 0;
  } else if (++idle_exchanges_ >= idle_exchanges_max) {
    // Readers set may_sleep again before each sleep, so this can only delay a wake-up.
    idle_exchanges_ = 0;
    sync::store_relaxed(table.may_sleep, 0);
  }
}

// A publisher wakes a few sleepers, and these wake the others. If one of them is killed first, the
// others wake up when their bounded sleep ends.
void writer_gate::wake_futexes(layout::readers_header& table) noexcept {
  const bool hands_on = sync::load_relaxed(table.hand_on) != 0;
  const int woken = os::futex_wake(os::futex_half(table.armed), layout::woken_at_once);
  const bool are_many = woken == layout::woken_at_once;
  if (are_many == hands_on) return;
  sync::store_relaxed(table.hand_on, are_many ? 1 : 0);
  // The woken readers may not have seen hand_on.
  if (are_many) os::futex_wake(os::futex_half(table.armed), INT_MAX);
}

void writer_gate::ring_bells() noexcept {
  resolve();
  for (known_reader& reader : readers_) {
    if (reader.slot == nullptr) continue;
    constexpr std::uint64_t waits_for_bell = layout::slot_bell | layout::slot_sleeping;
    if ((sync::load_relaxed(reader.slot->flags) & waits_for_bell) != waits_for_bell) continue;
    const std::uint64_t owner = sync::load_relaxed(reader.slot->object_id);
    if (!reader.bell || reader.bell_owner != owner) {  // the slot may have a new subscriber
      auto bell = os::open_fifo_to_write(peers_.directory() + "/" +
                                         std::to_string(process_of(reader.entry)) + "." +
                                         std::to_string(owner) + ".fifo");
      if (!bell) continue;
      reader.bell = std::move(*bell);
      reader.bell_owner = owner;
    }
    os::poke(reader.bell.get());
  }
}

}  // namespace bus::registry
