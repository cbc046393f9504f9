#pragma once
/// group: the configuration, status and dead letters of a group of consumers.
///
/// A group has its own cursor in a stream, and the messages that are claimed and not settled. The
/// options of `bus group add` have the same names as the fields.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <bus/error.hpp>
#include <bus/subscriber.hpp>

namespace bus {

enum class ack_policy : std::uint8_t {
  explicit_ack = 1,  ///< its consumer settles each message
  none = 2,          ///< handing a message out settles it: at most once
  all = 3,           ///< ack also settles all earlier messages; not for shared groups
};

enum class group_order : std::uint8_t {
  none = 1,
  key = 2,    ///< one message of a key (header `key`) is out at a time
  total = 3,  ///< one message is out at a time; streams with one lane only
};

/// Whether a failed message of an ordered group blocks the later ones while it waits for its retry.
enum class on_fail : std::uint8_t { block = 1, skip = 2 };

enum class group_mode : std::uint8_t {
  shared = 1,     ///< all consumers take messages
  exclusive = 2,  ///< one consumer; others are refused
  failover = 3,   ///< one takes messages; another takes over when it leaves, dies or hangs
};

struct group_config {
  std::string name;  ///< 1-63 of A-Z a-z 0-9 _ - .
  std::string stream;
  /// Patterns; messages that match none are passed over. Empty: all messages.
  std::vector<std::string> filter;
  /// Headers, key and value, that a message must have: all of them if headers_all, else any one.
  std::vector<std::pair<std::string, std::string>> headers;
  bool headers_all = true;

  ack_policy ack = ack_policy::explicit_ack;
  group_order order = group_order::none;
  bus::on_fail on_fail = bus::on_fail::block;
  group_mode mode = group_mode::shared;
  bus::start deliver = bus::start::all();

  std::uint32_t max_ack_pending = 1000;  ///< messages that may be out, 1-1000000
  std::uint32_t max_delayed = 8192;      ///< waiting for a retry; those above it count as out
  std::uint32_t max_parked = 4096;       ///< order key: waiting for their key
  std::chrono::nanoseconds ack_wait = std::chrono::seconds(30);  ///< 0: no expiry; 1 ms - 12 h
  std::chrono::nanoseconds max_lease = std::chrono::hours(12);   ///< in all; ack_wait - 12 h
  std::int32_t max_deliver = 5;  ///< failures until it is a dead letter, 1-1000; -1: no limit
  /// The delay before each retry; the last one repeats. At most 16.
  std::vector<std::chrono::nanoseconds> backoff = {std::chrono::seconds(0), std::chrono::seconds(5),
                                                   std::chrono::seconds(25),
                                                   std::chrono::seconds(125)};
  double jitter = 0.2;       ///< each delay varies by up to this share, 0-1
  bool dead_letters = true;  ///< false: drop and count the messages instead
  /// for copies of messages that would pin the ring; 64 KiB - 1 TiB
  std::uint64_t hold_bytes = 16ull << 20;
  std::uint32_t max_consumers = 1024;  ///< 1-4095
  /// After this long without a consumer the group stops holding publishers back. 0: never.
  std::chrono::nanoseconds idle_release = std::chrono::hours(1);
};

/// Each message from the sequence where the group began to the last one is counted once:
/// last sequence - first sequence + 1 = settled + filtered + dropped + dead + pending + unclaimed
struct group_counts {
  std::uint64_t settled = 0;
  std::uint64_t filtered = 0;   ///< did not match
  std::uint64_t dropped = 0;    ///< overwritten before they were claimed
  std::uint64_t dead = 0;       ///< dead letters, including those dropped by dead_letters = false
  std::uint64_t pending = 0;    ///< leased + ready + delayed + parked + dying
  std::uint64_t unclaimed = 0;  ///< at or beyond the group's cursor

  std::uint64_t leased = 0;
  std::uint64_t ready = 0;    ///< returned, or their key is free: handed out next
  std::uint64_t delayed = 0;  ///< waiting for their retry
  std::uint64_t parked = 0;   ///< waiting for their key
  std::uint64_t dying = 0;    ///< waiting for room in the dead letters
};

struct group_info {
  group_config config;
  group_counts counts;
  std::uint64_t redelivered = 0, expired = 0, nacked = 0, released = 0, returned_by_death = 0;
  std::uint64_t repaired = 0;
  struct consumer {
    std::string name;
    std::uint32_t process_id = 0;  ///< its id on the bus
    bool alive = false;
    bool active = false;  ///< takes messages; always true in a shared group
    std::uint64_t claimed = 0, settled = 0;
  };
  std::vector<consumer> consumers;
  bool damaged = false;  ///< no consumer can use it until it is repaired
  bool paused = false;
  std::optional<std::chrono::nanoseconds> paused_for;  ///< empty: until resumed
  std::uint64_t hold_used_bytes = 0;
  bool hold_full = false;  ///< messages that need a copy cannot be handed out
  std::optional<std::chrono::nanoseconds> oldest_age;  ///< of the unclaimed and pending messages
  std::uint64_t dead_letters_kept = 0;
  /// The counts are of one moment. False: consumers changed the group during each attempt to count,
  /// or a process is in the middle of a change, so the counts may be off by what it changed.
  bool is_consistent = false;
  /// What prevents or delays delivery: one sentence each, with the remedy.
  std::vector<std::string> why;
};

/// A message that is claimed and not settled.
struct pending_message {
  std::uint32_t lane = 0;
  std::uint64_t sequence = 0;
  std::string state;  ///< leased, ready, delayed, parked, dying
  bool started = false;
  std::uint32_t acquired = 0, failed = 0;
  std::string holder;                     ///< if leased: consumer and pid; `, dead` if it died
  std::uint32_t pid = 0, thread = 0;      ///< of the holder, in its own pid namespace
  std::chrono::nanoseconds age{0};        ///< since it was published
  std::chrono::nanoseconds held_for{0};   ///< if leased
  std::chrono::nanoseconds remaining{0};  ///< until the lease ends or the retry is due
  std::string subject;
  std::uint64_t bytes = 0;
};

/// A message that was given up, with the reason and its origin.
struct dead_letter {
  std::uint64_t sequence = 0;  ///< in the dead-letter stream
  std::string reason;          ///< rejected, expired, max_deliver
  std::string error;           ///< the reason that its last consumer gave
  std::uint32_t attempts = 0;
  std::chrono::system_clock::time_point first_time{}, last_time{}, publish_time{};
  std::string stream, group, subject, process;
  std::uint32_t origin_lane = 0;
  std::uint64_t origin_sequence = 0;
  std::vector<std::pair<std::string, std::string>> headers;  ///< of the original message
  std::vector<std::byte> payload;
};

/// An unclaimed message of the group, copied from the ring.
struct peeked_message {
  std::uint32_t lane = 0;
  std::uint64_t sequence = 0;
  std::string subject;
  std::chrono::nanoseconds age{0};
  std::vector<std::pair<std::string, std::string>> headers;
  std::vector<std::byte> payload;
};

/// Name of a group's dead-letter stream.
BUS_EXPORT std::string dead_letter_stream(std::string_view stream, std::string_view group);

BUS_EXPORT const char* ack_name(ack_policy policy) noexcept;
BUS_EXPORT result<ack_policy> parse_ack(std::string_view text);
BUS_EXPORT const char* order_name(group_order order) noexcept;
BUS_EXPORT result<group_order> parse_order(std::string_view text);
BUS_EXPORT const char* on_fail_name(on_fail rule) noexcept;
BUS_EXPORT result<on_fail> parse_on_fail(std::string_view text);
BUS_EXPORT const char* mode_name(group_mode mode) noexcept;
BUS_EXPORT result<group_mode> parse_mode(std::string_view text);

}  // namespace bus
