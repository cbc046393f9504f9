#pragma once
/// log: the files of a durable lane: segments of frames of records, an index beside each segment,
/// the lane's state, and the stream's subjects.
///
/// Everything on disk is little-endian. Every part carries a checksum. Those of frames, records,
/// blocks and index entries are seeded with the log's id, so that the remains of another log are
/// never taken for this one's.
/// Format     docs/format/log.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace bus::layout {

inline constexpr std::uint64_t log_magic = 0x31474f4c535542ull;  // "BUSLOG1", read as little endian
inline constexpr std::uint16_t log_major = 1;
inline constexpr std::uint16_t log_minor = 0;
/// Minor of a thinned segment: an older reader takes its holes for corruption, and reads the rest.
inline constexpr std::uint16_t log_minor_thinned = 2;
/// Major of a compressed segment: a reader that does not know compression refuses it, instead of
/// taking it for damage.
inline constexpr std::uint16_t log_major_compressed = 2;
/// The first frame of a segment starts here, after the header and its padding.
inline constexpr std::uint64_t log_header_bytes = 4096;
inline constexpr std::uint64_t log_unit = 64;  // records start on multiples of it
inline constexpr std::uint64_t log_index_stride_bytes = 256 * 1024;
inline constexpr std::uint64_t log_segment_min_bytes = 64 * 1024;
inline constexpr std::uint64_t log_segment_max_bytes = 1ull << 32;

/// Why the sequences between the previous segment and this one are missing.
enum class log_gap : std::uint32_t {
  none = 0,
  unsynced = 1,    // shared memory was lost with unsynced messages, or they never existed
  corrupt = 2,     // damaged on disk
  not_logged = 3,  // the disk was full or failing, and the stream may drop what it cannot log
  consumed = 4,    // spill: every reader had them
  removed = 5,     // by retention or a purge
  // by newer messages of the same subject. Never in a header: it is what holes of a thinned segment
  // mean
  superseded = 6,
};

/// True when a reader may have missed messages that it was meant to get.
constexpr bool is_loss(log_gap reason) noexcept {
  return reason != log_gap::consumed && reason != log_gap::superseded;
}

/// The first bytes of a segment. Written before the file gets its name; never changed.
struct log_segment_header {
  /// log_magic.
  std::uint64_t magic;
  /// log_major or log_major_compressed. Another major is refused.
  std::uint16_t major;
  /// log_minor or log_minor_thinned.
  std::uint16_t minor;
  /// Checksum of these 128 bytes with this field 0, not seeded.
  std::uint32_t header_crc;
  /// Random id of the lane's log. It seeds all other checksums of the segment.
  std::uint64_t log_id;
  /// Random id of the stream.
  std::uint64_t stream_id;
  /// Epoch of the stream when the segment was begun.
  std::uint64_t epoch;
  /// Sequence of the first record, as in the file's name.
  std::uint64_t base_seq;
  /// Length of the file; of a compressed one, of the file as it was written.
  std::uint64_t segment_bytes;
  /// Wall clock at creation, for people.
  std::uint64_t created_ns;
  /// With a gap_reason, the sequences gap_first to base_seq - 1 are missing before this segment.
  std::uint64_t gap_first;
  /// A log_gap.
  std::uint32_t gap_reason;
  /// Number of the lane in its stream.
  std::uint32_t lane_index;
  /// Frames start at multiples of it: a power of two, 64 to 4096.
  std::uint32_t align_bytes;
  /// log_flag_spill, log_flag_compressed, log_flag_thinned.
  std::uint32_t flags;
  /// Highest sequence that was known to be durable when the segment was begun.
  std::uint64_t durable_upto;
  /// Records of a thinned segment; else 0.
  std::uint64_t records;
  /// Entries of `subjects` that were durable when the segment was begun.
  std::uint32_t subjects;
  /// No record before the segment is stamped later: seconds since 1970, rounded up. 0 and ~0: not
  /// known.
  std::uint32_t before_s;
  /// A thinned segment covers the sequences from base_seq to end_seq - 1; else 0.
  std::uint64_t end_seq;
  /// Written as 0, and ignored.
  std::uint64_t reserved_too;
};
static_assert(std::is_standard_layout_v<log_segment_header>);
static_assert(sizeof(log_segment_header) == 128);
static_assert(offsetof(log_segment_header, header_crc) == 12);
static_assert(offsetof(log_segment_header, log_id) == 16);
static_assert(offsetof(log_segment_header, base_seq) == 40);
static_assert(offsetof(log_segment_header, gap_first) == 64);
static_assert(offsetof(log_segment_header, durable_upto) == 88);
static_assert(offsetof(log_segment_header, records) == 96);
static_assert(offsetof(log_segment_header, subjects) == 104);
static_assert(offsetof(log_segment_header, before_s) == 108);
static_assert(offsetof(log_segment_header, end_seq) == 112);

inline constexpr std::uint32_t log_flag_spill = 1;  // frames may skip sequences
inline constexpr std::uint32_t log_flag_compressed = 2;
inline constexpr std::uint32_t log_flag_thinned = 4;  // the same, because messages were superseded

/// The table of blocks, after the header of a compressed segment. block_count 64-bit file offsets
/// follow, then zeroes up to a multiple of 64.
struct log_block_table {
  /// log_block_table_magic.
  std::uint64_t magic;
  /// Checksum of the table with this field 0, including offsets and padding; seeded with the log's
  /// id.
  std::uint32_t crc;
  /// Number of blocks, and of offsets.
  std::uint32_t block_count;
  /// Length of the segment as it was written.
  std::uint64_t segment_bytes;
  /// Length of this file.
  std::uint64_t file_bytes;
};
static_assert(sizeof(log_block_table) == 32);
static_assert(offsetof(log_block_table, block_count) == 12);
inline constexpr std::uint64_t log_block_table_magic = 0x31424c54535542ull;  // "BUSTLB1"

/// Head of a block. The block's bytes follow, then zeroes up to a multiple of 64.
struct log_block {
  /// log_block_magic.
  std::uint32_t magic;
  /// Checksum of these 32 bytes with this field 0, seeded with the log's id.
  std::uint32_t head_crc;
  /// Offset of the block's first byte in the segment as it was written.
  std::uint64_t offset;
  /// Bytes of the block as it was written.
  std::uint32_t raw_bytes;
  /// Bytes that follow this head, without the padding.
  std::uint32_t stored_bytes;
  /// Checksum of what follows this head, including the padding; seeded with the log's id.
  std::uint32_t crc;
  /// A log_block_method.
  std::uint32_t method;
};
static_assert(sizeof(log_block) == 32);
static_assert(offsetof(log_block, method) == 28);
inline constexpr std::uint32_t log_block_magic = 0x4b434c42u;  // "BLCK"
enum class log_block_method : std::uint32_t { stored = 0, zstd = 1 };
/// Bytes of a block as it was written. Blocks begin with the first frame; the last may be shorter.
inline constexpr std::uint64_t log_block_bytes = 64 * 1024;

inline constexpr std::uint32_t frame_magic = 0x4d415246u;  // "FRAM"
enum class frame_kind : std::uint32_t {
  records = 1,
  mark = 2,  // no records: it only reports how far the log is durable
  end = 3,   // the last of a recording: no records; `messages` counts them all
};

/// Head of a frame: records that were written at once.
struct log_frame {
  /// frame_magic.
  std::uint32_t magic;
  /// Checksum of these 64 bytes with this field 0, seeded with the log's id.
  std::uint32_t header_crc;
  /// Sequence of the first record; of a mark, the next sequence.
  std::uint64_t base_seq;
  /// Highest sequence that was durable when the frame was written.
  std::uint64_t durable_upto;
  /// Not below the time of any of the frame's records; 0 in a mark.
  std::uint64_t time_max_ns;
  /// Number of records.
  std::uint32_t count;
  /// Bytes of the records. The frame ends at the next multiple of align_bytes.
  std::uint32_t bytes;
  /// header_crc of the previous frame; 0 in the first frame of a segment.
  std::uint32_t previous_crc;
  /// What the frame holds.
  frame_kind kind;
  /// In an end, messages of the whole recording; else 0.
  std::uint64_t messages;
  /// The lane's clock when the frame was written: seconds that the machine was up.
  std::uint32_t up_s;
  /// And seconds that it was off, as far as that is known.
  std::uint32_t off_s;
};
static_assert(std::is_standard_layout_v<log_frame>);
static_assert(sizeof(log_frame) == log_unit);
static_assert(offsetof(log_frame, count) == 32);
static_assert(offsetof(log_frame, previous_crc) == 40);
static_assert(offsetof(log_frame, up_s) == 56);

/// One entry of `BASE.idx`, a hint: where a frame starts.
struct log_index_entry {
  /// Sequence of the frame's first record.
  std::uint64_t seq;
  /// Latest time of the segment's records before that frame.
  std::uint64_t time_ns;
  /// Offset of the frame in the segment as it was written.
  std::uint64_t offset;
  /// Checksum of the 24 bytes before, seeded with the log's id.
  std::uint32_t crc;
  /// Written as 0, and ignored.
  std::uint32_t reserved;
};
static_assert(sizeof(log_index_entry) == 32);

/// `state` of a lane: two copies in separate sectors, of which the newest whole one counts, and a
/// bound. A copy is synced when it is written. The bound is the same struct, not synced: it only
/// states what was true when it was written, so it may be lost, and is believed when it is there.
struct log_state {
  /// log_state_magic.
  std::uint64_t magic;
  /// Rises by one with each write of a copy. Generation g lies at (g % 2) * log_state_stride.
  std::uint64_t generation;
  /// Random id of the lane's log.
  std::uint64_t log_id;
  /// Epoch of the stream.
  std::uint64_t epoch;
  /// No sequence above it was ever given out.
  std::uint64_t high_water;
  /// Sequences below it were removed on purpose, by retention or a purge.
  std::uint64_t first_seq;
  /// Id of the stream that the lane belongs to.
  std::uint64_t stream_id;
  /// Number of the lane in its stream.
  std::uint32_t lane_index;
  /// log_state_exact, or 0.
  std::uint32_t flags;
  /// Base of a segment whose name was durable; 0: none yet.
  std::uint64_t last_base;
  /// Every sequence up to here is in a segment, or in a gap that a segment announces.
  std::uint64_t durable_upto;
  /// Sequences up to durable_upto that no message ever had.
  std::uint64_t skipped;
  /// Entries of `subjects` that were durable.
  std::uint32_t subjects;
  /// Of an exact state: how many sequences above high_water may be given out if `reopened` exists.
  std::uint32_t ring_messages;
  /// The lane's clock; no wall clock moves it back, or forwards by itself. This is the time that
  /// the machine was up.
  std::uint64_t up_ns;
  /// CLOCK_BOOTTIME at that reading.
  std::uint64_t boot_ns;
  /// The boot of the machine at that reading, a checksum of its boot id; 0: never.
  std::uint32_t boot;
  /// Time that the machine was off, as a correct wall clock measured it.
  std::uint32_t off_s;
  /// What such a clock would have shown when the lane's clock was 0; 0: not known.
  std::uint32_t epoch_s;
  /// Checksum of the 124 bytes before, not seeded.
  std::uint32_t crc;
};
static_assert(sizeof(log_state) == 128);
static_assert(offsetof(log_state, stream_id) == 48);
static_assert(offsetof(log_state, last_base) == 64);
static_assert(offsetof(log_state, subjects) == 88);
static_assert(offsetof(log_state, up_ns) == 96);
static_assert(offsetof(log_state, boot) == 112);
static_assert(offsetof(log_state, crc) == 124);
/// busd stopped in order: high_water is what was given out, unless the file `reopened` lies beside
/// the state.
inline constexpr std::uint32_t log_state_exact = 1;
inline constexpr std::uint64_t log_state_magic = 0x3254534c535542ull;  // "BUSLST2"
inline constexpr std::uint64_t log_state_stride = 4096;
inline constexpr std::uint64_t log_state_file_bytes = 3 * log_state_stride;

/// The first bytes of `subjects`; entries follow.
struct log_subjects_header {
  /// log_subjects_magic.
  std::uint64_t magic;
  /// Random id of the stream.
  std::uint64_t stream_id;
  /// Written as 0, and ignored.
  std::uint32_t reserved[11];
  /// Checksum of the 60 bytes before, not seeded.
  std::uint32_t crc;
};
static_assert(sizeof(log_subjects_header) == 64);
static_assert(offsetof(log_subjects_header, crc) == 60);
inline constexpr std::uint64_t log_subjects_magic = 0x32425553535542ull;  // "BUSSUB2"

/// An entry of `subjects`. The text follows, padded with zeroes to 8 bytes.
struct log_subject {
  /// Checksum of the rest of the entry and its text, seeded with the stream's id.
  std::uint32_t crc;
  /// Id of the subject. Entries follow each other from 0 on.
  std::uint32_t id;
  /// Bytes of the text, 1 to 255.
  std::uint32_t length;
  /// Written as 0, and ignored.
  std::uint32_t reserved;
  /// Type hash of a typed subject; 0: none.
  std::uint64_t type;
};
static_assert(sizeof(log_subject) == 24);
static_assert(offsetof(log_subject, type) == 16);

}  // namespace bus::layout
