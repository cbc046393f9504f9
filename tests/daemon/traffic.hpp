#pragma once
/// traffic: what publishers and readers of the busd tests do in their own processes, and what
/// they record in memory that survives them.

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "delivery_checker.hpp"
#include "journal.hpp"
#include "scratch.hpp"

namespace test {

/// A message whose confirm from disk was received.
struct confirmed_note {
  std::uint64_t sequence = 0;
  std::uint64_t number = 0;
  std::uint32_t life = 0;
  std::uint32_t lane = 0;
};
struct confirmed_book {
  static constexpr std::size_t notes_max = 4'000'000;  // pages that are never written cost nothing
  std::atomic<std::uint64_t> count{0};
  std::array<confirmed_note, notes_max> notes;
  std::array<std::atomic<bool>, notes_max> written;

  void add(const confirmed_note& note) noexcept {
    const std::uint64_t at = count.fetch_add(1);
    if (at >= notes_max) return;
    notes[at] = note;
    written[at].store(true, std::memory_order_release);
  }
  std::size_t size() const noexcept { return std::min<std::size_t>(count.load(), notes_max); }
};

struct traffic_words {
  std::atomic<bool> stop_publishers{false}, busd_is_dead{false};
  std::atomic<std::uint32_t> lives_used{0};
  std::atomic<std::uint64_t> read_up_to{0};     ///< last sequence for surviving readers; 0: none
  std::atomic<std::uint64_t> highest_given{0};  ///< of the sequences returned to publishers
  std::atomic<std::uint64_t> highest_read{0};   ///< that any reader got
  std::atomic<std::int64_t> longest_publish_ns{0}, longest_pause_with_busd_dead_ns{0};
  std::atomic<std::uint64_t> unconfirmed{0}, unavailable{0}, refused{0}, published{0},
      published_with_busd_dead{0}, replays{0}, replayed{0};
  std::array<char, 480> complaint{};
  std::atomic<bool> has_complaint{false};

  void complain(const std::string& words) noexcept {
    if (has_complaint.exchange(true)) return;
    std::strncpy(complaint.data(), words.c_str(), complaint.size() - 1);
  }
};

template <class T>
void raise(std::atomic<T>& highest, T value) noexcept {
  for (T seen = highest.load(); seen < value && !highest.compare_exchange_weak(seen, value);) {
  }
}

struct traffic {
  shared_value<journal> lives;
  shared_value<confirmed_book> book;
  shared_value<traffic_words> words;

  std::uint32_t new_life() { return words->lives_used++; }
};

enum class confirm_way { none, each, waited, called };

struct publisher_plan {
  std::string subject;
  std::uint32_t life = 0;
  confirm_way way = confirm_way::none;
  std::uint64_t seed = 1;
  std::size_t largest = 2000;
  unsigned pause_us = 60;  ///< after each message; 0: none
  bool measures = false;   ///< the longest call while busd is dead and the ring has room
  std::uint64_t messages = ~0ull;
};

/// Publishes until words.stop_publishers or plan.messages. Returns the child's exit status: 0, or
/// it complained.
int publish_numbered(const std::string& url, traffic& shared, const publisher_plan& plan);

/// Reads live and is never killed: every sequence once, each life's messages in order. Returns
/// when it has read words.read_up_to. `falls_behind`: sleeps now and then, so that it must read
/// the log.
int read_live(const std::string& url, traffic& shared, const std::string& pattern,
              std::atomic<bool>& ready, bool falls_behind, std::uint64_t seed);

/// Replays in a loop, alternately from the start and from a random sequence.
int read_again_and_again(const std::string& url, traffic& shared, const std::string& pattern,
                         std::uint64_t seed);

/// One message of a replay.
struct found {
  std::uint64_t sequence = 0;
  std::uint64_t number = 0;
  std::uint32_t life = 0;
};
struct gap_seen {
  std::uint64_t first = 0, count = 0;
  bus::gap_reason reason = bus::gap_reason::overwritten;
  std::uint64_t after = 0;  ///< number of messages before it
};
struct replay {
  std::vector<found> messages;
  std::vector<gap_seen> gaps;
  std::string flaw;  ///< contents, subject, order, a failure; empty: none
};
/// Reads lane 0 from `from` up to `last`; also ends when nothing comes for a long time.
replay read_all(bus::session& session, const std::string& pattern, const bus::start& from,
                std::uint64_t last);

/// Checks that each note of the book is in `all` once, at its sequence. Returns what is wrong.
std::string missing_of(const confirmed_book& book, std::size_t from_note, const replay& all);

}  // namespace test
