#include "consume/group_control.hpp"

#include <algorithm>

#include "sync/words.hpp"

namespace bus::consume {

using namespace std::chrono_literals;

result<std::uint64_t> drop_dead_letters(group_handle& group, std::uint64_t sequence) {
  if (!group.dead_letter_lane()) return std::uint64_t{0};
  if (!group.lock(5s)) return *group.failure;
  auto& header = group.header();
  const std::uint64_t before =
      std::max<std::uint64_t>(sync::load_relaxed(header.dead_letters_floor_seq), 1);
  const std::uint64_t tail = group.dead_letters_tail();
  std::uint64_t position = sync::load_relaxed(header.dead_letters_floor), seq = before;
  const auto& memory = group.dead_letter_lane()->memory();
  if (position % layout::record_align != 0 || position + memory.capacity_bytes < tail)
    position = tail, seq = group.dead_letters_written() + 1;
  for (; position < tail && seq <= sequence; ++seq) {
    const auto* words = &memory.word_at(position);
    if (sync::load_acquire(words[0]) != seq) break;
    position += layout::record_shape::unpack(sync::load_relaxed(words[1])).total_bytes();
  }
  sync::store_relaxed(header.dead_letters_floor_seq, seq);
  sync::store_release(header.dead_letters_floor, position);
  sync::bump(header.dead_letters_dropped, seq - before);
  auto& readable = group.dead_letter_lane()->header().counters.readable_from;
  if (seq > sync::load_relaxed(readable)) sync::store_release(readable, seq);
  group.core().housekeep(group.now());  // what waited for the room
  group.update_pins(true);
  group.unlock();
  return seq - before;
}

result<void> pause_group(group_handle& group, std::optional<std::chrono::nanoseconds> time) {
  const std::uint64_t until =
      time ? group.now() + group.ticks(std::max<std::chrono::nanoseconds>(*time, 0ns)) : ~0ull;
  sync::store_release(group.header().paused_until, until);
  group.ring_bell();
  return {};
}

result<void> resume_group(group_handle& group) {
  sync::store_release(group.header().paused_until, 0);
  group.ring_bell();
  return {};
}

result<std::uint32_t> repair_group(group_handle& group) { return group.repair_by_hand(); }

bool release_idle_group(session_core& session,
                        const std::shared_ptr<registry::stream_handle>& stream,
                        const std::string& name) {
  auto group = group_handle::open(session, stream, name);
  return group && (*group)->let_go_if_idle();
}

}  // namespace bus::consume
