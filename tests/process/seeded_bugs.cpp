// Tests of the checks: each check is given the fault that it exists for and must complain. Real
// processes, real messages.

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/mman.h>

#include "failpoint_plan.hpp"
#include "layout/lane.hpp"
#include "layout/process.hpp"
#include "stage.hpp"
#include "sync/owner_lock.hpp"

namespace {

using namespace test;
using kind = complaint_kind;

// A copy of a message, to be changed before it is judged.
struct kept {
  std::uint64_t sequence;
  std::string subject;
  std::vector<std::byte> payload;
  std::optional<std::string> header;

  explicit kept(const bus::message& m)
      : sequence(m.sequence()),
        subject(m.subject()),
        payload(m.payload().begin(), m.payload().end()) {
    if (const auto found = m.header("n")) header = std::string(*found);
  }
  void judge(delivery_checker& checker) const {
    checker.on_message(arrival{sequence, subject, payload,
                               header ? std::optional<std::string_view>(*header) : std::nullopt});
  }
};

// The survivor publishes, with `fault` between the subscriber and the checker. Returns the
// checker's complaints.
class SeededBugs : public ::testing::Test {
 protected:
  void SetUp() override { ::alarm(60); }
  void TearDown() override { ::alarm(0); }

  // `fault` is called with the n-th message, from 1.
  std::vector<complaint> with(
      const std::function<void(std::uint64_t, kept, delivery_checker&)>& fault) {
    stage::options on;
    on.config = small_stream("k", bus::overflow::block);
    stage s(on);
    std::uint64_t count = 0;
    s.intercept([&](const bus::message& m, delivery_checker& checker) {
      fault(++count, kept(m), checker);
    });
    s.pump_until([&] { return count > 300; });
    s.finish();
    return s.checker().complaints();
  }
  static bool has(const std::vector<complaint>& all, kind wanted) {
    return std::any_of(all.begin(), all.end(),
                       [&](const complaint& c) { return c.kind == wanted; });
  }
};

// Maps the lane of "k", to damage it as no library would.
class lane_words {
 public:
  explicit lane_words(const scratch& place) {
    const int file = ::open((place.stream("k") + "/lane-0").c_str(), O_RDWR | O_CLOEXEC);
    bytes_ = bus::layout::lane_data_offset + 64 * 1024;
    at_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (at_ == MAP_FAILED) std::abort();
  }
  ~lane_words() { ::munmap(at_, bytes_); }
  bus::layout::lane_header& header() const { return *static_cast<bus::layout::lane_header*>(at_); }
  std::byte* data() const { return static_cast<std::byte*>(at_) + bus::layout::lane_data_offset; }

 private:
  void* at_;
  std::size_t bytes_;
};

std::uint32_t lock_key_of(const scratch& place, std::uint32_t process) {
  const std::string path = place.directory() + "/processes/" + std::to_string(process);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  bus::layout::process_header header{};
  if (file < 0 || ::pread(file, &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header))
    std::abort();
  ::close(file);
  return header.identity.lock_key;
}

}  // namespace

TEST_F(SeededBugs, NoFaultNoComplaint) {
  const auto found = with([](std::uint64_t, const kept& m, delivery_checker& to) { m.judge(to); });
  for (const auto& c : found) ADD_FAILURE() << complaint_name(c.kind) << ": " << c.text;
}

TEST_F(SeededBugs, ALostMessageIsCaught) {
  const auto found = with([](std::uint64_t n, const kept& m, delivery_checker& to) {
    if (n != 100) m.judge(to);
  });
  EXPECT_TRUE(has(found, kind::lost));
  EXPECT_TRUE(has(found, kind::sequence));
}

TEST_F(SeededBugs, ALostMessageIsCaughtThoughSequencesWereRenumbered) {
  const auto found = with([](std::uint64_t n, kept m, delivery_checker& to) {
    if (n == 100) return;
    if (n > 100) --m.sequence;
    m.judge(to);
  });
  EXPECT_TRUE(has(found, kind::lost));
  EXPECT_FALSE(has(found, kind::sequence));
}

TEST_F(SeededBugs, ADuplicateIsCaught) {
  const auto found = with([](std::uint64_t n, const kept& m, delivery_checker& to) {
    m.judge(to);
    if (n == 100) m.judge(to);
  });
  EXPECT_TRUE(has(found, kind::duplicate));
}

TEST_F(SeededBugs, AnAlteredByteIsCaughtWhereverItIs) {
  for (const std::size_t at : {std::size_t{0}, offsetof(stamp, number), offsetof(stamp, check),
                               sizeof(stamp), std::size_t{~0u}}) {
    const auto found =
        with([&, done = false](std::uint64_t n, kept m, delivery_checker& to) mutable {
          if (n >= 100 && !done && m.payload.size() > sizeof(stamp)) {
            done = true;
            m.payload[std::min(at, m.payload.size() - 1)] ^= std::byte{0x10};
          }
          m.judge(to);
        });
    EXPECT_TRUE(has(found, kind::altered)) << at;
  }
}

TEST_F(SeededBugs, AnotherSizeSubjectOrHeaderIsCaught) {
  EXPECT_TRUE(has(with([](std::uint64_t n, kept m, delivery_checker& to) {
                    if (n == 100) m.payload.push_back({});
                    m.judge(to);
                  }),
                  kind::altered));
  EXPECT_TRUE(has(with([](std::uint64_t n, kept m, delivery_checker& to) {
                    if (n == 100) m.subject += "x";
                    m.judge(to);
                  }),
                  kind::altered));
  EXPECT_TRUE(has(with([](std::uint64_t n, kept m, delivery_checker& to) {
                    if (n == 100) m.header = "other";
                    m.judge(to);
                  }),
                  kind::altered));
}

TEST_F(SeededBugs, AnotherOrderIsCaught) {
  std::optional<kept> late;
  const auto found = with([&](std::uint64_t n, const kept& m, delivery_checker& to) {
    if (n == 100) {
      late = m;
      return;
    }
    m.judge(to);
    if (n == 101) late->judge(to);
  });
  EXPECT_TRUE(has(found, kind::reordered));
}

TEST_F(SeededBugs, AMessageThatNobodyPublishedIsCaught) {
  const auto found = with([](std::uint64_t n, kept m, delivery_checker& to) {
    m.judge(to);
    if (n != 100) return;
    m.payload = make_payload(100, 0, 1'000'000, m.subject);
    m.header.reset();
    ++m.sequence;
    m.judge(to);
  });
  EXPECT_TRUE(has(found, kind::uncommitted));
}

TEST_F(SeededBugs, AGapThatSaysTooLittleIsCaught) {
  const auto found = with([](std::uint64_t n, const kept& m, delivery_checker& to) {
    if (n == 100) to.on_gap(m.sequence, 1);  // three are lost
    if (n < 100 || n > 102) m.judge(to);
  });
  EXPECT_TRUE(has(found, kind::sequence));
  EXPECT_TRUE(has(found, kind::lost));
}

TEST_F(SeededBugs, ACommittedMessageThatTheDeadTookAlongIsCaught) {
  shared_value<journal> lives;
  (*lives)[3].begun = 12;
  (*lives)[3].done = 10;
  delivery_checker checker(*lives);
  for (std::uint64_t n = 1; n <= 9; ++n) {
    const auto payload = make_payload(80, 3, n, "k");
    checker.on_message(arrival{n, "k", payload, std::nullopt});
  }
  EXPECT_TRUE(checker.complaints().empty()) << checker.report();
  checker.settle(3);
  EXPECT_TRUE(checker.has(kind::lost));
}

TEST_F(SeededBugs, HalfABatchIsCaught) {
  for (const std::uint64_t came : {10u, 11u, 12u}) {
    shared_value<journal> lives;
    (*lives)[3].begun = 12;
    (*lives)[3].done = 10;
    delivery_checker checker(*lives);
    for (std::uint64_t n = 1; n <= came; ++n) {
      const auto payload = make_payload(80, 3, n, "k");
      checker.on_message(arrival{n, "k", payload, std::nullopt});
    }
    checker.settle(3);
    EXPECT_EQ(checker.has(kind::torn_batch), came == 11) << came << checker.report();
  }
}

// --- faults in the ring itself

// A publisher overwrites part of a record that was just committed.
TEST_F(SeededBugs, AScribblingVictimIsCaught) {
  stage::options on;
  on.config = small_stream("k", bus::overflow::block);
  stage s(on);
  s.pause_survivor();
  (void)s.pump_until([&] { return s.checker().last_of(0) == s.survivor_done(); });
  const std::uint32_t life = s.new_life();
  child victim([&] {
    auto session = bus::open(s.url());
    auto made = session ? mixed_publisher::open(*session, s.lives(), life, s.stream())
                        : std::move(session.error());
    if (!made) return 10;
    const lane_words lane(s.place());
    const std::uint64_t tail = lane.header().turn.tail.load();
    if (made->one(400) != bus::publish_status::ok) return 11;
    lane.data()[(tail + 200) % (64 * 1024)] ^= std::byte{1};
    return 0;
  });
  EXPECT_EQ(victim.wait(), 0);  // nothing is polled meanwhile
  s.resume_survivor();
  (void)s.recover(life);
  s.finish();
  EXPECT_TRUE(s.checker().has(kind::altered)) << s.checker().report();
}

// A dead process's lock is simply freed, not taken over and repaired. Records that it committed
// but did not count are overwritten.
TEST_F(SeededBugs, ALaneThatIsNotRepairedIsCaught) {
  shared_value<failpoint_plan> plan;
  stage::options on;
  on.config = small_stream("k", bus::overflow::block);
  stage s(on);
  s.pause_survivor();
  const std::uint32_t life = s.new_life();
  plan->kill_at.store(failpoint::publish_committed);
  plan->kill_at_hit.store(10);
  child victim([&] {
    auto session = bus::open(s.url());
    auto made = session ? mixed_publisher::open(*session, s.lives(), life, s.stream())
                        : std::move(session.error());
    if (!made) return 10;
    follow(&*plan);
    for (int i = 0; i < 20; ++i) (void)made->one(200);
    return 11;
  });
  EXPECT_TRUE(WIFSIGNALED(s.pump_until_ended(victim)));
  for (int i = 0; i < 20; ++i) s.pump();
  EXPECT_TRUE(s.checker().complaints().empty()) << s.checker().report();
  {
    const lane_words lane(s.place());
    EXPECT_NE(lane.header().turn.lock.load(), 0u) << "the dead process must have held the lock";
    lane.header().turn.lock.store(0);
  }
  s.resume_survivor();
  (void)s.recover(life);
  EXPECT_FALSE(s.checker().complaints().empty()) << "an unrepaired lane went unnoticed";
  std::printf("an unrepaired lane:%s\n", s.checker().report().c_str());
}

// A process that never releases the lock holds it: the survivor's stall is noticed.
TEST_F(SeededBugs, AStallIsCaught) {
  shared_value<std::atomic<std::int64_t>> killed_ns;
  stage::options on;
  on.config = small_stream("k", bus::overflow::block);
  on.killed_ns = &*killed_ns;
  stage s(on);
  {
    const lane_words lane(s.place());
    s.pause_survivor();
    const auto readers = readers_in_table(s.place(), "k");
    ASSERT_FALSE(readers.empty());
    // With that process's lock_key: a word without it would be taken over.
    lane.header().turn.lock.store(
        bus::sync::lock_word_of(*readers.begin(), lock_key_of(s.place(), *readers.begin())));
  }
  killed_ns->store(now_ns());
  s.resume_survivor();
  (void)s.recover(0);
  EXPECT_TRUE(s.checker().has(kind::stalled)) << s.checker().report();
}
