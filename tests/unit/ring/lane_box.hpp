#pragma once
/// lane_box: one lane on a private mapping, as create_lane_files makes it, with readers' pins
/// beside it.

#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "os/fd.hpp"
#include "os/mapping.hpp"
#include "ring/gate.hpp"
#include "ring/lane_reader.hpp"
#include "ring/lane_writer.hpp"
#include "ring/new_lane.hpp"
#include "sync/words.hpp"

namespace test {

using hardware = bus::sync::hardware;
using writer = bus::ring::lane_writer<hardware>;
using reader = bus::ring::lane_reader<hardware>;

class lane_box {
 public:
  static constexpr std::uint64_t key = 42;
  static constexpr std::size_t pin_count = 8;

  explicit lane_box(bool overwriting, std::uint64_t capacity_bytes = 64 * 1024)
      : header_(std::make_unique<bus::layout::lane_header>()) {
    const bus::os::fd file(::memfd_create("lane", MFD_CLOEXEC));
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(capacity_bytes)) != 0) std::abort();
    auto map = bus::os::mapping::map_twice(file.get(), 0, capacity_bytes, true, true);
    if (!map) std::abort();
    data_ = std::move(*map);
    memory.header = header_.get();
    memory.data = data_.data();
    memory.capacity_bytes = capacity_bytes;
    memory.max_message_bytes = capacity_bytes / 8;
    memory.overwriting = overwriting;
    bus::ring::describe_new_lane(
        *header_, capacity_bytes, 1,
        [](bus::base::word& to, std::uint64_t value) { bus::sync::store_relaxed(to, value); });
    for (auto& pin : pins) bus::sync::store_relaxed(pin.lane_key, key);
  }

  bus::layout::lane_header& header() const { return *header_; }

  std::uint64_t lowest_pin(std::uint64_t tail) const {
    std::uint64_t lowest = tail;
    for (const auto& pin : pins)
      lowest = std::min(lowest,
                        bus::ring::held_position<hardware>(pin, key, tail, memory.capacity_bytes));
    return lowest;
  }
  bool reserve(writer& w, std::uint64_t total) const {
    return w.has_room(total) ||
           w.reserve(total, [this](std::uint64_t tail) { return lowest_pin(tail); });
  }

  writer new_writer() const {
    writer made(memory);
    made.load_turn();
    return made;
  }
  reader new_reader(std::size_t pin, bool gating = true) { return {memory, &pins[pin], gating}; }

  bus::ring::lane_memory memory;
  std::array<bus::ring::pin_words, pin_count> pins{};

 private:
  std::unique_ptr<bus::layout::lane_header> header_;
  bus::os::mapping data_;
};

inline bus::ring::record_head head_of(std::size_t payload_bytes, std::uint32_t subject = 0,
                                      std::uint32_t publisher = 0) {
  bus::ring::record_head head;
  head.shape = {static_cast<std::uint32_t>(payload_bytes), 0, 0};
  head.subject_id = subject;
  head.publisher_id = publisher;
  return head;
}

/// False: the ring is full.
inline bool put(const lane_box& box, writer& to, std::string_view text, std::uint64_t ticks = 1) {
  const auto head = head_of(text.size());
  if (!box.reserve(to, head.shape.total_bytes())) return false;
  to.write(0, head, ticks, text.data());
  to.commit(head.shape.total_bytes(), 1, ticks);
  return true;
}

inline bool put_batch(const lane_box& box, writer& to, const std::vector<std::string>& all,
                      bool commit = true) {
  std::uint64_t total = 0;
  for (const auto& text : all) total += head_of(text.size()).shape.total_bytes();
  if (!box.reserve(to, total)) return false;
  std::uint64_t offset = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto head = head_of(all[i].size());
    to.write(offset, head, 1, all[i].data());
    if (i != 0) to.mark_member(offset, i);
    offset += head.shape.total_bytes();
  }
  if (commit) to.commit(total, all.size(), 1);
  return true;
}

/// Collects texts and sequences, copying as a subscriber of an overwriting lane does.
struct collector {
  std::vector<std::string> texts;
  std::vector<std::uint64_t> seqs;
  std::vector<bool> open;

  bus::ring::verdict take(const bus::ring::record_view& view) {
    std::string text(view.shape.payload_bytes, '\0');
    hardware::copy_out(text.data(), view.payload(), text.size());
    texts.push_back(std::move(text));
    seqs.push_back(view.seq);
    open.push_back(view.open);
    return bus::ring::verdict::taken;
  }
  void undo() {
    texts.pop_back();
    seqs.pop_back();
    open.pop_back();
  }
};

inline bool enter_oldest(reader& r) {
  return r.enter(
      [&](std::uint64_t lowest) { return bus::ring::oldest_waypoint<hardware>(r.lane(), lowest); });
}
inline bool enter_newest(reader& r) {
  return r.enter([&](std::uint64_t) { return bus::ring::newest_waypoint<hardware>(r.lane()); });
}
inline std::vector<std::string> read_all(reader& r) {
  collector sink;
  while (r.poll(64, sink) == bus::ring::poll_outcome::more) {
  }
  return sink.texts;
}

}  // namespace test
