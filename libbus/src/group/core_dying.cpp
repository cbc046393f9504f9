/// core, dying: the way of a message to the dead letters. core.hpp defines GROUP-4.

#include <algorithm>

#include "group/claim.hpp"
#include "group/core.hpp"
#include "sync/seeded_fault.hpp"

namespace bus::group {

void core::to_death(std::uint32_t index, slot_status, death) noexcept {
  release_key(index);
  sync::bump(m_.header->counters.dead, 1);
  wake_consumers_ = true;
  if (try_move(index))
    finish_move(index);
  else
    dying_queue(m_).push_back(index);
}

// GROUP-4: announced and decided here; the caller writes, then frees.
void core::decide_move(std::uint32_t index, slot_status t, std::uint64_t number) noexcept {
  sync::store_release(m_.header->move_intent, std::uint64_t{index} | (number & intent_mask) << 24);
  sync::reach(sync::failpoint::death_announced);
  t.state =
      sync::makes(sync::fault::dead_letter_freed_too_early) ? slot_state::free : slot_state::moving;
  store_status(index, t);
  sync::reach(sync::failpoint::death_decided);
}

// False: the dead letters are full or cannot be reached, so the message waits.
bool core::try_move(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  const slot_status t = status(index);
  const std::uint64_t origin = sync::load_relaxed(slot.origin);
  if (!m_.rules.dead_letters) {
    const std::uint64_t count = sync::load_relaxed(m_.header->discarded);
    decide_move(index, t, count);
    sync::store_release(m_.header->discarded, count + 1);
    return true;
  }
  if (dead_letters_ == nullptr) return false;
  const auto shape = shape_of(slot);
  const std::uint64_t bytes =
      layout::record_header_bytes + std::uint64_t{shape.header_bytes} + shape.payload_bytes;
  if (m_.broken || !dead_letters_->has_room(bytes)) return false;
  const std::uint32_t lane = layout::lane_of_origin(origin);
  const std::uint64_t location = sync::load_relaxed(slot.location);
  dead_letter_sink::dead_letter dead_letter;
  if ((location & layout::location_in_arena) != 0 || !knows_lane(lane)) {
    std::byte* copy = dead_letters_->scratch(bytes);
    if (copy == nullptr || !knows_lane(lane)) return false;
    read_record(slot, 0, copy, bytes);
    dead_letter.record = copy;
  } else {
    dead_letter.record = lanes_[lane].at(location);
  }
  decide_move(index, t, dead_letters_->next_seq());
  char text[sizeof(layout::group_member::name) + 1 + reason_max_bytes];
  const auto& details = m_.details_of(index);
  const std::uint32_t text_bytes = std::min<std::uint32_t>(details.reason_bytes, sizeof text);
  if (text_bytes != 0)
    hold_arena(m_).copy_out(reinterpret_cast<std::byte*>(text), details.reason_block, 0,
                            text_bytes);
  dead_letter.shape = shape;
  dead_letter.attempts = t.acquired;
  dead_letter.first_ticks = details.first_ticks;
  dead_letter.lane = lane;
  dead_letter.seq = layout::seq_of_origin(origin);
  dead_letter.why = static_cast<death>(std::uint32_t{details.death});
  dead_letter.record_bytes = bytes;
  const std::string_view both(text, text_bytes);
  const std::size_t end = both.find('\n');
  dead_letter.member = both.substr(0, end);
  dead_letter.reason = end == both.npos ? std::string_view() : both.substr(end + 1);
  dead_letters_->append(dead_letter);
  wrote_dead_letter_ = true;
  sync::reach(sync::failpoint::death_written);
  return true;
}

void core::finish_move(std::uint32_t index) noexcept {
  slot_status t = status(index);
  drop_record(m_.slot(index), index);
  t.state = slot_state::free;
  store_status(index, t);
  put_free(m_, m_.slot(index), index);
  sync::reach(sync::failpoint::death_freed);
}

}  // namespace bus::group
