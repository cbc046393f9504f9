#pragma once
/// log: what the files of a durable lane hold: segments of frames of records, an index beside each
/// segment, the lane's state, the stream's subjects.
///
/// Everything on disk is little-endian. Every part proves itself by a checksum; those of frames,
/// records and index entries are seeded with the log's id, so that nothing left over from another
/// log is ever taken for this one's.
/// Format     docs/format/log.md

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace bus::layout {

inline constexpr std::uint64_t log_magic = 0x31474f4c535542ull;  // "BUSLOG1" read as little endian
inline constexpr std::uint16_t log_major = 1;
inline constexpr std::uint16_t log_minor = 0;
/// Of a thinned segment: an older reader takes the holes in it for corruption, and reads the rest.
inline constexpr std::uint16_t log_minor_thinned = 2;
/// Of a compressed segment: a reader that knows nothing of them refuses it, and does not take it
/// for damage.
inline constexpr std::uint16_t log_major_compressed = 2;
/// The first frame of a segment starts here; the header has the room to itself.
inline constexpr std::uint64_t log_header_bytes = 4096;
inline constexpr std::uint64_t log_unit = 64;  // records start on multiples of it
inline constexpr std::uint64_t log_index_stride_bytes = 256 * 1024;
inline constexpr std::uint64_t log_segment_min_bytes = 64 * 1024;
inline constexpr std::uint64_t log_segment_max_bytes = 1ull << 32;

/// Why the sequences between the segment before and this one are missing.
enum class log_gap : std::uint32_t {
  none = 0,
  unsynced = 1,    // shared memory was lost with messages that were not on disk, or never existed
  corrupt = 2,     // quarantined
  not_logged = 3,  // the disk was full or failing, and the stream may drop what it cannot log
  consumed = 4,    // spill: everybody had read them
  removed = 5,     // by retention, or a purge
  // by newer messages of the same subject; never in a header: holes of a thinned segment mean it
  superseded = 6,
};

/// Somebody did not get what they may have waited for.
constexpr bool is_loss(log_gap reason) noexcept {
  return reason != log_gap::consumed && reason != log_gap::superseded;
}

/// The first bytes of a segment. Written before the file gets its name; never changed.
struct log_segment_header {
  std::uint64_t magic;
  std::uint16_t major;
  std::uint16_t minor;
  std::uint32_t header_crc;  // of these 128 bytes with this field 0
  std::uint64_t log_id;      // of the lane's log; the seed of all checksums in it
  std::uint64_t stream_id;
  std::uint64_t epoch;     // of the stream
  std::uint64_t base_seq;  // of the first record; the file's name says the same
  std::uint64_t segment_bytes;
  std::uint64_t created_ns;
  std::uint64_t gap_first;  // the missing sequences are gap_first ... base_seq - 1
  std::uint32_t gap_reason;
  std::uint32_t lane_index;
  std::uint32_t align_bytes;  // frames start on multiples of it
  std::uint32_t flags;
  std::uint64_t durable_upto;  // known when the segment was begun
  std::uint64_t records;       // of a thinned segment: how many it has
  std::uint32_t subjects;      // that were durable when the segment was begun
  // no record in front of it is stamped later: whole seconds since 1970, rounded up; 0 and ~0: not
  // known
  std::uint32_t before_s;
  std::uint64_t end_seq;  // of a thinned segment: it stands for the sequences below; else 0
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
inline constexpr std::uint32_t log_flag_thinned = 4;  // the same, where messages were superseded

/// In a compressed segment, behind its header: where the blocks are. As many 64-bit offsets follow,
/// padded with zeroes to a multiple of 64.
struct log_block_table {
  std::uint64_t magic;
  // of the table with this field 0, offsets and padding too; seeded with the log's id
  std::uint32_t crc;
  std::uint32_t block_count;
  std::uint64_t segment_bytes;  // as it was written
  std::uint64_t file_bytes;     // as it is
};
static_assert(sizeof(log_block_table) == 32);
static_assert(offsetof(log_block_table, block_count) == 12);
inline constexpr std::uint64_t log_block_table_magic = 0x31424c54535542ull;  // "BUSTLB1"

/// Before the bytes of a block, which are padded with zeroes to a multiple of 64, this head
/// included.
struct log_block {
  std::uint32_t magic;
  std::uint32_t head_crc;  // of these 32 bytes with this field 0, seeded with the log's id
  std::uint64_t offset;    // of its first byte in the segment as it was written
  std::uint32_t raw_bytes;
  std::uint32_t stored_bytes;
  std::uint32_t crc;  // of what follows, padding too, seeded with the log's id
  std::uint32_t method;
};
static_assert(sizeof(log_block) == 32);
static_assert(offsetof(log_block, method) == 28);
inline constexpr std::uint32_t log_block_magic = 0x4b434c42u;  // "BLCK"
enum class log_block_method : std::uint32_t { stored = 0, zstd = 1 };
/// Of a segment as it was written, from its first frame on; the last block may have less.
inline constexpr std::uint64_t log_block_bytes = 64 * 1024;

inline constexpr std::uint32_t frame_magic = 0x4d415246u;  // "FRAM"
enum class frame_kind : std::uint32_t {
  records = 1,
  mark = 2,  // no records: says only how far the log is durable
  end = 3,   // of a recording: no records, and nothing follows; `messages` says how many there are
};

/// Before each group of records that was written at once.
struct log_frame {
  std::uint32_t magic;
  std::uint32_t header_crc;    // of these 64 bytes with this field 0, seeded with the log's id
  std::uint64_t base_seq;      // of the first record
  std::uint64_t durable_upto;  // the highest sequence that was durable when this was written
  std::uint64_t time_max_ns;   // of the frame's records; 0 in a mark
  std::uint32_t count;
  std::uint32_t bytes;         // of records; the frame ends at the next multiple of align_bytes
  std::uint32_t previous_crc;  // header_crc of the frame before; 0 for the first of a segment
  frame_kind kind;
  std::uint64_t messages;  // of an end: in all of the recording; else 0
  std::uint32_t up_s;      // the lane's clock when it was written: seconds that the machine was up,
  std::uint32_t off_s;     // and seconds that it was off, as far as that is known
};
static_assert(std::is_standard_layout_v<log_frame>);
static_assert(sizeof(log_frame) == log_unit);
static_assert(offsetof(log_frame, count) == 32);
static_assert(offsetof(log_frame, previous_crc) == 40);
static_assert(offsetof(log_frame, up_s) == 56);

/// One entry of `BASE.idx`, a hint: the frame that starts at `offset` begins with `seq`.
struct log_index_entry {
  std::uint64_t seq;
  std::uint64_t time_ns;  // latest time in the segment before that frame
  std::uint64_t offset;
  std::uint32_t crc;  // of the 24 bytes before, seeded with the log's id
  std::uint32_t reserved;
};
static_assert(sizeof(log_index_entry) == 32);

/// `state` of a lane: two copies in sectors of their own, of which the newest whole one counts, and
/// a bound. The copies are synced when they are written. The bound is the same struct, not synced:
/// what it says was already true when it was written, so that it may be lost, and is believed when
/// it is there.
struct log_state {
  std::uint64_t magic;
  std::uint64_t generation;
  std::uint64_t log_id;
  std::uint64_t epoch;
  std::uint64_t high_water;  // no sequence above it was ever given out
  std::uint64_t first_seq;   // what is below was removed on purpose: retention, or a purge
  std::uint64_t stream_id;   // of the stream that the lane belongs to
  std::uint32_t lane_index;
  std::uint32_t flags;         // log_state_exact
  std::uint64_t last_base;     // a segment of this base had its name durably; 0: none yet
  std::uint64_t durable_upto;  // everything up to here is in the log, or in a gap that it announces
  std::uint64_t skipped;       // sequences up to durable_upto that no message ever had
  std::uint32_t subjects;      // so many were durable in `subjects`
  std::uint32_t ring_messages;  // exact: what may be above high_water when the log was reopened
  // The lane's clock: no wall clock moves it back, or forwards by itself.
  std::uint64_t up_ns;    // what has passed while the machine was up
  std::uint64_t boot_ns;  // CLOCK_BOOTTIME then
  std::uint32_t boot;     // in this boot of the machine; 0: never
  std::uint32_t off_s;    // what has passed while it was off, as a wall clock that was right told
  std::uint32_t epoch_s;  // what such a clock would have shown when this one was 0; 0: not known
  std::uint32_t crc;      // of the 124 bytes before
};
static_assert(sizeof(log_state) == 128);
static_assert(offsetof(log_state, stream_id) == 48);
static_assert(offsetof(log_state, last_base) == 64);
static_assert(offsetof(log_state, subjects) == 88);
static_assert(offsetof(log_state, up_ns) == 96);
static_assert(offsetof(log_state, boot) == 112);
static_assert(offsetof(log_state, crc) == 124);
/// busd stopped in order: high_water is what was given out, unless `reopened` lies beside the
/// state.
inline constexpr std::uint32_t log_state_exact = 1;
inline constexpr std::uint64_t log_state_magic = 0x3254534c535542ull;  // "BUSLST2"
inline constexpr std::uint64_t log_state_stride = 4096;
inline constexpr std::uint64_t log_state_file_bytes = 3 * log_state_stride;

/// The first bytes of `subjects`; entries follow.
struct log_subjects_header {
  std::uint64_t magic;
  std::uint64_t stream_id;
  std::uint32_t reserved[11];
  std::uint32_t crc;  // of the 60 bytes before
};
static_assert(sizeof(log_subjects_header) == 64);
static_assert(offsetof(log_subjects_header, crc) == 60);
inline constexpr std::uint64_t log_subjects_magic = 0x32425553535542ull;  // "BUSSUB2"

/// An entry of `subjects`. The text follows, padded with zeroes to 8.
struct log_subject {
  std::uint32_t crc;  // of everything behind it, seeded with the stream's id
  std::uint32_t id;   // the subject's, and the entry's ordinal
  std::uint32_t length;
  std::uint32_t reserved;
  std::uint64_t type;
};
static_assert(sizeof(log_subject) == 24);
static_assert(offsetof(log_subject, type) == 16);

}  // namespace bus::layout
