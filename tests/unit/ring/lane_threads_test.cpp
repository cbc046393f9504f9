// The lane code on threads that share one mapping, with the product's atomics: for
// ThreadSanitizer, and for races that only real processors produce. Each record determines its
// own contents, so a torn or repeated one is noticed.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <thread>

#include "ring/lane_box.hpp"
#include "support/seed.hpp"
#include "sync/owner_lock.hpp"

namespace bus::ring {
namespace {

using namespace test;
using namespace std::chrono_literals;

constexpr auto duration = 1200ms;

// A payload holds a number, its own length in words, and words derived from the number.
constexpr std::size_t payload_words_max = 120;

std::uint64_t word_of(std::uint64_t number, std::size_t i) {
  return (number + 1) * 0x9e3779b97f4a7c15u + i;
}

struct payload {
  std::array<std::uint64_t, payload_words_max> words;
  std::size_t bytes = 0;

  void make(std::uint64_t number, std::size_t count) {
    words[0] = number;
    words[1] = count;
    for (std::size_t i = 2; i < count; ++i) words[i] = word_of(number, i);
    bytes = count * 8;
  }
  bool intact() const {
    if (bytes < 16 || words[1] * 8 != bytes) return false;
    for (std::size_t i = 2; i < words[1]; ++i)
      if (words[i] != word_of(words[0], i)) return false;
    return true;
  }
};

// One reader's account: sequences without holes except the reported ones, and intact contents.
struct checker {
  std::uint64_t first = 0, expected = 0, delivered = 0, lost = 0, gaps = 0;
  std::uint64_t torn = 0, out_of_order = 0;
  // by publisher id: the number that must come next; empty: not checked
  std::vector<std::uint64_t> next_of_writer;
  std::vector<payload> batch;
  std::vector<std::uint64_t> seqs, publishers;

  verdict take(const record_view& view) {
    batch.emplace_back();
    payload& copy = batch.back();
    copy.bytes = std::min<std::size_t>(view.shape.payload_bytes, sizeof copy.words);
    hardware::copy_out(copy.words.data(), view.payload(), copy.bytes);
    seqs.push_back(view.seq);
    publishers.push_back(view.publisher_id());
    return verdict::taken;
  }
  void undo() {
    batch.pop_back();
    seqs.pop_back();
    publishers.pop_back();
  }
  void settle() {
    for (std::size_t i = 0; i < batch.size(); ++i) {
      out_of_order += seqs[i] != expected;
      expected = seqs[i] + 1;
      torn += !batch[i].intact();
      if (!next_of_writer.empty()) {
        auto& next = next_of_writer.at(publishers[i]);
        out_of_order += batch[i].words[0] != next;
        next = batch[i].words[0] + 1;
      }
      ++delivered;
    }
    batch.clear();
    seqs.clear();
    publishers.clear();
  }
};

// Reads until `done` is set and nothing is left. Returns false at an impossible record.
bool read_until(reader& r, checker& c, const std::atomic<bool>& done, bool release) {
  c.first = c.expected = r.next_seq();
  for (std::uint32_t empty = 0;;) {
    const bool last_round = done.load(std::memory_order_acquire);
    const poll_outcome outcome = r.poll(64, c);
    c.settle();
    if (release) r.release();
    switch (outcome) {
      case poll_outcome::more: continue;
      case poll_outcome::lapped: {
        std::uint64_t first_lost = 0;
        while (!r.resume(first_lost)) std::this_thread::yield();
        c.out_of_order += first_lost != c.expected;
        c.lost += r.next_seq() - first_lost;
        ++c.gaps;
        c.expected = r.next_seq();
        continue;
      }
      case poll_outcome::empty:
        // At a lapped position a reader may see nothing: the last polls include a lap check.
        if (last_round && ++empty > reader::lap_check_interval) return true;
        if (!last_round) std::this_thread::yield();
        continue;
      default: return false;
    }
  }
}

void expect_exact(const checker& c, std::uint64_t last_seq) {
  EXPECT_EQ(c.torn, 0u);
  EXPECT_EQ(c.out_of_order, 0u);
  EXPECT_EQ(c.delivered + c.lost, last_seq + 1 - c.first)
      << "delivered " << c.delivered << ", lost " << c.lost;
  EXPECT_GT(c.delivered, 0u);
}

TEST(LaneThreads, AnOverwritingRingLosesExactlyWhatItReports) {
  lane_box box(true);
  const std::uint64_t seed = test::seed();
  std::atomic<bool> done{false};
  std::array<checker, 3> checkers;
  std::array<std::atomic<bool>, 3> fine{};
  std::uint64_t last_seq = 0;
  {
    std::vector<std::jthread> threads;
    std::atomic<int> ready{0};
    for (std::size_t i = 0; i < checkers.size(); ++i) {
      threads.emplace_back([&, i] {
        auto r = box.new_reader(i);
        EXPECT_TRUE(enter_oldest(r));
        ++ready;
        if (i == 0) std::this_thread::sleep_for(20ms);  // this reader, at least, is lapped
        fine[i] = read_until(r, checkers[i], done, false);
        r.leave();
      });
    }
    while (ready != 3) std::this_thread::yield();
    auto w = box.new_writer();
    std::mt19937_64 random(seed);
    payload p;
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end) {
      for (int i = 0; i < 64; ++i) {
        p.make(w.next_seq(), 2 + random() % (payload_words_max - 2));
        const auto head = head_of(p.bytes);
        ASSERT_TRUE(box.reserve(w, head.shape.total_bytes()));
        w.write(0, head, 1, p.words.data());
        w.commit(head.shape.total_bytes(), 1, 1);
      }
      if (random() % 4 == 0) std::this_thread::sleep_for(50us);  // sometimes the readers catch up
    }
    last_seq = w.next_seq() - 1;
    done.store(true, std::memory_order_release);
  }
  for (std::size_t i = 0; i < checkers.size(); ++i) {
    EXPECT_TRUE(fine[i]) << "reader " << i << " met something that is no record";
    expect_exact(checkers[i], last_seq);
  }
  EXPECT_GT(checkers[0].gaps, 0u) << "nobody was lapped: the test tested nothing";
}

TEST(LaneThreads, AGatedRingLosesNothing) {
  lane_box box(false);
  const std::uint64_t seed = test::seed();
  std::atomic<bool> done{false};
  std::array<checker, 3> checkers;
  std::array<std::atomic<bool>, 3> fine{};
  std::uint64_t last_seq = 0, full = 0;
  {
    std::vector<std::jthread> threads;
    std::atomic<int> ready{0};
    for (std::size_t i = 0; i < checkers.size(); ++i) {
      threads.emplace_back([&, i] {
        auto r = box.new_reader(i);
        EXPECT_TRUE(enter_oldest(r));
        ++ready;
        fine[i] = read_until(r, checkers[i], done, true);
        r.leave();
      });
    }
    while (ready != 3) std::this_thread::yield();
    auto w = box.new_writer();
    std::mt19937_64 random(seed);
    payload p;
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end) {
      p.make(w.next_seq(), 2 + random() % (payload_words_max - 2));
      const auto head = head_of(p.bytes);
      if (!box.reserve(w, head.shape.total_bytes())) {
        ++full;
        std::this_thread::yield();
        continue;
      }
      w.write(0, head, 1, p.words.data());
      w.commit(head.shape.total_bytes(), 1, 1);
    }
    last_seq = w.next_seq() - 1;
    done.store(true, std::memory_order_release);
  }
  for (std::size_t i = 0; i < checkers.size(); ++i) {
    EXPECT_TRUE(fine[i]) << i;
    expect_exact(checkers[i], last_seq);
    EXPECT_EQ(checkers[i].lost, 0u) << i;
  }
  EXPECT_GT(full, 0u) << "the ring was never full: the test tested nothing";
}

TEST(LaneThreads, ReadersThatComeAndGoAreNeverLappedByAGatedPublisher) {
  lane_box box(false);
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> entered{0}, failures{0};
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        while (!done.load(std::memory_order_acquire)) {
          auto r = box.new_reader(i);
          const bool in = i == 0 ? enter_oldest(r) : enter_newest(r);
          if (!in) {
            std::this_thread::yield();
            continue;
          }
          ++entered;
          checker c;
          c.expected = r.next_seq();
          for (int polls = 0; polls < 20; ++polls) {
            const poll_outcome outcome = r.poll(64, c);
            c.settle();
            r.release();
            if (outcome != poll_outcome::empty && outcome != poll_outcome::more) ++failures;
          }
          failures += c.torn + c.out_of_order;
          r.leave();
        }
      });
    }
    auto w = box.new_writer();
    payload p;
    const auto end = std::chrono::steady_clock::now() + duration;
    for (std::uint64_t n = 0; std::chrono::steady_clock::now() < end;) {
      p.make(n, 2 + n % (payload_words_max - 2));
      const auto head = head_of(p.bytes);
      if (!box.reserve(w, head.shape.total_bytes())) {
        std::this_thread::yield();
        continue;
      }
      w.write(0, head, 1, p.words.data());
      w.commit(head.shape.total_bytes(), 1, 1);
      ++n;
    }
    done.store(true, std::memory_order_release);
  }
  EXPECT_EQ(failures, 0u);
  EXPECT_GT(entered, 10u);
}

struct living_peers : sync::peers {
  layout::life_cell cell{};
  living_peers() { cell.word = 4711; }
  const layout::life_cell* life_of(std::uint32_t) noexcept override { return &cell; }
  bool proven_dead(std::uint32_t) noexcept override { return false; }
  std::string describe(std::uint32_t) override { return {}; }
};

// Two writers take turns under the lane's lock, as client/lane_port does.
void share(bool overwriting) {
  lane_box box(overwriting);
  living_peers everybody;
  std::atomic<bool> done{false};
  std::array<checker, 2> checkers;
  std::array<std::atomic<bool>, 2> fine{};
  std::array<std::uint64_t, 2> sent{};
  {
    std::vector<std::jthread> readers;
    std::atomic<int> ready{0};
    for (std::size_t i = 0; i < checkers.size(); ++i) {
      readers.emplace_back([&, i] {
        if (!overwriting) checkers[i].next_of_writer.assign(2, 0);
        auto r = box.new_reader(i);
        EXPECT_TRUE(enter_oldest(r));
        ++ready;
        fine[i] = read_until(r, checkers[i], done, true);
        r.leave();
      });
    }
    while (ready != 2) std::this_thread::yield();
    {
      std::vector<std::jthread> writers;
      const auto end = std::chrono::steady_clock::now() + duration;
      for (std::uint32_t id = 0; id < 2; ++id) {
        writers.emplace_back([&, id] {
          writer w(box.memory);
          payload p;
          auto& lock = box.header().turn.lock;
          while (std::chrono::steady_clock::now() < end) {
            p.make(sent[id], 2 + sent[id] % (payload_words_max - 2));
            const auto head = head_of(p.bytes, 0, id);
            std::uint32_t holder = 0;
            if (!sync::try_lock<hardware>(lock, id + 1) &&
                sync::wait_lock(lock, id + 1, end + 60s, everybody, holder) !=
                    sync::lock_result::taken)
              return;
            w.load_turn();
            const bool room = box.reserve(w, head.shape.total_bytes());
            if (room) {
              w.write(0, head, 1, p.words.data());
              w.commit(head.shape.total_bytes(), 1, 1);
              ++sent[id];
            }
            w.store_turn();
            sync::unlock(lock);
            if (!room) std::this_thread::yield();
          }
        });
      }
    }
    done.store(true, std::memory_order_release);
  }
  EXPECT_GT(sent[0], 0u);
  EXPECT_GT(sent[1], 0u);
  for (std::size_t i = 0; i < checkers.size(); ++i) {
    EXPECT_TRUE(fine[i]) << i;
    expect_exact(checkers[i], sent[0] + sent[1]);
    if (overwriting) continue;
    EXPECT_EQ(checkers[i].lost, 0u);
    EXPECT_EQ(checkers[i].next_of_writer, (std::vector<std::uint64_t>{sent[0], sent[1]}));
  }
}

TEST(LaneThreads, TwoSharedWritersOnAGatedRingKeepTheirOrder) { share(false); }
TEST(LaneThreads, TwoSharedWritersOnAnOverwritingRingLoseExactlyWhatIsReported) { share(true); }

#if defined(BUS_THREAD_SANITIZER)

// The same with payloads in plain memory, so that ThreadSanitizer checks that the lane alone
// orders them. With one half of an edge missing, it must report a race. Without ThreadSanitizer
// nothing could be seen, so these tests do not exist.

enum class half { none, release, acquire };

template <sync::edge Edge, half Missing>
struct plain_payloads : hardware {
  using word = sync::word;
  using edge = sync::edge;

  static std::uint64_t load(const word& w, std::memory_order order, edge e) {
    return w.load(kept(order, e));
  }
  static void store(word& w, std::uint64_t value, std::memory_order order, edge e) {
    w.store(value, kept(order, e));
  }
  static std::uint64_t exchange(word& w, std::uint64_t value, std::memory_order order, edge e) {
    return w.exchange(value, kept(order, e));
  }
  static bool compare_exchange(word& w, std::uint64_t& expected, std::uint64_t value,
                               std::memory_order order, edge e) {
    return hardware::compare_exchange(w, expected, value, kept(order, e), e);
  }
  static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
  }

 private:
  static std::memory_order kept(std::memory_order order, edge e) {
    using enum std::memory_order;
    if (e != Edge || Missing == half::none) return order;
    if (order == acq_rel) return Missing == half::release ? acquire : release;
    return order == (Missing == half::release ? release : acquire) ? relaxed : order;
  }
};

constexpr int plain_records = 3000;    // many laps
constexpr int race_was_reported = 66;  // exit code of ThreadSanitizer

// One reader reads in place; one publisher waits for it. Returns how many records were read
// intact.
template <class A>
std::uint64_t read_in_place() {
  lane_box box(false);
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> intact{0};
  lane_reader<A> r(box.memory, &box.pins[0], true);
  if (!r.enter([&](std::uint64_t lowest) { return oldest_waypoint<A>(box.memory, lowest); }))
    return 0;
  std::jthread reading([&] {
    payload copy;
    struct {
      payload& copy;
      std::atomic<std::uint64_t>& intact;
      verdict take(const record_view& view) {
        copy.bytes = std::min<std::size_t>(view.shape.payload_bytes, sizeof copy.words);
        std::memcpy(copy.words.data(), view.payload(), copy.bytes);
        intact += copy.intact();
        return verdict::taken;
      }
      void undo() {}
    } sink{copy, intact};
    for (bool last = false;;) {
      const poll_outcome outcome = r.poll(8, sink);
      r.release();
      if (outcome == poll_outcome::more) continue;
      if (outcome != poll_outcome::empty || last) return;
      last = done.load(std::memory_order_relaxed);
      std::this_thread::yield();
    }
  });
  lane_writer<A> w(box.memory);
  w.load_turn();
  const auto lowest_pin = [&](std::uint64_t tail) {
    return held_position<A>(box.pins[0], lane_box::key, tail, box.memory.capacity_bytes);
  };
  payload p;
  // a weakened reader may stop at garbage
  const auto end = std::chrono::steady_clock::now() + 20s;
  for (int n = 0; n < plain_records && std::chrono::steady_clock::now() < end;) {
    p.make(static_cast<std::uint64_t>(n),
           2 + static_cast<std::size_t>(n) % (payload_words_max - 2));
    const auto head = head_of(p.bytes);
    const std::uint64_t total = head.shape.total_bytes();
    if (!w.has_room(total) && !w.reserve(total, lowest_pin)) {
      std::this_thread::yield();
      continue;
    }
    w.write(0, head, 1, p.words.data());
    w.commit(total, 1, 1);
    ++n;
  }
  done.store(true, std::memory_order_relaxed);
  reading.join();
  return intact;
}

// Two publishers under the lane's lock, on a lane without readers. Returns how many records there
// are.
template <class A>
std::uint64_t publish_in_turn() {
  lane_box box(true);
  auto& lock = box.header().turn.lock;
  const auto work = [&](std::uint32_t id) {
    lane_writer<A> w(box.memory);
    payload p;
    for (int n = 0; n < plain_records;) {
      p.make(static_cast<std::uint64_t>(n), payload_words_max);
      const auto head = head_of(p.bytes, 0, id);
      const std::uint64_t total = head.shape.total_bytes();
      if (!sync::try_lock<A>(lock, id)) {
        std::this_thread::yield();
        continue;
      }
      w.load_turn();
      if (w.has_room(total) || w.reserve(total, [](std::uint64_t tail) { return tail; })) {
        w.write(0, head, 1, p.words.data());
        w.commit(total, 1, 1);
        ++n;
      }
      w.store_turn();
      sync::unlock_word<A>(lock);
      if (n % 16 == 0) std::this_thread::yield();
    }
  };
  { std::jthread first(work, 1), second(work, 2); }
  return sync::load_relaxed(box.header().turn.next_seq) - 1;
}

using whole = plain_payloads<sync::edge::none, half::none>;

TEST(LaneRaces, NoneBetweenAGatedPublisherAndAReaderInPlace) {
  EXPECT_EQ(read_in_place<whole>(), static_cast<std::uint64_t>(plain_records));
}
TEST(LaneRaces, NoneBetweenTwoPublishersUnderTheLock) {
  EXPECT_EQ(publish_in_turn<whole>(), 2u * plain_records);
}

class WeakenedLane : public testing::Test {
 protected:
  WeakenedLane() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

template <sync::edge Edge, half Missing>
void read_weakened() {
  read_in_place<plain_payloads<Edge, Missing>>();
  std::exit(0);
}
template <half Missing>
void publish_weakened() {
  publish_in_turn<plain_payloads<sync::edge::lock, Missing>>();
  std::exit(0);
}
void expect_race(void (*of)()) {
  EXPECT_EXIT(of(), testing::ExitedWithCode(race_was_reported), "data race");
}

TEST_F(WeakenedLane, R1WithoutReleaseIsARace) {
  expect_race(&read_weakened<sync::edge::commit, half::release>);
}
TEST_F(WeakenedLane, R1WithoutAcquireIsARace) {
  expect_race(&read_weakened<sync::edge::commit, half::acquire>);
}
TEST_F(WeakenedLane, G2WithoutReleaseIsARace) {
  expect_race(&read_weakened<sync::edge::cursor, half::release>);
}
TEST_F(WeakenedLane, G2WithoutAcquireIsARace) {
  expect_race(&read_weakened<sync::edge::cursor, half::acquire>);
}
TEST_F(WeakenedLane, L1WithoutReleaseIsARace) { expect_race(&publish_weakened<half::release>); }
TEST_F(WeakenedLane, L1WithoutAcquireIsARace) { expect_race(&publish_weakened<half::acquire>); }

#endif

}  // namespace
}  // namespace bus::ring
