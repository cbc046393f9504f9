#pragma once
/// claim_feed: puts the messages that the core hands out under the group's lock into entries of the
/// consumer, and decides which messages are for the group.

#include <algorithm>

#include "base/hash.hpp"
#include "consume/consumer_core.hpp"
#include "layout/header_area.hpp"

namespace bus::detail {

struct claim_feed {
  enum class matched : std::uint8_t { no, yes, unknown };
  /// Larger messages are copied outside the lock.
  static constexpr std::size_t copied_at_once_bytes = 1024;

  claim_feed(consumer_core& of, std::uint64_t most_bytes, bool start) noexcept
      : core(of),
        max_bytes(most_bytes),
        start_first(start),
        everything(of.group_->everything_matches()) {}

  consumer_core& core;
  const std::uint64_t max_bytes;
  const bool start_first;
  const bool everything;  // every message matches
  std::size_t max = 0;
  std::size_t count = 0;
  std::uint64_t bytes = 0;
  bool is_simple = true;  // all were copied, and their subjects are known
  std::uint32_t lane = 0;
  source* from = nullptr;
  ring::record_view unresolved{};            // its subject must be learned
  std::vector<std::byte> unresolved_record;  // a blank record header and its headers

  void enter(std::uint32_t index) noexcept {
    lane = index;
    from = core.group_->lanes()[index].get();
  }
  bool starts() const noexcept { return start_first && count == 0; }
  bool full(const ring::record_view& view) const noexcept {
    return count >= max || (count != 0 && bytes + view.shape.payload_bytes > max_bytes);
  }

  matched match(const ring::record_view& view) noexcept {
    if (everything) return matched::yes;
    return look_at(view);
  }
  matched look_at(const ring::record_view& view) noexcept {
    const std::uint32_t id = view.subject_id();
    if (id != layout::inline_subject_id && from->subject_of(id).empty()) {
      unresolved = view;
      unresolved_record.assign(layout::record_header_bytes, std::byte{0});
      unresolved_record.insert(unresolved_record.end(), view.header(),
                               view.header() + view.shape.header_bytes);
      return matched::unknown;
    }
    if (from->match_of(view) != source::match::yes) return matched::no;
    return headers_match(view) ? matched::yes : matched::no;
  }
  std::uint64_t key(const ring::record_view& view) const noexcept {
    if ((view.shape.flags & layout::flag_headers) == 0) return 0;
    std::uint64_t hash = 0;
    area_of(view).each_user_header([&](std::string_view name, std::string_view value) {
      if (name != "key") return true;
      hash = std::max<std::uint64_t>(base::hash_bytes(value), 1);
      return false;
    });
    return hash;
  }

  void take(const ring::record_view& view, const group::claimed& one) noexcept {
    const std::size_t size = view.shape.header_bytes + std::size_t{view.shape.payload_bytes};
    lease_entry& entry = add(view.shape, view.origin, view.ticks, one);
    // A message that is settled on claiming is not held by anything afterwards.
    if (size <= copied_at_once_bytes || one.token.slot == group::no_index) {
      sync::hardware::copy_out(entry.memory.get(), view.header(), size);
      entry.copied = true;
    }
    is_simple = is_simple && entry.copied;
  }
  void undo() noexcept {
    core.free_entry(core.claimed_.back());
    core.claimed_.pop_back();
    --count;
  }
  bool again(const group::claimed& one) noexcept {
    const auto& slot = core.group_->memory().slots[one.token.slot];
    lane = layout::lane_of_origin(one.token.origin);
    if (lane >= core.group_->lanes().size()) return false;
    enter(lane);
    std::uint64_t words[4];
    core.group_->core().read_record(slot, 0, reinterpret_cast<std::byte*>(words), sizeof words);
    const auto shape = layout::record_shape::unpack(words[1]);
    if (shape.payload_bytes > from->lane->memory().max_message_bytes) {
      core.group_->memory().broken = true;
      return false;
    }
    if (count != 0 && bytes + shape.payload_bytes > max_bytes) return false;
    lease_entry& entry = add(shape, words[2], words[3], one);
    const std::size_t size = shape.header_bytes + std::size_t{shape.payload_bytes};
    if (size <= copied_at_once_bytes) {
      core.group_->core().read_record(slot, layout::record_header_bytes, entry.memory.get(), size);
      entry.copied = true;
    }
    is_simple = is_simple && entry.copied;
    return true;
  }

  /// Outside the lock: deals with the record that could not be judged under it.
  void resolve() noexcept {
    if (from == nullptr) return;
    if (core.why_ == group::nothing_because::unknown && unresolved.data != nullptr) {
      // Its bytes may be overwritten by now; only its subject id and headers matter.
      const ring::record_view view{
          unresolved_record.data(), 0,    unresolved.seq, unresolved.shape, unresolved.origin,
          unresolved.ticks,         false};
      (void)from->match_of(view);
      if (from->failed) core.failure = std::move(from->failed);
      return;
    }
    core.failure = error{errc::corrupt, 0,
                         "cannot read stream '" + from->stream->name() + "' for the group '" +
                             core.config().name + "'",
                         "at sequence " + std::to_string(from->reader.next_seq()) +
                             " there is no record, or one written by a newer library",
                         "bus stream info " + from->stream->name()};
  }

 private:
  layout::header_area area_of(const ring::record_view& view) const noexcept {
    return {view.header(), view.shape.header_bytes, view.shape.flags};
  }
  bool headers_match(const ring::record_view& view) const noexcept {
    const auto& config = core.config();
    if (config.headers.empty()) return true;
    std::size_t found = 0;
    const auto area = area_of(view);
    for (const auto& wanted : config.headers) {
      bool holds = false;
      area.each_user_header([&](std::string_view key, std::string_view value) {
        holds = key == wanted.first && value == wanted.second;
        return !holds;
      });
      found += holds ? 1 : 0;
    }
    return config.headers_all ? found == config.headers.size() : found != 0;
  }
  lease_entry& add(const layout::record_shape& shape, std::uint64_t origin, std::uint64_t ticks,
                   const group::claimed& one) noexcept {
    const std::size_t size = shape.header_bytes + std::size_t{shape.payload_bytes};
    lease_entry& entry = *core.new_entry(size);
    entry.token = one.token;
    entry.number = one.number;
    entry.acquired = one.acquired;
    entry.failed = one.failed;
    entry.lane = lane;
    entry.started = starts();
    entry.copied = false;
    auto& m = entry.message;
    m.area_ = entry.memory.get();
    m.source_ = from;
    m.sequence_ = layout::seq_of_origin(one.token.origin);
    m.shape_ = shape.pack();
    m.origin_ = origin;
    m.ticks_ = ticks;
    m.position_ = 0;
    const auto id = static_cast<std::uint32_t>(origin);
    is_simple = is_simple && core.keeper_ == nullptr &&
                (id == layout::inline_subject_id || !from->subject_of(id).empty());
    core.claimed_.push_back(&entry);
    ++count;
    bytes += shape.payload_bytes;
    return entry;
  }
};

}  // namespace bus::detail
