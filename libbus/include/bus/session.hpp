#pragma once
/// session: one process's connection to a bus. Opening it makes the bus when it does not exist; no
/// daemon is needed.
///
/// Threads    all members may be called from any thread
/// Processes  a forked child must open its own: the parent's handles say `forked` there
/// Cost       open: a few files mapped; nothing of a session is on the path of a message
/// Lifetime   publishers and subscribers keep what they need; destroying the session early is fine

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

/// Does a session make files of its own on the bus? Publishers, subscribers, consumers, and what
/// takes a lock of a stream or a group need them.
enum class membership : std::uint8_t {
  member,         ///< yes
  guest_if_full,  ///< yes; when there is no memory for them it only looks and removes
  guest,          ///< no: it only looks and removes. It is not shown by `bus ps`
};

struct session_options {
  /// `bus:///NAME?name=PROCESS&slots=N&root=DIR`, or just NAME. Empty: $BUS_URL, else `default`
  std::string url;
  std::string process_name;  ///< shown by `bus ps`; default: the program's name
  bool create = true;        ///< make the bus when it does not exist; false: `not_found`
  membership joins = membership::member;  ///< a guest never makes the bus
  /// of an operator's tool: when memory is full it takes less, and what the bus keeps for this
  bool may_use_reserve = false;
};

struct session_core;

class BUS_EXPORT session {
 public:
  /// Errors: invalid_argument (url), not_found, permission (owner, modes), no_space, unsupported
  /// (version), corrupt,
  ///         busy (another process sets the bus up and does not finish)
  static result<session> open(session_options options = {});
  static result<session> open(std::string_view url) {
    return open(session_options{std::string(url), {}, true});
  }

  session(session&&) noexcept;
  session& operator=(session&&) noexcept;
  ~session();

  std::string_view name() const noexcept;
  std::string_view directory() const noexcept;

  /// A publisher bound to `subject`. The default stream is made when no declared stream captures
  /// it.
  /// Errors: invalid_argument (subject), conflict (exclusive: somebody has the lane), no_space,
  /// permission, busy
  result<bus::publisher> publisher(std::string_view subject, publisher_options options = {});

  /// A subscriber of one or several patterns over all streams, also those made later.
  /// Once it returned, no message published to its subjects from then on is missed
  /// (start::new_messages).
  /// Errors: invalid_argument (pattern), no_space (slots, readers), permission
  result<subscriber> subscribe(std::span<const std::string_view> patterns,
                               subscriber_options options = {});
  result<subscriber> subscribe(std::string_view pattern, subscriber_options options = {}) {
    return subscribe(std::span<const std::string_view>(&pattern, 1), std::move(options));
  }

  /// A consumer of a group, which is made when it does not exist. `subject`: a subject or pattern;
  /// it names the stream, and what of it is for the group. Empty: options.stream, and all of it.
  /// Errors: invalid_argument (several streams have such subjects; an option), conflict (the group
  /// exists, and differs: the fields are named), busy (exclusive: somebody is its consumer),
  /// no_space, unsupported (streams with a log)
  result<bus::consumer> consume(std::string_view subject, consumer_options options);

  /// Errors: invalid_argument (each field), conflict (it exists), no_space, not_found (stream)
  result<void> add_group(const group_config& config);
  /// Its dead letters go with it.
  /// Errors: not_found, busy
  result<void> remove_group(std::string_view stream, std::string_view group);
  /// Nobody gets messages until then, or for ever. Leases that are out stay.
  /// Errors: not_found
  result<void> pause_group(std::string_view stream, std::string_view group,
                           std::optional<std::chrono::nanoseconds> time = {});
  result<void> resume_group(std::string_view stream, std::string_view group);
  /// Makes the group's indexes anew from what its messages say of themselves, also when its state
  /// is damaged. How many of them were nonsense, and were dropped.
  /// Errors: not_found, busy
  result<std::uint32_t> repair_group(std::string_view stream, std::string_view group);
  result<group_info> group(std::string_view stream, std::string_view group) const;
  /// Of one stream, or of all.
  result<std::vector<group_info>> groups(std::string_view stream = {}) const;
  /// What is out, or waits to be handed out again; at most `max`.
  result<std::vector<pending_message>> pending(std::string_view stream, std::string_view group,
                                               std::size_t max = 1000) const;
  /// The next messages that nobody has claimed, without claiming them.
  result<std::vector<peeked_message>> peek(std::string_view stream, std::string_view group,
                                           std::size_t max = 10) const;
  /// Dead letters from a sequence on, at most `max`.
  result<std::vector<dead_letter>> dead_letters(std::string_view stream, std::string_view group,
                                                std::uint64_t from = 0,
                                                std::size_t max = 1000) const;
  /// Drops all dead letters up to `sequence`. How many went.
  result<std::uint64_t> drop_dead_letters(std::string_view stream, std::string_view group,
                                          std::uint64_t sequence = ~0ull);

  /// Errors: invalid_argument (each field), conflict (exists differently, or overlaps: both are
  /// named), no_space, busy Adding a stream that exists with the same configuration is ok.
  result<void> add_stream(const stream_config& config);
  /// Errors: not_found, busy
  result<void> remove_stream(std::string_view name);
  /// Puts right what troubles() finds of the stream's lanes: how many there were. Publishers go on
  /// meanwhile.
  /// Errors: not_found, busy (who has a lane does not go on)
  result<unsigned> repair_stream(std::string_view name);
  result<stream_info> stream(std::string_view name) const;

  /// Only of streams with a log; they need busd.
  /// Errors: unavailable (no busd), not_found, invalid_argument (a field that cannot be changed: it
  /// is named)
  result<void> edit_stream(const stream_config& config);
  /// Everything below the sequence goes, in every lane; ~0: everything.
  result<void> purge_stream(std::string_view name, std::uint64_t below);
  /// Nobody can publish to it any more, until it is unsealed.
  result<void> seal_stream(std::string_view name, bool sealed = true);
  /// Makes a stream from a copy that copy_log made; busd reads it from there. New messages continue
  /// above every sequence of the copy. Returns how many messages there are of how many.
  /// `damaged_too`: also from a copy of which something is missing or changed.
  /// Errors: unavailable (no busd), not_found (no finished copy), conflict, corrupt
  result<backup_counts> restore_stream(std::string_view name, std::string_view directory,
                                       bool damaged_too = false);
  /// How busd does.
  /// Errors: unavailable (no busd)
  result<keeper_info> keeper() const;

  /// Pictures of what is there now, read without disturbing anybody.
  result<std::vector<stream_info>> streams() const;
  result<std::vector<process_info>> processes() const;
  /// Streams whose files cannot be used, each with what to do about it.
  std::vector<error> broken_streams() const;
  /// Words in shared memory that block publishers, or cannot be true: a lock that nobody has, a
  /// lane that says its stream was removed; and processes that cannot be looked at. Takes 40 ms.
  std::vector<error> troubles() const;

 private:
  explicit session(std::shared_ptr<session_core> core) noexcept;
  std::shared_ptr<session_core> core_;
};

inline result<session> open(std::string_view url = {}) { return session::open(url); }

/// Directory that holds the bus of `url`, and others: its `root=`, else $BUS_ROOT, else /dev/shm.
/// Errors: invalid_argument
BUS_EXPORT result<std::string> root_of(std::string_view url);
/// Names of the buses of this user on this host.
BUS_EXPORT std::vector<std::string> list_buses(std::string_view root = {});
/// Removes a bus with everything in it.
/// Errors: not_found, busy (live processes, unless `force`), permission
BUS_EXPORT result<void> remove_bus(std::string_view url, bool force = false);

}  // namespace bus
