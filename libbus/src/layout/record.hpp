#pragma once
/// record: one message in a ring. A record in a log file has other words 0 and 3 (log.md).
///
///   word 0  commit         sequence, stored last; 0: no record yet. Bit 63 OPEN, bit 62 ABORTED
///   word 1  shape          payload_bytes:32 | header_bytes:16 | flags:16
///   word 2  origin         subject_id:32 | publisher_id:31 | typed:1
///   word 3  publish_ticks
///   then    header area    header_bytes, a multiple of 32: extension words, subject, user headers
///   then    payload        payload_bytes
///
/// Format     docs/format/ring.md

#include <cstdint>

#include "base/bits.hpp"

namespace bus::layout {

inline constexpr std::uint64_t record_header_bytes = 32;
inline constexpr std::uint64_t record_align = 64;  // compared with 32 in docs/performance.md
// Every payload starts at a multiple of it.
inline constexpr std::uint64_t header_align = 32;

/// Bits of the commit word besides the sequence.
inline constexpr std::uint64_t commit_open = 1ull << 63;  // being written; progress word is valid
// Its writer died: readers skip the bytes, and the next record gets the sequence.
inline constexpr std::uint64_t commit_aborted = 1ull << 62;
inline constexpr std::uint64_t sequence_mask = commit_aborted - 1;

/// Flags of word 1. A reader that finds a bit outside `flags_known` stops with `unsupported`.
enum record_flag : std::uint16_t {
  flag_control = 1u << 0,      // reserved
  flag_batch = 1u << 1,        // member of an atomic batch
  flag_transaction = 1u << 2,  // reserved
  flag_extension = 1u << 3,    // the header area starts with an extension map
  flag_blob = 1u << 4,         // reserved: the payload is a handle
  flag_progress = 1u << 5,     // extension word `progress` follows: may be read while it is written
  flag_headers = 1u << 6,      // user headers are present
};
inline constexpr std::uint16_t flags_priority_shift = 8;  // bits 8-11: priority 0-9, may be ignored
/// Bit 12, on a stream with a durable log: the next record belongs to the same batch. Either all of
/// a batch is in the log or nothing. A reader may ignore it.
inline constexpr std::uint16_t flag_continues = 1u << 12;
inline constexpr std::uint16_t flags_may_ignore = 0x1f00u;
inline constexpr std::uint16_t flags_known =
    flag_batch | flag_extension | flag_progress | flag_headers | flags_may_ignore;

/// The extension map is the first word of the header area when `flag_extension` is set. Each bit
/// adds its words, in the order of the bits. A reader must understand the bits of the low half and
/// may ignore those of the high half, whose words come after those of the low half.
enum extension_bit : std::uint64_t {
  // 1 word: length of the subject, which follows all extension words, padded to 8
  ext_inline_subject = 1ull << 0,
  ext_type = 1ull << 1,      // 1 word: type hash of a typed payload
  ext_progress = 1ull << 2,  // 1 word: payload bytes written so far
  ext_batch = 1ull << 3,     // 1 word: id:32 | index:16 | count:16
  // 1 word; this and all further ones are reserved
  ext_publisher_sequence = 1ull << 4,
  ext_key_hash = 1ull << 5,     // 1 word
  ext_message_id = 1ull << 6,   // 2 words
  ext_expires = 1ull << 7,      // 1 word
  ext_deliver_at = 1ull << 8,   // 1 word
  ext_transaction = 1ull << 9,  // 1 word
  ext_origin = 1ull << 10,      // 5 words: stream, epoch, lane, sequence, delivery
};
inline constexpr std::uint64_t ext_known = ext_inline_subject | ext_type | ext_progress | ext_batch;
inline constexpr std::uint64_t ext_must_understand = 0xffffffffull;

/// subject_id of a record that carries its subject inline.
inline constexpr std::uint32_t inline_subject_id = 0xffffffffu;

struct record_shape {
  std::uint32_t payload_bytes;
  std::uint16_t header_bytes;
  std::uint16_t flags;

  constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{payload_bytes} | std::uint64_t{header_bytes} << 32 |
           std::uint64_t{flags} << 48;
  }
  static constexpr record_shape unpack(std::uint64_t word) noexcept {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint16_t>(word >> 32),
            static_cast<std::uint16_t>(word >> 48)};
  }
  /// Bytes of the ring that the record occupies.
  constexpr std::uint64_t total_bytes() const noexcept {
    return base::round_up(record_header_bytes + header_bytes + payload_bytes, record_align);
  }
};

/// The same for a record without headers, in 64 bits, for a caller that checks the size itself.
constexpr std::uint64_t plain_record_bytes(std::uint64_t payload_bytes) noexcept {
  return base::round_up(record_header_bytes + payload_bytes, record_align);
}

/// The publisher id has 31 bits of word 2. The highest bit says that the payload has the type that
/// the subject table has for its subject: a typed publisher of that subject sent it.
inline constexpr std::uint32_t publisher_id_mask = 0x7fffffffu;
inline constexpr std::uint32_t publisher_is_typed = 1u << 31;
constexpr bool is_typed_origin(std::uint64_t origin) noexcept { return origin >> 63 != 0; }
constexpr std::uint64_t pack_origin(std::uint32_t subject_id, std::uint32_t publisher_id) noexcept {
  return std::uint64_t{subject_id} | std::uint64_t{publisher_id} << 32;
}

}  // namespace bus::layout
