#pragma once
/// golden: the contents of the files in tests/format/golden, field by field, and the same bytes
/// rebuilt.
///
/// The files were written once. Code that writes other bytes or reads other fields breaks files
/// that exist on disks already. `format_log --write` rewrites them: only together with a new
/// version of the format.
/// new version of the format.

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "layout/header_area.hpp"
#include "log/format.hpp"
#include "log/subjects.hpp"

namespace bus::test::golden {

inline constexpr std::uint64_t log_id = 0x0123456789abcdefu;
inline constexpr std::uint64_t stream_id = 0x1122334455667788u;
inline constexpr std::uint64_t epoch = 3;
inline constexpr std::uint32_t lane = 2;
inline constexpr std::uint64_t base_seq = 42;
inline constexpr std::uint32_t align = 512;
inline constexpr std::uint64_t file_bytes = 8192;
inline constexpr std::uint64_t second = 1'700'000'000'000'000'000u;  // 2023-11-14 22:13:20 UTC
inline constexpr std::uint64_t last_seq = 47;
inline constexpr std::uint64_t last_durable = 46;
/// Offsets of the frames: 42-44, 45-46, the mark, 47, the end.
inline constexpr std::array<std::uint64_t, 5> frame_offsets{4096, 4608, 5632, 6144, 6656};

struct message {
  std::uint64_t seq;
  std::string_view subject;  // inline; if empty, subject_id counts
  std::uint32_t subject_id;
  std::uint32_t publisher_id;
  std::uint64_t type;
  std::uint64_t time_ns;
  std::uint16_t more_flags;
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  std::string payload;
};

inline std::vector<message> messages() {
  std::string large(500, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 7);
  return {
      {42, "", 0, 5, 0, second + 1, 0, {}, "hello"},
      {43,
       "",
       1,
       5,
       0,
       second + 2,
       7 << layout::flags_priority_shift,
       {{"key", "AAPL"}, {"empty", ""}},
       "101.25"},
      {44, "", 1, 6, 0, second + 3, layout::flag_batch, {}, ""},
      {45, "orders.new.eu", 0, 6, 0xfeedfacecafebeefu, second + 9, 0, {{"k", "v"}}, "inline"},
      {46, "", 2, 0xffffffff, 0, second + 8, 0, {}, large},  // its clock lagged
      {47, "", 0xfffffffe, 7, 0, second + 10, 0, {}, std::string(32, 'x')},
  };
}

inline void add(log::frame_builder& frame, const message& m) {
  std::vector<std::byte> area(layout::header_area_max_bytes);
  layout::header_area_builder header(area.data());
  if (!m.subject.empty()) {
    header.inline_subject(m.subject);
    header.extension(layout::ext_type, m.type);
  }
  header.begin_user_headers();
  for (const auto& [key, value] : m.headers) header.user_header(key, value);
  const std::uint16_t bytes = header.finish();
  const std::uint32_t id = m.subject.empty() ? m.subject_id : layout::inline_subject_id;
  frame.add({static_cast<std::uint32_t>(m.payload.size()), bytes,
             static_cast<std::uint16_t>(header.flags() | m.more_flags)},
            layout::pack_origin(id, m.publisher_id), m.time_ns, [&](std::byte* to) {
              std::memcpy(to, area.data(), bytes);
              std::memcpy(to + bytes, m.payload.data(), m.payload.size());
            });
}

inline layout::log_segment_header segment_header() {
  layout::log_segment_header header{};
  header.magic = layout::log_magic;
  header.major = layout::log_major;
  header.minor = layout::log_minor;
  header.log_id = log_id;
  header.stream_id = stream_id;
  header.epoch = epoch;
  header.base_seq = base_seq;
  header.segment_bytes = file_bytes;
  header.created_ns = second;
  header.gap_first = 40;
  header.gap_reason = static_cast<std::uint32_t>(layout::log_gap::unsynced);
  header.lane_index = lane;
  header.align_bytes = align;
  header.durable_upto = 41;
  header.subjects = 4;
  header.header_crc = log::segment_header_crc(header);
  return header;
}

inline std::vector<std::byte> segment() {
  std::vector<std::byte> file(file_bytes);
  const layout::log_segment_header header = segment_header();
  std::memcpy(file.data(), &header, sizeof header);
  const auto all = messages();
  std::uint32_t crc = 0;
  std::uint64_t at = frame_offsets[0];
  const auto put = [&](std::uint64_t first, std::uint64_t last, std::uint64_t durable,
                       layout::frame_kind kind) {
    log::frame_builder frame({file.data() + at, file_bytes - at}, log_id, align);
    frame.begin(first);
    for (const message& m : all)
      if (m.seq >= first && m.seq <= last) add(frame, m);
    at += frame.finish(durable, crc, crc, kind).size();
  };
  put(42, 44, 41, layout::frame_kind::records);
  put(45, 46, 44, layout::frame_kind::records);
  put(47, 46, 46, layout::frame_kind::mark);
  put(47, 47, 46, layout::frame_kind::records);
  return file;
}

inline std::vector<layout::log_index_entry> index_entries() {
  std::vector<layout::log_index_entry> entries{{45, second + 3, frame_offsets[1], 0, 0},
                                               {47, second + 9, frame_offsets[3], 0, 0}};
  for (auto& entry : entries) entry.crc = log::index_crc(log::seed_of(log_id), entry);
  return entries;
}

/// The fields that all copies share. state() is the newest copy, older_state() the other one.
inline layout::log_state state_of(std::uint64_t generation) {
  layout::log_state made{};
  made.magic = layout::log_state_magic;
  made.generation = generation;
  made.log_id = log_id;
  made.stream_id = stream_id;
  made.lane_index = lane;
  return made;
}
inline layout::log_state state() {
  layout::log_state made = state_of(5);
  made.epoch = epoch;
  made.high_water = 262'186;
  made.first_seq = 7;
  made.last_base = 1;
  made.durable_upto = 41;
  made.skipped = 2;
  made.subjects = 3;
  made.crc = log::state_crc(made);
  return made;
}
inline layout::log_state older_state() {
  layout::log_state made = state_of(4);
  made.epoch = epoch - 1;
  made.high_water = 131'114;
  made.first_seq = 1;
  made.last_base = 1;
  made.durable_upto = 39;
  made.subjects = 2;
  made.crc = log::state_crc(made);
  return made;
}
/// The bound: what became durable after the newest copy was written.
inline layout::log_state bound() {
  layout::log_state made = state();
  made.last_base = base_seq;
  made.durable_upto = last_durable;
  made.subjects = 4;
  made.crc = log::state_crc(made);
  return made;
}

inline std::vector<log::known_subject> subjects() {
  return {{"orders.new", 0},
          {"orders.cancelled", 0xfeedfacecafebeefu},
          {std::string(255, 's'), 0},
          {"a", 1}};
}

inline std::vector<std::byte> subjects_file() {
  layout::log_subjects_header header{};
  header.magic = layout::log_subjects_magic;
  header.stream_id = stream_id;
  header.crc = log::subjects_header_crc(header);
  std::vector<std::byte> file(sizeof header);
  std::memcpy(file.data(), &header, sizeof header);
  std::uint32_t id = 0;
  for (const auto& subject : subjects()) {
    layout::log_subject head{};
    head.id = id++;
    head.length = static_cast<std::uint32_t>(subject.text.size());
    head.type = subject.type;
    head.crc = log::subject_crc(stream_id, head, subject.text.data());
    const std::size_t at = file.size();
    file.resize(at + sizeof head + base::round_up(subject.text.size(), 8));
    std::memcpy(file.data() + at, &head, sizeof head);
    std::memcpy(file.data() + at + sizeof head, subject.text.data(), subject.text.size());
  }
  return file;
}

template <class T>
std::vector<std::byte> bytes_of(const T* from, std::size_t count) {
  const auto* bytes = reinterpret_cast<const std::byte*>(from);
  return {bytes, bytes + count * sizeof(T)};
}

inline std::vector<std::byte> state_file() {
  std::vector<std::byte> file(layout::log_state_file_bytes);
  const layout::log_state older = older_state(), newer = state(), later = bound();
  std::memcpy(file.data(), &older, sizeof older);
  std::memcpy(file.data() + layout::log_state_stride, &newer, sizeof newer);
  std::memcpy(file.data() + 2 * layout::log_state_stride, &later, sizeof later);
  return file;
}

inline std::vector<std::byte> index_file() {
  const auto entries = index_entries();
  return bytes_of(entries.data(), entries.size());
}

}  // namespace bus::test::golden
