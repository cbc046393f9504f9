#pragma once
/// stream_config: what a stream is: the subjects it captures, its rings, and what happens when a
/// ring is full.
///
/// Ranges are checked when the stream is made; the same names are options of `bus stream add`.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <bus/error.hpp>

namespace bus {

/// What a publisher meets when the ring is full of messages that a gating reader still needs.
enum class overflow : std::uint8_t {
  block = 1,   ///< wait for space, at most send_timeout; the error names the slowest reader
  reject = 2,  ///< refuse the new message at once
  /// overwrite: readers never hold a publisher back; a lapped reader is told exactly what it lost
  drop_oldest = 3,
  drop_new = 4,  ///< discard the new message; counted
};

enum class lane_mode : std::uint8_t {
  /// `lanes` rings; a message with a key goes to the lane of its key, others to the publisher's
  /// lane
  fixed = 1,
  /// each publisher gets a ring of its own: no lock between publishers, no total order. A
  /// subscriber holds a ring back from the moment it has found it: what a new publisher overwrites
  /// before is a gap, under any overflow policy. Groups miss nothing.
  per_publisher = 2,
};

/// Where messages go that the ring does not hold any more.
enum class storage_class : std::uint8_t {
  memory = 0,   ///< nowhere: the ring is all there is
  spill = 1,    ///< to disk, only while a reader lags: it loses nothing and holds nobody back
  durable = 2,  ///< every message to disk; what was confirmed survives power loss. Needs busd
};

/// When the log of a durable stream is synced.
enum class fsync_policy : std::uint8_t {
  batch = 1,     ///< with every group commit, before its confirms
  interval = 2,  ///< every fsync_interval: confirms wait for it
  never = 3,     ///< by the kernel's leisure: nothing is ever confirmed as `disk`
};

/// Of log files that are full. Readers do not see a difference.
enum class compression : std::uint8_t {
  none = 0,
  zstd = 1,  ///< busd compresses them in the background
};

struct stream_config {
  std::string name;                   ///< 1-63 of A-Z a-z 0-9 _ - .
  std::vector<std::string> subjects;  ///< patterns; no two declared streams may overlap
  bus::overflow overflow = bus::overflow::block;
  lane_mode mode = lane_mode::fixed;
  std::uint32_t lanes = 1;  ///< 1-64; with per_publisher the most that may come to be
  /// per lane; power of two, 64 KiB - 64 GiB, at least 4 largest messages
  std::uint64_t ring_bytes = 8ull << 20;
  /// payload; larger ones are refused before anything is written
  std::uint64_t max_message_bytes = 1ull << 20;
  std::chrono::nanoseconds send_timeout = std::chrono::seconds(5);  ///< of `block`
  /// beyond it records carry their subject: slower, never refused
  std::uint32_t max_subjects = 262'144;
  std::uint32_t max_readers = 1024;  ///< per lane, 1-65536
  bool ephemeral = false;            ///< removed with the last process that leaves

  storage_class storage = storage_class::memory;
  fsync_policy fsync = fsync_policy::batch;
  std::chrono::nanoseconds fsync_interval = std::chrono::milliseconds(100);
  std::uint64_t segment_bytes = 64ull << 20;  ///< of a log file; 1 MiB - 4 GiB
  std::chrono::nanoseconds max_age{0};  ///< limits of the log, whichever comes first; 0: none.
  std::uint64_t max_bytes = 0;          ///< They remove whole segments
  std::uint64_t max_messages = 0;
  /// Older ones of a subject are removed from full segments, by and by; per lane. 0: all stay
  std::uint64_t max_messages_per_subject = 0;
  compression compress = compression::none;  ///< of a durable stream
};

/// The name of the stream that captures what no declared stream captures; made on first use with
/// overflow drop_oldest.
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
