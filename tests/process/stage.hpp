#pragma once
/// stage: a bus with one stream, a surviving publisher in another process and a checked
/// subscriber in this one, for tests that kill other processes.

#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "delivery_checker.hpp"
#include "journal.hpp"
#include "scratch.hpp"

namespace test {

using namespace std::chrono_literals;

inline constexpr auto watchdog_patience = 5s;  // generous: a survivor that takes longer is stalled

/// SIGALRM ends the whole program after this many seconds, whatever hangs.
struct alarm_guard {
  explicit alarm_guard(unsigned seconds) { ::alarm(seconds); }
  ~alarm_guard() { ::alarm(0); }
};

/// A child's reason for giving up; read by the test.
struct remark {
  char text[512] = {};
  void say(const std::string& words) noexcept;
};

/// Publishes messages of every kind for one life, and keeps the journal.
class mixed_publisher {
 public:
  struct options {
    bus::publish_mode mode = bus::publish_mode::shared;
    std::size_t early_bytes = 0;
    unsigned subjects = 16;  ///< in addition to its own
  };
  /// `stream`: name of the stream and first token of its subjects.
  static bus::result<mixed_publisher> open(bus::session& session, journal& lives,
                                           std::uint32_t life, std::string stream, options wanted);
  static bus::result<mixed_publisher> open(bus::session& session, journal& lives,
                                           std::uint32_t life, std::string stream) {
    return open(session, lives, life, std::move(stream), options());
  }

  /// One call of a random kind.
  bus::publish_status step(std::mt19937_64& random);
  bus::publish_status one(std::size_t bytes, bool headers = false);
  bus::publish_status to_subject(unsigned which, std::size_t bytes);
  bus::publish_status batch(std::size_t count, std::size_t bytes);
  bus::publish_status mixed_batch(std::size_t count, std::size_t bytes);
  bus::publish_status loan(std::size_t bytes);
  bus::error last_error() const { return publisher_.last_error(); }

 private:
  mixed_publisher(bus::publisher publisher, journal_entry& entry, std::uint32_t life,
                  std::string stream, options wanted);
  bus::publish_status record(std::uint64_t count, const std::function<bus::published()>& call);
  std::string subject_of(unsigned which) const;
  std::uint64_t next() const noexcept { return entry_->done.load(std::memory_order_relaxed) + 1; }

  bus::publisher publisher_;
  journal_entry* entry_;
  std::uint32_t life_;
  std::string stream_;
  options wanted_;
};

/// What a subscriber does until it is killed: attach, poll, wait, sleep on a descriptor, detach,
/// again. Checks the bytes of the messages, not their delivery. 0: success.
int consume_in_every_way(bus::session& session, const std::string& stream, std::mt19937_64& random,
                         int rounds, remark& why);

class stage {
 public:
  struct options {
    bus::stream_config config;
    bool early = false;                              ///< the checked subscriber reads early
    bool survivor = true;                            ///< with a surviving publisher
    std::chrono::microseconds pace{30};              ///< between its messages
    std::atomic<std::int64_t>* killed_ns = nullptr;  ///< shared: time of the last kill; null: own
    std::function<void()> in_survivor;               ///< called first in the surviving publisher
  };
  explicit stage(options wanted);
  ~stage();

  const scratch& place() const noexcept { return place_; }
  const std::string& stream() const noexcept { return wanted_.config.name; }
  std::string url() const { return place_.url(); }
  bus::session& session() noexcept { return *session_; }
  delivery_checker& checker() noexcept { return *checker_; }
  journal& lives() noexcept { return *lives_; }
  remark& why() noexcept { return *why_; }
  std::uint32_t new_life();

  /// Delivers what is there to the checker; sleeps briefly if there is nothing.
  void pump();
  bool pump_until(const std::function<bool()>& condition,
                  std::chrono::milliseconds patience = watchdog_patience);
  /// Pumps until the child has ended; one that does not end is killed and complained of. Returns
  /// the wait status.
  int pump_until_ended(child& who, std::chrono::milliseconds patience = 20s);

  /// After the death or end of publisher `life`: waits for the survivor's next success and for
  /// all earlier messages, and checks them. Returns the nanoseconds from the kill to that
  /// success; 0 without a survivor or a kill.
  std::int64_t recover(std::uint32_t life);

  void pause_survivor();
  void resume_survivor();
  pid_t survivor_pid() const { return survivor_ ? survivor_->pid() : -1; }
  std::uint64_t survivor_done() const { return (*lives_)[0].done.load(std::memory_order_acquire); }
  std::uint64_t survivor_begun() const {
    return (*lives_)[0].begun.load(std::memory_order_acquire);
  }
  void forget_kill() noexcept;
  void kill_now(const child& who) noexcept;
  /// Replaces the delivery of messages to the checker, for the checker's own tests.
  void intercept(std::function<void(const bus::message&, delivery_checker&)> with) {
    intercept_ = std::move(with);
  }

  /// Ends the survivor, receives the rest, settles everything. Complaints are in the checker.
  void finish();
  /// What dead processes left in the bus's directory after a new process opened the bus. Empty:
  /// nothing.
  std::string leftovers();

 private:
  struct survivor_words {
    std::atomic<bool> stop{false}, pause{false}, paused{false}, failed{false};
    std::atomic<std::int64_t> killed_ns{0}, first_ok_ns{0};
  };
  int survive();
  bool pump_until_all_lanes_are_read();

  options wanted_;
  scratch place_;
  shared_value<journal> lives_;
  shared_value<survivor_words> words_;
  shared_value<remark> why_;
  std::atomic<std::int64_t>* killed_ns_;
  std::unique_ptr<delivery_checker> checker_;
  std::optional<bus::session> session_;
  std::optional<bus::subscriber> subscriber_;
  std::optional<child> survivor_;
  std::function<void(const bus::message&, delivery_checker&)> intercept_;
  std::uint32_t lives_used_ = 1;  // 0 is the survivor
  bool finished_ = false;
};

/// Ids of the processes, live or dead, in the readers table of lane 0 of `stream`.
std::set<std::uint32_t> readers_in_table(const scratch& place, const std::string& stream);
/// For people: the control words of lane 0, and the records up to its tail.
std::string lane_facts(const scratch& place, const std::string& stream);
std::vector<std::string> names_in(const std::string& directory);
std::size_t open_descriptors(pid_t pid = ::getpid());
std::size_t mapping_count(pid_t pid = ::getpid());

/// Times in nanoseconds, printed as percentiles.
struct times {
  std::vector<std::int64_t> all;
  void add(std::int64_t ns) {
    if (ns > 0) all.push_back(ns);
  }
  std::int64_t at(double share);
  std::size_t within(std::int64_t ns) const;
  std::string line();
};

}  // namespace test
