#pragma once
/// stream_config: the configuration of a stream: the subjects it captures, its rings, and what
/// happens when a ring is full.
///
/// Ranges are checked when the stream is created. The options of `bus stream add` have the same
/// names as the fields.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <bus/error.hpp>

namespace bus {

/// What a publisher does when the ring is full of messages that a gating reader still needs.
enum class overflow : std::uint8_t {
  block = 1,   ///< wait for space, at most send_timeout; the error names the slowest reader
  reject = 2,  ///< refuse the new message at once
  /// Overwrite: readers never hold a publisher back. A lapped reader gets the exact gap.
  drop_oldest = 3,
  drop_new = 4,  ///< discard the new message; counted
};

enum class lane_mode : std::uint8_t {
  /// `lanes` rings. A message with the header `key` goes to the lane of its key, others to the
  /// publisher's lane. An exclusive publisher uses its own lane for all messages.
  fixed = 1,
  /// Each publisher gets its own ring: no lock between publishers, no total order. Except with
  /// drop_oldest, a new ring is not overwritten before every gating subscriber to its subjects has
  /// attached to it; groups hold it from its creation.
  per_publisher = 2,
};

/// Where messages are kept that are no longer in the ring.
enum class storage_class : std::uint8_t {
  memory = 0,   ///< nowhere: only the ring is kept
  spill = 1,    ///< on disk while a reader lags: it loses nothing and holds no publisher back
  durable = 2,  ///< all on disk; confirmed messages survive power loss. Needs busd
};

/// When the log of a durable stream is synced.
enum class fsync_policy : std::uint8_t {
  batch = 1,     ///< with every group commit, before its confirms
  interval = 2,  ///< every fsync_interval; confirms wait for it
  never = 3,     ///< by the kernel, in the background: `disk` is never confirmed
};

/// Compression of full log files. Readers see no difference.
enum class compression : std::uint8_t {
  none = 0,
  zstd = 1,  ///< busd compresses them in the background
};

struct stream_config {
  std::string name;                   ///< 1-63 of A-Z a-z 0-9 _ - .
  std::vector<std::string> subjects;  ///< patterns; no two declared streams may overlap
  bus::overflow overflow = bus::overflow::block;
  lane_mode mode = lane_mode::fixed;
  std::uint32_t lanes = 1;  ///< 1-64; with per_publisher, the maximum
  /// Per lane: a power of two, 64 KiB - 64 GiB, at least 4 * (max_message_bytes + 4 KiB).
  std::uint64_t ring_bytes = 8ull << 20;
  /// Of payload. Larger messages are refused before anything is written.
  std::uint64_t max_message_bytes = 1ull << 20;
  std::chrono::nanoseconds send_timeout = std::chrono::seconds(5);  ///< for overflow block
  /// Records of further subjects carry the subject itself: slower, but never refused. <= 16000000
  std::uint32_t max_subjects = 262'144;
  std::uint32_t max_readers = 1024;  ///< per lane, 1-65536
  bool ephemeral = false;            ///< removed when the last process leaves; storage memory only

  storage_class storage = storage_class::memory;
  fsync_policy fsync = fsync_policy::batch;
  std::chrono::nanoseconds fsync_interval = std::chrono::milliseconds(100);
  std::uint64_t segment_bytes = 64ull << 20;  ///< size of a log file; 1 MiB - 4 GiB
  /// Limits of the log of a durable stream: exceeding any one removes whole segments. 0: no limit.
  std::chrono::nanoseconds max_age{0};
  std::uint64_t max_bytes = 0;
  std::uint64_t max_messages = 0;
  /// Durable streams, per lane: a subject's older messages are removed from full segments in the
  /// background. 0: all are kept.
  std::uint64_t max_messages_per_subject = 0;
  compression compress = compression::none;  ///< durable streams only
};

/// The stream that captures the subjects that no declared stream captures; created on first use,
/// with overflow drop_oldest.
inline constexpr std::string_view default_stream = "default";

BUS_EXPORT const char* storage_name(storage_class kept) noexcept;
BUS_EXPORT result<storage_class> parse_storage(std::string_view text);
BUS_EXPORT const char* fsync_name(fsync_policy policy) noexcept;
BUS_EXPORT result<fsync_policy> parse_fsync(std::string_view text);
BUS_EXPORT const char* compression_name(compression method) noexcept;
BUS_EXPORT result<compression> parse_compression(std::string_view text);
BUS_EXPORT const char* overflow_name(overflow policy) noexcept;
BUS_EXPORT result<overflow> parse_overflow(std::string_view text);

}  // namespace bus
