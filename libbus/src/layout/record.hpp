#pragma once
/// record: one message as it lies in a ring, and, with words 0 and 3 changed, in a log file.
///
///   word 0  commit   sequence number, stored last; 0: nothing here yet; bit 63 OPEN, bit 62
///   ABORTED word 1  shape    payload_bytes:32 | header_bytes:16 | flags:16
///   word 2  origin   subject_id:32 | publisher_id:32
///   word 3  publish_ticks
///   header_bytes bytes: extension words, inline subject, user headers; a multiple of 32
///   payload_bytes bytes
///
/// Format     docs/format/ring.md

#include <cstdint>

#include "base/bits.hpp"

namespace bus::layout {

inline constexpr std::uint64_t record_header_bytes = 32;
inline constexpr std::uint64_t record_align = 64;  // measured against 32: docs/performance.md
// so that every payload starts on a multiple of 32
inline constexpr std::uint64_t header_align = 32;

/// Bits of the commit word beside the sequence.
inline constexpr std::uint64_t commit_open = 1ull << 63;  // being written; progress word is valid
// its writer died; bytes to skip, no sequence
inline constexpr std::uint64_t commit_aborted = 1ull << 62;
inline constexpr std::uint64_t sequence_mask = commit_aborted - 1;

/// Flags of word 1. A reader that does not know a bit of `must_understand` stops with
/// `unsupported`.
enum record_flag : std::uint16_t {
  flag_control = 1u << 0,      // not for users: skipped
  flag_batch = 1u << 1,        // member of an atomic batch
  flag_transaction = 1u << 2,  // reserved
  flag_extension = 1u << 3,    // the header area starts with an extension map
  flag_blob = 1u << 4,         // reserved: the payload is a handle
  flag_progress = 1u << 5,     // extension word `progress` follows: may be read while it is written
  flag_headers = 1u << 6,      // user headers are present
};
inline constexpr std::uint16_t flags_priority_shift = 8;  // bits 8-11: priority 0-9, may be ignored
/// Of a batch on a stream with a durable log: the next record belongs to it, too. All of a batch is
/// in the log, or nothing of it. Bit 12: a reader may ignore it.
inline constexpr std::uint16_t flag_continues = 1u << 12;
inline constexpr std::uint16_t flags_may_ignore = 0x1f00u;
inline constexpr std::uint16_t flags_known =
    flag_batch | flag_extension | flag_progress | flag_headers | flags_may_ignore;

/// The extension map is the first word of the header area when `flag_extension` is set. Each bit
/// adds its words, in the order of the bits. The low half must be understood, the high half may be
/// ignored (its words follow those of the low half).
enum extension_bit : std::uint64_t {
  // 1 word: bytes of the subject; the subject follows all extension words, padded to 8
  ext_inline_subject = 1ull << 0,
  ext_type = 1ull << 1,      // 1 word: type hash of a typed payload
  ext_progress = 1ull << 2,  // 1 word: payload bytes written so far
  ext_batch = 1ull << 3,     // 1 word: id:32 | index:16 | count:16
  // 1 word   (this one and the next are reserved, not written yet)
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
  /// Bytes of ring that the record takes.
  constexpr std::uint64_t total_bytes() const noexcept {
    return base::round_up(record_header_bytes + header_bytes + payload_bytes, record_align);
  }
};

/// The same of a record without headers; 64 bits, for a caller that has checked the size.
constexpr std::uint64_t plain_record_bytes(std::uint64_t payload_bytes) noexcept {
  return base::round_up(record_header_bytes + payload_bytes, record_align);
}

/// Of word 2: 31 bits of it. The highest bit says that the payload has the type that its subject
/// has in the table of subjects: a typed publisher of that subject sent it.
inline constexpr std::uint32_t publisher_id_mask = 0x7fffffffu;
inline constexpr std::uint32_t publisher_is_typed = 1u << 31;
constexpr bool is_typed_origin(std::uint64_t origin) noexcept { return origin >> 63 != 0; }
constexpr std::uint64_t pack_origin(std::uint32_t subject_id, std::uint32_t publisher_id) noexcept {
  return std::uint64_t{subject_id} | std::uint64_t{publisher_id} << 32;
}

}  // namespace bus::layout
