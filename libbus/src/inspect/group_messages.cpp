#include <algorithm>
#include <cstdlib>

#include "inspect/group_view.hpp"
#include "inspect/texts.hpp"
#include "layout/header_area.hpp"
#include "ring/lane_reader.hpp"

namespace bus::inspect {

namespace {

// One record copied out of a ring: its headers and its payload.
class copied_record {
 public:
  explicit copied_record(const ring::record_view& view)
      : bytes_(view.shape.header_bytes + std::size_t{view.shape.payload_bytes}),
        header_bytes_(view.shape.header_bytes),
        flags_(view.shape.flags) {
    sync::hardware::copy_out(bytes_.data(), view.header(), bytes_.size());
  }

  layout::header_area area() const noexcept { return {bytes_.data(), header_bytes_, flags_}; }
  std::vector<std::byte> payload() const {
    return {bytes_.begin() + static_cast<std::ptrdiff_t>(header_bytes_), bytes_.end()};
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t header_bytes_;
  std::uint16_t flags_;
};

}  // namespace

bool group_view::headers_match(
    const std::vector<std::pair<std::string, std::string>>& headers) const noexcept {
  const auto& wanted = config().headers;
  const auto has = [&](const auto& header) {
    return std::find(headers.begin(), headers.end(), header) != headers.end();
  };
  if (wanted.empty()) return true;
  return config().headers_all ? std::all_of(wanted.begin(), wanted.end(), has)
                              : std::any_of(wanted.begin(), wanted.end(), has);
}

bool group_view::matches(const ring::record_view& view, const layout::header_area& area,
                         std::string& subject) const {
  if (view.subject_id() == layout::inline_subject_id) {
    subject = area.subject();
  } else if (auto text = stream_->subject_text(view.subject_id())) {
    subject = *text;
  }
  return filter_.empty() || std::any_of(filter_.begin(), filter_.end(), [&](const auto& pattern) {
           return pattern.matches(subject);
         });
}

// Appends messages with their stamps, which never fall within a lane.
void group_view::peek_lane(std::uint32_t index, std::size_t max, std::uint64_t looked_at,
                           std::vector<std::pair<std::uint64_t, peeked_message>>& into) const {
  struct sink_type {
    const group_view& group;
    std::uint32_t lane;
    std::size_t left;
    std::size_t begin;
    std::uint64_t now;
    std::vector<std::pair<std::uint64_t, peeked_message>>& into;

    ring::verdict take(const ring::record_view& view) {
      if (left == 0) return ring::verdict::full;
      const copied_record copy(view);
      peeked_message one;
      if (!group.matches(view, copy.area(), one.subject)) return ring::verdict::skipped;
      copy.area().each_user_header([&](std::string_view key, std::string_view value) {
        one.headers.emplace_back(key, value);
        return true;
      });
      if (!group.headers_match(one.headers)) return ring::verdict::skipped;
      one.lane = lane;
      one.sequence = view.seq;
      one.age = group.time(now > view.ticks ? now - view.ticks : 0);
      one.payload = copy.payload();
      const std::uint64_t before = into.size() > begin ? into.back().first : 0;
      into.emplace_back(std::max(before, view.ticks), std::move(one));
      --left;
      return ring::verdict::taken;
    }
    void undo() {
      into.pop_back();
      ++left;
    }
  } sink{*this, index, max, into.size(), looked_at, into};
  const auto& at = lanes_[index].cursor;
  if (at.seq == 0) return;
  ring::lane_reader<sync::hardware> reader(lanes_[index].map->memory(), nullptr, false);
  reader.set_position(at.position, at.seq);
  while (sink.left != 0) {
    const std::uint64_t before = reader.position();
    const auto outcome = reader.poll(sink.left, sink);
    if (outcome == ring::poll_outcome::lapped) {
      std::uint64_t first = 0;
      if (!reader.resume(first)) return;
    } else if (outcome != ring::poll_outcome::more && outcome != ring::poll_outcome::aborted) {
      return;
    } else if (reader.position() == before) {
      return;
    }
  }
}

std::vector<peeked_message> group_view::peek(std::size_t max) {
  read_cursors();
  std::vector<std::pair<std::uint64_t, peeked_message>> all;
  const std::uint64_t looked_at = now();  // ages are of one moment, in all lanes
  for (std::uint32_t index = 0; index < lanes_.size(); ++index)
    peek_lane(index, max, looked_at, all);
  // A claim takes the oldest message of all lanes, and each lane in its order.
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<peeked_message> next;
  for (std::size_t i = 0; i < std::min(all.size(), max); ++i)
    next.push_back(std::move(all[i].second));
  return next;
}

namespace {

// The record of a death is in headers of its own; the others are the message's.
void read_death(dead_letter& into, std::string_view key, std::string_view value) {
  const std::string text(value);
  const auto number = [&] { return std::strtoull(text.c_str(), nullptr, 10); };
  if (key == "death-reason")
    into.reason = text;
  else if (key == "death-error")
    into.error = text;
  else if (key == "death-attempts")
    into.attempts = static_cast<std::uint32_t>(number());
  else if (key == "death-first-time")
    into.first_time = wall(number());
  else if (key == "death-last-time")
    into.last_time = wall(number());
  else if (key == "death-stream")
    into.stream = text;
  else if (key == "death-group")
    into.group = text;
  else if (key == "death-subject")
    into.subject = text;
  else if (key == "death-process")
    into.process = text;
  else if (key == "death-lane")
    into.origin_lane = static_cast<std::uint32_t>(number());
  else if (key == "death-sequence")
    into.origin_sequence = number();
  else
    into.headers.emplace_back(key, value);
}

}  // namespace

result<std::vector<dead_letter>> group_view::dead_letters(std::uint64_t from, std::size_t max) {
  std::vector<dead_letter> all;
  if (!dead_letter_lane_) return all;
  struct sink_type {
    std::vector<dead_letter>& all;
    const os::tick_clock& clock;
    std::uint64_t first;
    std::size_t max;

    ring::verdict take(const ring::record_view& view) {
      if (all.size() >= max) return ring::verdict::full;
      if (view.seq < first) return ring::verdict::skipped;
      const copied_record copy(view);
      dead_letter one;
      one.sequence = view.seq;
      one.publish_time = wall(clock.to_wall_ns(view.ticks));
      copy.area().each_user_header([&](std::string_view key, std::string_view value) {
        read_death(one, key, value);
        return true;
      });
      one.payload = copy.payload();
      all.push_back(std::move(one));
      return ring::verdict::taken;
    }
    void undo() { all.pop_back(); }
  };
  const std::uint64_t floor = sync::load_acquire(header().dead_letters_floor);
  const std::uint64_t floor_seq =
      std::max<std::uint64_t>(sync::load_relaxed(header().dead_letters_floor_seq), 1);
  sink_type sink{all, clock_, std::max(from, floor_seq), max};
  ring::lane_reader<sync::hardware> reader(dead_letter_lane_->memory(), nullptr, false);
  reader.set_position(floor, floor_seq);
  for (;;) {
    const std::uint64_t before = reader.position();
    const auto outcome = reader.poll(max, sink);
    if (outcome == ring::poll_outcome::corrupt)
      return error{errc::corrupt, 0, "cannot read the dead letters of '" + config().name + "'",
                   "at sequence " + std::to_string(reader.next_seq()) + " there is no record", ""};
    if (all.size() >= max || reader.position() == before) return all;
  }
}

}  // namespace bus::inspect
