#include "log/format.hpp"
#include "base/assert.hpp"

#include <charconv>

namespace bus::log {

std::optional<logged_record> parse_record(std::uint32_t seed, std::uint64_t seq,
                                          const std::byte* at, std::uint64_t available) noexcept {
  BUS_ASSERT(available >= layout::log_unit, available);
  std::uint64_t words[4];
  std::memcpy(words, at, sizeof words);
  if (static_cast<std::uint32_t>(words[0]) != static_cast<std::uint32_t>(seq)) return std::nullopt;
  const std::uint64_t total = claimed_bytes(at);
  if (total == 0 || total > available) return std::nullopt;
  if (static_cast<std::uint32_t>(words[0] >> 32) != record_crc(seed, seq, at, total))
    return std::nullopt;
  return logged_record{at, seq, layout::record_shape::unpack(words[1]), words[2], words[3], {}};
}

std::uint32_t frame_crc(std::uint32_t seed, layout::log_frame frame) noexcept {
  frame.header_crc = 0;
  return base::crc32c(seed, &frame, sizeof frame);
}

std::optional<layout::log_frame> parse_frame(std::uint32_t seed, const std::byte* at) noexcept {
  layout::log_frame frame;
  std::memcpy(&frame, at, sizeof frame);
  if (frame.magic != layout::frame_magic || frame.header_crc != frame_crc(seed, frame) ||
      frame.base_seq == 0 || frame.base_seq > layout::sequence_mask)
    return std::nullopt;
  return frame;
}

std::uint32_t segment_header_crc(layout::log_segment_header header) noexcept {
  header.header_crc = 0;
  return base::crc32c(0, &header, sizeof header);
}

std::optional<layout::log_segment_header> parse_segment_header(const std::byte* at) noexcept {
  layout::log_segment_header header;
  std::memcpy(&header, at, sizeof header);
  if (header.magic != layout::log_magic || header.header_crc != segment_header_crc(header))
    return std::nullopt;
  return header;
}

std::uint32_t block_table_crc(std::uint32_t seed, std::span<const std::byte> table) noexcept {
  constexpr std::size_t crc_at = offsetof(layout::log_block_table, crc);
  constexpr std::size_t behind = crc_at + sizeof(std::uint32_t);
  const std::uint32_t nothing = 0;
  std::uint32_t crc = base::crc32c(seed, table.data(), crc_at);
  crc = base::crc32c(crc, &nothing, sizeof nothing);
  return base::crc32c(crc, table.data() + behind, table.size() - behind);
}

std::uint32_t block_head_crc(std::uint32_t seed, layout::log_block head) noexcept {
  head.head_crc = 0;
  return base::crc32c(seed, &head, sizeof head);
}

std::optional<layout::log_block> parse_block(std::uint32_t seed, const std::byte* at) noexcept {
  layout::log_block head;
  std::memcpy(&head, at, sizeof head);
  if (head.magic != layout::log_block_magic || head.head_crc != block_head_crc(seed, head) ||
      head.offset < layout::log_header_bytes ||
      (head.offset - layout::log_header_bytes) % layout::log_block_bytes != 0 ||
      head.raw_bytes > layout::log_block_bytes || head.stored_bytes > head.raw_bytes ||
      head.method > static_cast<std::uint32_t>(layout::log_block_method::zstd))
    return std::nullopt;
  return head;
}

std::uint32_t index_crc(std::uint32_t seed, const layout::log_index_entry& entry) noexcept {
  return base::crc32c(seed, &entry, offsetof(layout::log_index_entry, crc));
}

std::uint32_t state_crc(const layout::log_state& state) noexcept {
  return base::crc32c(0, &state, offsetof(layout::log_state, crc));
}

std::uint32_t subjects_header_crc(const layout::log_subjects_header& header) noexcept {
  return base::crc32c(0, &header, offsetof(layout::log_subjects_header, crc));
}

std::uint32_t subject_crc(std::uint64_t stream_id, const layout::log_subject& head,
                          const char* text) noexcept {
  std::uint32_t crc = base::crc32c(0, &stream_id, sizeof stream_id);
  crc = base::crc32c(crc, reinterpret_cast<const std::byte*>(&head) + sizeof head.crc,
                     sizeof head - sizeof head.crc);
  return base::crc32c(crc, text, head.length);
}

namespace {

std::string numbered(std::uint64_t base_seq, const char* suffix) {
  std::string digits = std::to_string(base_seq);
  return std::string(20 - digits.size(), '0') + digits + suffix;
}

}  // namespace

std::string segment_name(std::uint64_t base_seq) { return numbered(base_seq, ".log"); }
std::string index_name(std::uint64_t base_seq) { return numbered(base_seq, ".idx"); }

std::optional<std::uint64_t> base_of_name(const std::string& name) noexcept {
  if (name.size() != 24 || !name.ends_with(".log")) return std::nullopt;
  std::uint64_t base_seq = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + 20, base_seq);
  if (parsed.ec != std::errc() || parsed.ptr != name.data() + 20 || base_seq == 0 ||
      base_seq > layout::sequence_mask)
    return std::nullopt;
  return base_seq;
}

std::span<const std::byte> frame_builder::finish(std::uint64_t durable_upto,
                                                 std::uint32_t previous_crc, std::uint32_t& crc,
                                                 layout::frame_kind kind,
                                                 std::uint64_t messages) noexcept {
  layout::log_frame frame{};
  frame.magic = layout::frame_magic;
  frame.base_seq = base_seq_;
  frame.durable_upto = durable_upto;
  frame.time_max_ns = time_max_ns_;
  frame.count = count_;
  frame.bytes = static_cast<std::uint32_t>(used_ - sizeof frame);
  frame.previous_crc = previous_crc;
  frame.kind = kind;
  frame.messages = messages;
  frame.up_s = time_.up_s;
  frame.off_s = time_.off_s;
  crc = frame.header_crc = frame_crc(seed_, frame);
  std::memcpy(buffer_.data(), &frame, sizeof frame);
  const std::uint64_t end = base::round_up(used_, align_);
  std::memset(buffer_.data() + used_, 0, end - used_);
  return {buffer_.data(), static_cast<std::size_t>(end)};
}

}  // namespace bus::log
