#pragma once
/// session: one process's connection to a bus. Opening it creates the bus if it does not exist; no
/// daemon is needed.
///
/// Threads    all members may be called from any thread
/// Processes  a forked child opens its own: the parent's handles return `forked` there
/// Cost       open maps a few files; a session is not on the path of a message
/// Lifetime   publishers, subscribers and consumers keep what they need after its destruction

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <bus/consumer.hpp>
#include <bus/error.hpp>
#include <bus/group.hpp>
#include <bus/log_files.hpp>
#include <bus/publisher.hpp>
#include <bus/statistics.hpp>
#include <bus/stream_config.hpp>
#include <bus/subscriber.hpp>

namespace bus {

/// Whether a session creates files of its own on the bus. Publishers, subscribers, consumers, and
/// calls that take the lock of a stream or a group need them.
enum class membership : std::uint8_t {
  member,         ///< yes
  guest_if_full,  ///< yes; if there is no memory for them, as a guest
  guest,          ///< no: it can only read and remove. `bus ps` does not show it
};

struct session_options {
  /// `bus:///NAME?name=PROCESS&slots=N&root=DIR`, or just NAME. Empty: $BUS_URL, else `default`
  std::string url;
  std::string process_name;  ///< shown by `bus ps`; default: the program's name
  bool create = true;        ///< create the bus if it does not exist; false: `not_found`
  membership joins = membership::member;  ///< a guest never creates the bus
  /// For operators' tools: if shared memory is full, use fewer slots, and the reserve of the bus.
  bool may_use_reserve = false;
};

struct session_core;

class BUS_EXPORT session {
 public:
  /// Errors: invalid_argument (url), not_found, permission (owner, modes), no_space, unsupported
  ///         (version), corrupt, busy (another process does not finish creating the bus)
  static result<session> open(session_options options = {});
  static result<session> open(std::string_view url) {
    return open(session_options{std::string(url), {}, true});
  }

  session(session&&) noexcept;
  session& operator=(session&&) noexcept;
  ~session();

  std::string_view name() const noexcept;
  std::string_view directory() const noexcept;

  /// A publisher bound to `subject`. If no declared stream captures it, creates the default stream.
  /// Errors: invalid_argument (subject, confirm), conflict (exclusive: another publisher holds the
  ///         lane), closed (sealed), no_space, permission, busy
  result<bus::publisher> publisher(std::string_view subject, publisher_options options = {});

  /// A subscriber of one or several patterns over all streams, including those created later. It
  /// misses no message that is published to its subjects after the return (start::new_messages).
  /// Errors: invalid_argument (pattern), no_space (slots, readers), permission
  result<subscriber> subscribe(std::span<const std::string_view> patterns,
                               subscriber_options options = {});
  result<subscriber> subscribe(std::string_view pattern, subscriber_options options = {}) {
    return subscribe(std::span<const std::string_view>(&pattern, 1), std::move(options));
  }

  /// A consumer of a group, which is created if it does not exist. `subject`, a subject or pattern,
  /// selects the stream and is the group's filter. Empty: options.stream without a filter.
  /// Errors: invalid_argument (several streams match; an option; a stream with a log), conflict
  ///         (the group exists and differs: the fields are named), busy (exclusive: it has a
  ///         consumer), no_space, not_found (stream), unsupported (deliver = last_per_subject)
  result<bus::consumer> consume(std::string_view subject, consumer_options options);

  /// Errors: invalid_argument (each field), conflict (it exists), no_space, not_found (stream)
  result<void> add_group(const group_config& config);
  /// Removes its dead letters as well.
  /// Errors: not_found, busy
  result<void> remove_group(std::string_view stream, std::string_view group);
  /// Stops handing out messages for `time`, or until resume_group(). Current leases stay valid.
  /// Errors: not_found
  result<void> pause_group(std::string_view stream, std::string_view group,
                           std::optional<std::chrono::nanoseconds> time = {});
  result<void> resume_group(std::string_view stream, std::string_view group);
  /// Rebuilds the group's indexes from the state of its messages, even if the group is damaged.
  /// Returns how many messages had an impossible state and were dropped.
  /// Errors: not_found, busy
  result<std::uint32_t> repair_group(std::string_view stream, std::string_view group);
  result<group_info> group(std::string_view stream, std::string_view group) const;
  /// The groups of one stream, or of all.
  result<std::vector<group_info>> groups(std::string_view stream = {}) const;
  /// Messages that are claimed and not settled, at most `max`.
  result<std::vector<pending_message>> pending(std::string_view stream, std::string_view group,
                                               std::size_t max = 1000) const;
  /// The next unclaimed messages, without claiming them.
  result<std::vector<peeked_message>> peek(std::string_view stream, std::string_view group,
                                           std::size_t max = 10) const;
  /// Dead letters from sequence `from` on, at most `max`.
  result<std::vector<dead_letter>> dead_letters(std::string_view stream, std::string_view group,
                                                std::uint64_t from = 0,
                                                std::size_t max = 1000) const;
  /// Drops the dead letters up to and including `sequence`. Returns how many.
  result<std::uint64_t> drop_dead_letters(std::string_view stream, std::string_view group,
                                          std::uint64_t sequence = ~0ull);

  /// Adding a stream that exists with the same configuration is ok.
  /// Errors: invalid_argument (each field), conflict (it exists and differs, or subjects overlap:
  ///         both are named), no_space, busy
  result<void> add_stream(const stream_config& config);
  /// Errors: not_found, busy
  result<void> remove_stream(std::string_view name);
  /// Repairs what troubles() reports of the stream's lanes. Returns how many lanes it repaired.
  /// Publishers continue meanwhile.
  /// Errors: not_found, busy (a live process holds the lock of a lane)
  result<unsigned> repair_stream(std::string_view name);
  result<stream_info> stream(std::string_view name) const;

  /// This and the next two: only for streams with a log; they need busd.
  /// Errors: unavailable (no busd), not_found, invalid_argument (a field that cannot be changed: it
  ///         is named)
  result<void> edit_stream(const stream_config& config);
  /// Removes all messages below a sequence, in every lane; ~0: all messages.
  result<void> purge_stream(std::string_view name, std::uint64_t below);
  /// Publishing to a sealed stream fails until it is unsealed.
  result<void> seal_stream(std::string_view name, bool sealed = true);
  /// Creates a stream from a copy made by copy_log, which busd reads. New messages get sequences
  /// above all of the copy. Returns how many messages were found and announced.
  /// `damaged_too`: accept a copy with missing or changed files.
  /// Errors: unavailable (no busd), not_found (no finished copy), conflict, corrupt
  result<backup_counts> restore_stream(std::string_view name, std::string_view directory,
                                       bool damaged_too = false);
  /// The status of busd.
  /// Errors: unavailable (no busd)
  result<keeper_info> keeper() const;

  /// Snapshots, read without disturbing publishers or readers.
  result<std::vector<stream_info>> streams() const;
  result<std::vector<process_info>> processes() const;
  /// Streams whose files cannot be used, each with the remedy.
  std::vector<error> broken_streams() const;
  /// Words in shared memory that block publishers or are impossible: a lock that does not move, a
  /// lease that its owner does not claim, a lane marked as removed whose stream exists; and
  /// processes that cannot be inspected. Takes about 40 ms.
  std::vector<error> troubles() const;

 private:
  explicit session(std::shared_ptr<session_core> core) noexcept;
  std::shared_ptr<session_core> core_;
};

inline result<session> open(std::string_view url = {}) { return session::open(url); }

/// The directory that contains the bus of `url`: its `root=`, else $BUS_ROOT, else /dev/shm.
/// Errors: invalid_argument
BUS_EXPORT result<std::string> root_of(std::string_view url);
/// The names of this user's buses on this host.
BUS_EXPORT std::vector<std::string> list_buses(std::string_view root = {});
/// Removes a bus and everything in it.
/// Errors: not_found, busy (live processes, unless `force`), permission
BUS_EXPORT result<void> remove_bus(std::string_view url, bool force = false);

}  // namespace bus
