#include "registry/interest.hpp"

#include <algorithm>
#include <cstring>

#include "os/process.hpp"
#include "sync/words.hpp"

namespace bus::registry {

namespace {

constexpr std::uint64_t any_lane = 0;

// A label too long for the slot is shortened to the first tokens, or to `>`.
std::string label_of(std::span<const subject::pattern> patterns) {
  constexpr std::size_t room = sizeof layout::slot::label;
  std::string all, some;
  bool is_any = false;
  for (const auto& pattern : patterns) {
    const std::string_view text = pattern.text();
    const std::string_view first = text.substr(0, text.find('.'));
    is_any = is_any || first.find_first_of("*>#") != std::string_view::npos;
    all += (all.empty() ? "" : " ") + std::string(text);
    some +=
        (some.empty() ? "" : " ") + std::string(first) + (first.size() < text.size() ? ".>" : "");
  }
  if (all.size() < room) return all;
  return !is_any && some.size() < room ? some : std::string(">");
}

// The label comes from another process and may contain anything.
bool may_match(std::string_view label, const stream_handle& stream) {
  while (!label.empty()) {
    const std::size_t end = std::min(label.find(' '), label.size());
    const auto pattern = subject::pattern::parse(label.substr(0, end));
    if (pattern && (stream.is_default() || stream.may_match(*pattern))) return true;
    label.remove_prefix(std::min(end + 1, label.size()));
  }
  return false;
}

template <std::size_t size>
std::string text_of(const char (&from)[size]) {
  char copy[size];
  std::memcpy(copy, from, size);
  return std::string(copy, ::strnlen(copy, size));
}

bool is_awaited(const layout::slot& slot, const stream_handle& stream, std::uint32_t lane,
                std::uint64_t generation) {
  // [N2] pairs with has_come
  if (static_cast<layout::slot_kind>(sync::load_acquire(slot.kind)) !=
          layout::slot_kind::interest ||
      sync::load_acquire(slot.messages) >= generation)
    return false;
  const std::uint64_t only_lane = sync::load_relaxed(slot.lane);
  if (only_lane != any_lane && only_lane != lane + 1) return false;
  const std::string only_stream = text_of(slot.stream);
  return (only_stream.empty() || only_stream == stream.name()) &&
         may_match(text_of(slot.label), stream);
}

}  // namespace

result<interest> interest::show(own_process& me, const wish& wanted) {
  auto slot = me.claim_slot(layout::slot_kind::interest, wanted.subscriber, 0,
                            wanted.lane ? *wanted.lane + 1 : any_lane, label_of(wanted.patterns),
                            wanted.stream, layout::slot_gating);
  if (!slot) return std::move(slot.error());
  interest made;
  made.slot_ = &me.slot(*slot);
  made.index_ = *slot;
  made.note_thread(static_cast<std::uint64_t>(os::thread_id()));
  // [N2] the interest is shown before the streams are listed; pairs with the fence in
  // find_newcomer.
  sync::full_fence();
  return made;
}

void interest::has_come(std::uint64_t generation) noexcept {
  if (slot_ == nullptr || generation == 0) return;
  sync::store_release(slot_->messages, generation);  // [N2] release: after the pins
}

void interest::note_thread(std::uint64_t thread) noexcept {
  if (slot_ != nullptr)
    sync::store_relaxed(reinterpret_cast<ring::pin_words*>(slot_->pin)->thread, thread);
}

void interest::withdraw(own_process& me) noexcept {
  if (std::exchange(slot_, nullptr) != nullptr) me.give_back(index_);
}

std::optional<newcomer> find_newcomer(process_table& peers, const stream_handle& stream,
                                      std::uint32_t lane, std::uint64_t generation,
                                      const newcomer& but) {
  // [N2] the lane is announced before the interests are read; pairs with the fence in
  // interest::show.
  sync::full_fence();
  const auto ids = peers.ids();
  if (ids.empty()) return newcomer{};  // they cannot be listed, but the caller is one
  for (const std::uint32_t id : ids) {
    const auto process = peers.find(id);
    if (!process) {
      // Its file cannot be read, and it may be interested: treated like an unseen reader.
      if (peers.state(id) == sync::life_state::alive) return newcomer{id, 0};
      continue;
    }
    for (std::uint32_t index = 0; index < process->identity().slot_count; ++index) {
      const layout::slot& slot = *process->slot(index);
      if (!is_awaited(slot, stream, lane, generation)) continue;
      if (sync::read_life(process->life()) != sync::life_state::alive) break;
      const newcomer found{
          id, sync::load_relaxed(reinterpret_cast<const ring::pin_words*>(slot.pin)->thread)};
      if (found != but) return found;
    }
    // It has slots that are not mapped here, and one of them may show an interest.
    if (process->slots_now() > process->identity().slot_count &&
        sync::read_life(process->life()) == sync::life_state::alive)
      return newcomer{id, 0};
  }
  return std::nullopt;
}

}  // namespace bus::registry
