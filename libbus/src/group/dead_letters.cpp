#include "group/dead_letters.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace bus::group {

namespace {

// What the record of death adds to a message, at most.
constexpr std::uint64_t death_record_bytes = 2048;

}  // namespace

const char* death_name(death why) noexcept {
  switch (why) {
    case death::rejected: return "rejected";
    case death::expired: return "expired";
    case death::max_deliver: return "max_deliver";
    case death::none: break;
  }
  return "unknown";
}

dead_letters::dead_letters(const group_memory& memory, const ring::lane_memory& lane,
                           const os::tick_clock& clock, subject_text text)
    : memory_(memory),
      clock_(clock),
      text_(std::move(text)),
      writer_(lane),
      area_(layout::header_area_max_bytes) {}

std::uint64_t dead_letters::next_seq() noexcept {
  writer_.load_turn();  // another process may have written in the meantime
  return writer_.next_seq();
}

std::uint64_t dead_letters::tail() noexcept {
  writer_.load_turn();
  return writer_.tail();
}

// The writer rounds its reservation up to a stride of the ring.
bool dead_letters::has_room(std::uint64_t record_bytes) noexcept {
  writer_.load_turn();
  const auto& lane = writer_.lane();
  const std::uint64_t total =
      base::round_up(record_bytes + death_record_bytes, layout::record_align);
  if (total > lane.largest_bytes()) return false;
  const std::uint64_t end = base::round_up(writer_.tail() + total + layout::record_align +
                                               ring::lane_writer<sync::hardware>::zero_window_bytes,
                                           lane.block_bytes());
  const std::uint64_t floor =
      std::min(sync::load_relaxed(memory_.header->dead_letters_floor), writer_.tail());
  return end <= floor + lane.capacity_bytes;
}

std::byte* dead_letters::scratch(std::uint64_t bytes) noexcept {
  if (bytes > writer_.lane().largest_bytes()) return nullptr;
  if (scratch_.size() < bytes) scratch_.resize(bytes);
  return scratch_.data();
}

void dead_letters::append(const dead_letter& l) noexcept {
  std::uint64_t words[4];
  std::memcpy(words, l.record, sizeof words);
  const layout::record_shape& shape = l.shape;  // not what the record says by now
  const std::byte* header = l.record + layout::record_header_bytes;
  const layout::header_area original(header, shape.header_bytes, shape.flags);
  const auto subject_id = static_cast<std::uint32_t>(words[2]);
  const std::string_view subject =
      subject_id == layout::inline_subject_id ? original.subject() : text_(subject_id);

  layout::header_area_builder builder(area_.data());
  builder.begin_user_headers();
  std::array<char, 24> digits;
  const auto number = [&](std::uint64_t value) {
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    return std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data()));
  };
  const auto& info = memory_.header->info;
  const auto text = [](const char* from, std::size_t most) {
    return std::string_view(from, ::strnlen(from, most));
  };
  builder.user_header("death-reason", death_name(l.why));
  builder.user_header("death-stream", text(info.stream, sizeof info.stream));
  builder.user_header("death-group", text(info.name, sizeof info.name));
  builder.user_header("death-subject", subject);
  builder.user_header("death-lane", number(l.lane));
  builder.user_header("death-sequence", number(l.seq));
  builder.user_header("death-attempts", number(l.attempts));
  builder.user_header("death-first-time", number(clock_.to_wall_ns(l.first_ticks)));
  builder.user_header("death-last-time", number(os::wall_ns()));
  builder.user_header("death-process", l.member);
  if (!l.reason.empty()) builder.user_header("death-error", l.reason);
  // Headers that do not fit are left out: the payload is what counts.
  original.each_user_header([&](std::string_view key, std::string_view value) {
    return key.starts_with("death-") || builder.user_header(key, value);
  });

  ring::record_head head;
  head.shape.payload_bytes = shape.payload_bytes;
  head.shape.header_bytes = builder.finish();
  head.shape.flags = builder.flags();
  head.subject_id = 0;
  head.publisher_id = static_cast<std::uint32_t>(words[2] >> 32) & layout::publisher_id_mask;
  head.header = area_.data();
  const std::uint64_t total = head.shape.total_bytes();
  if (!writer_.has_room(total)) writer_.reserve(total, [](std::uint64_t tail) { return tail; });
  writer_.write(0, head, words[3], header + shape.header_bytes);
  writer_.commit(total, 1, words[3]);
  writer_.store_turn();
}

}  // namespace bus::group
