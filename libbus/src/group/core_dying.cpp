/// core, dying: the way of a message to the dead letters. Q4 is of core.hpp.

#include <algorithm>

#include "group/claim.hpp"
#include "group/core.hpp"
#include "sync/seeded_fault.hpp"

namespace bus::group {

void core::to_death(std::uint32_t index, slot_truth, death) noexcept {
  release_key(index);
  sync::bump(m_.header->counters.dead, 1);
  news_ = true;
  if (try_move(index))
    finish_move(index);
  else
    dying_queue(m_).push_back(index);
}

// [Q4] announced, decided; the caller writes, then frees.
void core::decide_move(std::uint32_t index, slot_truth t, std::uint64_t number) noexcept {
  sync::store_release(m_.header->move_intent, std::uint64_t{index} | (number & intent_mask) << 24);
  sync::reach(sync::failpoint::death_announced);
  t.state =
      sync::makes(sync::fault::letter_freed_too_early) ? slot_state::free : slot_state::moving;
  store_truth(index, t);
  sync::reach(sync::failpoint::death_decided);
}

// False: the dead letters are full, or cannot be reached: it waits.
bool core::try_move(std::uint32_t index) noexcept {
  auto& slot = m_.slot(index);
  const slot_truth t = truth(index);
  const std::uint64_t origin = sync::load_relaxed(slot.origin);
  if (!m_.rules.dead_letters) {
    const std::uint64_t count = sync::load_relaxed(m_.header->discarded);
    decide_move(index, t, count);
    sync::store_release(m_.header->discarded, count + 1);
    return true;
  }
  if (letters_ == nullptr) return false;
  const auto shape = shape_of(slot);
  const std::uint64_t bytes =
      layout::record_header_bytes + std::uint64_t{shape.header_bytes} + shape.payload_bytes;
  if (m_.broken || !letters_->has_room(bytes)) return false;
  const std::uint32_t lane = layout::lane_of_origin(origin);
  const std::uint64_t place = sync::load_relaxed(slot.place);
  letter_sink::letter letter;
  if ((place & layout::place_in_arena) != 0 || !knows_lane(lane)) {
    std::byte* copy = letters_->scratch(bytes);
    if (copy == nullptr || !knows_lane(lane)) return false;
    read_record(slot, 0, copy, bytes);
    letter.record = copy;
  } else {
    letter.record = lanes_[lane].at(place);
  }
  decide_move(index, t, letters_->next_seq());
  char text[sizeof(layout::group_member::name) + 1 + reason_max_bytes];
  const auto& story = m_.story(index);
  const std::uint32_t text_bytes = std::min<std::uint32_t>(story.reason_bytes, sizeof text);
  if (text_bytes != 0)
    hold_arena(m_).copy_out(reinterpret_cast<std::byte*>(text), story.reason_block, 0, text_bytes);
  letter.shape = shape;
  letter.attempts = t.acquired;
  letter.first_ticks = story.first_ticks;
  letter.lane = lane;
  letter.seq = layout::seq_of_origin(origin);
  letter.why = static_cast<death>(std::uint32_t{story.death});
  letter.record_bytes = bytes;
  const std::string_view both(text, text_bytes);
  const std::size_t end = both.find('\n');
  letter.member = both.substr(0, end);
  letter.reason = end == both.npos ? std::string_view() : both.substr(end + 1);
  letters_->append(letter);
  wrote_letter_ = true;
  sync::reach(sync::failpoint::death_written);
  return true;
}

void core::finish_move(std::uint32_t index) noexcept {
  slot_truth t = truth(index);
  drop_record(m_.slot(index), index);
  t.state = slot_state::free;
  store_truth(index, t);
  put_free(m_, m_.slot(index), index);
  sync::reach(sync::failpoint::death_freed);
}

}  // namespace bus::group
