#pragma once
/// group: what a group of consumers is, what it is doing, and what became of its dead letters.
///
/// A group is a position in a stream of its own, and the messages that its consumers have and have
/// not settled. The same names are options of `bus group add`.

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
  explicit_ack = 1,  ///< each message is settled by its consumer
  none = 2,          ///< settled when it is handed out: at most once
  all = 3,           ///< settling one settles all before it; exclusive and failover groups only
};

enum class group_order : std::uint8_t {
  none = 1,
  key = 2,    ///< of one key (header `key`) one message is out at a time
  total = 3,  ///< one message is out at a time; streams of one lane only
};

/// What a failed message of an ordered group does to those behind it while it waits for its retry.
enum class on_fail : std::uint8_t { block = 1, skip = 2 };

enum class group_mode : std::uint8_t {
  shared = 1,     ///< all consumers take messages
  exclusive = 2,  ///< one consumer; others are refused
  failover = 3,   ///< one takes messages, the others wait for its death or leave
};

struct group_config {
  std::string name;    ///< 1-63 of A-Z a-z 0-9 _ - .
  std::string stream;  ///< name
  /// Patterns; messages that match none count as settled. Empty: everything
  std::vector<std::string> filter;
  /// Conditions on headers, key and value; with headers_all all of them, else any
  std::vector<std::pair<std::string, std::string>> headers;
  bool headers_all = true;

  ack_policy ack = ack_policy::explicit_ack;
  group_order order = group_order::none;
  bus::on_fail on_fail = bus::on_fail::block;
  group_mode mode = group_mode::shared;
  bus::start deliver = bus::start::all();

  std::uint32_t max_ack_pending = 1000;  ///< messages that are out, 1-1000000
  std::uint32_t max_delayed = 8192;      ///< waiting for a retry; beyond it they count as out
  std::uint32_t max_parked = 4096;       ///< order key: waiting for their key
  std::chrono::nanoseconds ack_wait = std::chrono::seconds(30);  ///< 0: a lease has no end; <= 12 h
  std::chrono::nanoseconds max_lease = std::chrono::hours(12);   ///< with all extensions
  std::int32_t max_deliver = 5;  ///< failures until a dead letter, 1-1000; -1: no limit
  /// Before each retry, the last one repeats; at most 16
  std::vector<std::chrono::nanoseconds> backoff = {std::chrono::seconds(0), std::chrono::seconds(5),
                                                   std::chrono::seconds(25),
                                                   std::chrono::seconds(125)};
  double jitter = 0.2;                     ///< each delay is off by up to this share, 0-1
  bool dead_letters = true;                ///< false: what would be one is dropped, and counted
  std::uint64_t hold_bytes = 16ull << 20;  ///< for copies of messages that would pin the ring
  std::uint32_t max_consumers = 1024;      ///< 1-4095
  /// Without any consumer for so long, publishers are not held back any more; 0: they always are
  std::chrono::nanoseconds idle_release = std::chrono::hours(1);
};

/// Every message of the stream that the group has come past, or has not: the parts add up.
/// last sequence - first sequence + 1 = settled + filtered + dropped + dead + pending + unclaimed
struct group_counts {
  std::uint64_t settled = 0;
  std::uint64_t filtered = 0;   ///< did not match
  std::uint64_t dropped = 0;    ///< overwritten before they were claimed
  std::uint64_t dead = 0;       ///< dead letters, also those that dead_letters = false dropped
  std::uint64_t pending = 0;    ///< leased + ready + delayed + parked + dying
  std::uint64_t unclaimed = 0;  ///< behind the group's position

  std::uint64_t leased = 0;
  std::uint64_t ready = 0;    ///< returned, or their key is free: the next to be handed out
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
    std::uint32_t process_id = 0;  ///< on the bus
    bool alive = false;
    bool active = false;  ///< of exclusive and failover groups
    std::uint64_t claimed = 0, settled = 0;
  };
  std::vector<consumer> consumers;
  bool damaged = false;  ///< nobody can use it until it is repaired
  bool paused = false;
  std::optional<std::chrono::nanoseconds> paused_for;  ///< empty: until resumed
  std::uint64_t hold_used_bytes = 0;
  bool hold_full = false;  ///< no message that must be copied can be handed out
  std::optional<std::chrono::nanoseconds> oldest_age;  ///< of what is unclaimed or pending
  std::uint64_t dead_letters_kept = 0;
  /// Why nothing is being delivered, or what holds it up; one sentence each, with what to do.
  std::vector<std::string> why;
};

/// Who has which message.
struct pending_message {
  std::uint32_t lane = 0;
  std::uint64_t sequence = 0;
  std::string state;  ///< leased, ready, delayed, parked, dying
  bool started = false;
  std::uint32_t acquired = 0, failed = 0;
  std::string holder;                     ///< of a leased one: process and pid; `, dead`
  std::uint32_t pid = 0, thread = 0;      ///< that joined as this holder, in its own pid namespace
  std::chrono::nanoseconds age{0};        ///< since it was published
  std::chrono::nanoseconds held_for{0};   ///< of a leased one
  std::chrono::nanoseconds remaining{0};  ///< until the lease ends, or the retry comes
  std::string subject;
  std::uint64_t bytes = 0;
};

/// A message that was given up, with the record of its death.
struct dead_letter {
  std::uint64_t sequence = 0;  ///< in the dead-letter stream
  std::string reason;          ///< rejected, expired, max_deliver
  std::string error;           ///< what its last consumer said
  std::uint32_t attempts = 0;
  std::chrono::system_clock::time_point first_time{}, last_time{}, publish_time{};
  std::string stream, group, subject, process;
  std::uint32_t origin_lane = 0;
  std::uint64_t origin_sequence = 0;
  std::vector<std::pair<std::string, std::string>> headers;  ///< the message's own
  std::vector<std::byte> payload;
};

/// A message of the group that waits, as it lies in the ring.
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
