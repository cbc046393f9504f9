// A hostile process writes random words over everything that a subscriber may write, while a
// publisher and another subscriber work. They never crash, never stall for good, and lose nothing
// unreported. Random words over the rings themselves: readers may stop with an error, but neither
// crash nor hang.

#include <atomic>
#include <filesystem>
#include <random>

#include "layout/bus_files.hpp"
#include "layout/lane.hpp"
#include "layout/process.hpp"
#include "raw_words.hpp"
#include "robust.hpp"

namespace {

using namespace std::chrono_literals;
using robust::nasty;
using robust::new_seed;
using robust::raw_words;
using std::chrono::steady_clock;

constexpr auto scribbling_time = 1500ms;
constexpr auto stall_patience = 10s;

struct account {
  std::atomic<std::uint64_t> published{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> received{0};
  std::atomic<std::uint64_t> lost{0};
  std::atomic<std::uint64_t> wrong{0};    // sequences out of order, or lost and not reported
  std::atomic<std::uint64_t> spoiled{0};  // payloads that differ from what was published
  std::atomic<std::uint64_t> ready{0};
  std::atomic<std::uint64_t> strokes{0};
  std::atomic<std::uint64_t> stop{0};
};

// Publishes its own count as payload until `stop`. It is the only publisher, so message n has
// sequence n.
int publish_all_the_time(const std::string& url, const std::string& subject, account& seen) {
  ::alarm(60);
  auto session = bus::open(url);
  if (!session) return 10;
  auto publisher = session->publisher(subject);
  if (!publisher) return 11;
  ++seen.ready;
  for (std::uint64_t next = 1; seen.stop.load() == 0;) {
    const auto done = publisher->publish(std::as_bytes(std::span(&next, 1)));
    if (done) {
      if (done.sequence != next) ++seen.wrong;
      ++next;
      ++seen.published;
    } else if (done.status == bus::publish_status::timed_out ||
               done.status == bus::publish_status::rejected) {
      ++seen.refused;
    } else {
      std::fprintf(stderr, "publish: %s, %s\n", bus::publish_status_name(done.status),
                   publisher->last_error().message().c_str());
      return 12;
    }
  }
  return 0;
}

// Every sequence must be delivered with its payload or be reported lost.
int receive_all_the_time(const std::string& url, const std::string& pattern, account& seen,
                         std::uint64_t forget = 0) {
  ::alarm(60);
  auto session = bus::open(url);
  if (!session) return 20;
  std::uint64_t expected = 1;
  bus::subscriber_options how;
  how.on_gap = [&](const bus::gap& gap) {
    if (gap.first != expected) ++seen.wrong;
    expected = gap.first + gap.count;
    seen.lost += gap.count;
  };
  auto subscriber = session->subscribe(pattern, how);
  if (!subscriber) {
    std::fprintf(stderr, "subscribe: %s\n", subscriber.error().message().c_str());
    return 21;
  }
  ++seen.ready;
  while (seen.stop.load() < 2) {
    const std::size_t got = subscriber->poll(64, [&](const bus::message& m) {
      // the seeded bug: a loss that is not reported
      if (forget != 0 && m.sequence() == forget) return;
      std::uint64_t payload = 0;
      if (m.size() == sizeof payload) std::memcpy(&payload, m.payload().data(), sizeof payload);
      if (m.sequence() != expected) ++seen.wrong;
      if (payload != m.sequence()) ++seen.spoiled;
      expected = m.sequence() + 1;
      ++seen.received;
    });
    if (subscriber->failure()) {
      std::fprintf(stderr, "subscriber: %s\n", subscriber->failure()->message().c_str());
      return 22;
    }
    if (got == 0) subscriber->wait(5ms);
  }
  return 0;
}

// Joins as a subscriber, then writes nonsense over all that a subscriber may write.
int scribble_as_subscriber(const test::scratch& place, const std::string& stream,
                           std::uint32_t seed, account& seen, bool hot) {
  ::alarm(60);
  auto session = bus::open(place.url("t", "&slots=16"));
  if (!session) return 30;
  auto subscriber = session->subscribe(stream + ".>");
  if (!subscriber) return 31;
  std::string own;
  for (const auto& entry : std::filesystem::directory_iterator(place.directory() + "/processes")) {
    const auto bytes = robust::read_file(entry.path());
    bus::layout::process_header header;
    if (bytes.size() < sizeof header) continue;
    std::memcpy(static_cast<void*>(&header), bytes.data(), sizeof header);
    if (header.identity.pid == static_cast<std::uint64_t>(::getpid())) own = entry.path();
  }
  if (own.empty()) return 32;
  const raw_words slots(own, bus::layout::process_slots_offset, ~0ull);
  const raw_words hints(place.stream(stream) + "/lane-0.readers",
                        offsetof(bus::layout::readers_header, armed), bus::layout::readers_offset);
  const raw_words entries(place.stream(stream) + "/lane-0.readers", bus::layout::readers_offset,
                          ~0ull);
  const raw_words control(place.directory() + "/control",
                          offsetof(bus::layout::control_header, generation),
                          sizeof(bus::layout::control_header));
  std::mt19937_64 random(seed);
  ++seen.ready;
  while (seen.stop.load() == 0) {
    for (const raw_words* target : {&slots, &hints, &entries, &control}) {
      for (int i = 0; i < 4; ++i) {
        auto& word = (*target)[random() % target->count()];
        word.store(nasty(random, word.load(std::memory_order_relaxed)), std::memory_order_relaxed);
        ++seen.strokes;
      }
    }
    if (!hot) std::this_thread::sleep_for(50us);
    if (seen.strokes % 4096 < 16) {  // doorbells of others
      for (const auto& entry :
           std::filesystem::directory_iterator(place.directory() + "/processes")) {
        if (entry.path().extension() != ".fifo") continue;
        const int bell = ::open(entry.path().c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        const std::uint64_t noise[64] = {random()};
        if (bell >= 0 && ::write(bell, noise, sizeof noise) >= 0) ++seen.strokes;
        if (bell >= 0) ::close(bell);
      }
    }
  }
  std::fflush(nullptr);
  ::_exit(0);  // its own handles depend on words that it spoiled
}

struct scene {
  bus::overflow overflow;
  bool hot;
};
class Scribbling : public ::testing::TestWithParam<scene> {};

// Waits until `counter` has changed.
bool moves_on(const std::atomic<std::uint64_t>& counter) {
  const std::uint64_t before = counter.load();
  return test::eventually([&] { return counter.load() != before; }, stall_patience);
}

TEST_P(Scribbling, HurtsNobodyElse) {
  ::alarm(110);
  const std::uint32_t seed = new_seed();
  test::scratch place;
  auto config = test::small_stream("s", GetParam().overflow);
  config.max_readers = 64;
  config.send_timeout = 100ms;
  {
    auto session = bus::open(place.url());
    ASSERT_TRUE(session);
    ASSERT_TRUE(session->add_stream(config));
  }
  const test::shared_value<account> seen;
  test::child receiver([&] { return receive_all_the_time(place.url(), "s.>", *seen); });
  ASSERT_TRUE(test::eventually([&] { return seen->ready == 1; }));
  test::child publisher([&] { return publish_all_the_time(place.url(), "s.a", *seen); });
  ASSERT_TRUE(test::eventually([&] { return seen->ready == 2; }));
  test::child scribbler(
      [&] { return scribble_as_subscriber(place, "s", seed, *seen, GetParam().hot); });
  ASSERT_TRUE(test::eventually([&] { return seen->ready == 3; }));
  const auto end = steady_clock::now() + scribbling_time;
  bool alive = true;
  while (alive && steady_clock::now() < end) {
    // A publish that ends in a typed timeout is a result, too. On an overwriting stream there is
    // no reason for one.
    const std::uint64_t answers = seen->published + seen->refused;
    alive = test::eventually([&] { return seen->published + seen->refused != answers; },
                             stall_patience);
    EXPECT_TRUE(alive) << "the publisher stalls";
    if (alive && seen->refused == 0) {
      alive = moves_on(seen->received);
      EXPECT_TRUE(alive) << "the other subscriber stalls";
    }
  }
  if (GetParam().overflow == bus::overflow::drop_oldest) {
    EXPECT_EQ(seen->refused, 0u);
  }
  scribbler.kill();
  scribbler.wait();
  // All others work when it has exited.
  EXPECT_TRUE(moves_on(seen->published));
  EXPECT_TRUE(moves_on(seen->received));
  seen->stop = 1;
  EXPECT_TRUE(publisher.succeeded()) << "the publisher";
  EXPECT_TRUE(test::eventually([&] { return seen->received + seen->lost == seen->published; }))
      << seen->received << " received, " << seen->lost << " lost, " << seen->published
      << " published";
  seen->stop = 2;
  EXPECT_TRUE(receiver.succeeded());
  EXPECT_EQ(seen->wrong, 0u);
  if (GetParam().overflow == bus::overflow::drop_oldest) {
    EXPECT_EQ(seen->spoiled, 0u);
  } else {
    // Read in place: a reader whose entry was removed from the readers table may be overwritten
    // while it reads. A gap follows at once.
    EXPECT_LE(seen->spoiled, seen->lost);
  }
  EXPECT_GT(seen->strokes, 1000u);
  // A new process can use the bus.
  auto later = bus::open(place.url());
  ASSERT_TRUE(later) << later.error().message();
  EXPECT_TRUE(later->processes());
  EXPECT_TRUE(later->streams());
  auto again = later->publisher("s.later");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(again->publish("x")) << again->last_error().message();
}

std::string scene_name(const ::testing::TestParamInfo<scene>& which) {
  return std::string(bus::overflow_name(which.param.overflow)) +
         (which.param.hot ? "_at_full_speed" : "_now_and_then");
}
INSTANTIATE_TEST_SUITE_P(Scenes, Scribbling,
                         ::testing::Values(scene{bus::overflow::drop_oldest, false},
                                           scene{bus::overflow::drop_oldest, true},
                                           scene{bus::overflow::block, false},
                                           scene{bus::overflow::block, true}),
                         scene_name);

// The accounting above notices one message that is neither delivered nor reported.
TEST(ScribblingChecks, AnUnreportedLossIsSeen) {
  ::alarm(60);
  test::scratch place;
  {
    auto session = bus::open(place.url());
    ASSERT_TRUE(session);
    ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
  }
  const test::shared_value<account> seen;
  test::child receiver([&] { return receive_all_the_time(place.url(), "s.>", *seen, 5); });
  ASSERT_TRUE(test::eventually([&] { return seen->ready == 1; }));
  test::child publisher([&] { return publish_all_the_time(place.url(), "s.a", *seen); });
  EXPECT_TRUE(test::eventually([&] { return seen->wrong != 0; }));
  seen->stop = 1;
  EXPECT_TRUE(test::eventually([&] { return seen->received + seen->lost + 1 == seen->published; }));
  seen->stop = 2;
  EXPECT_TRUE(publisher.succeeded());
  EXPECT_TRUE(receiver.succeeded());
}

// Ids come from words that any process may spoil.
TEST(ScribbledControl, EveryProcessGetsAnIdThatIsUsable) {
  ::alarm(60);
  test::scratch place;
  auto first = bus::open(place.url());
  ASSERT_TRUE(first);
  const auto control = place.directory() + "/control";
  for (const std::uint64_t next :
       {0ull, 1ull << 31, 0xffffffffull, 1ull << 32, ~0ull, 0x7fffffffull}) {
    robust::poke<std::uint64_t>(control, offsetof(bus::layout::control_header, next_process_id),
                                next);
    std::vector<bus::session> sessions;
    for (int i = 0; i < 3; ++i) {
      auto made = bus::open(place.url());
      ASSERT_TRUE(made) << std::hex << next << ": " << made.error().message();
      sessions.push_back(std::move(*made));
    }
    const auto processes = first->processes();
    ASSERT_TRUE(processes);
    EXPECT_EQ(processes->size(), 4u) << std::hex << next;
    // 0 means that no process has a lane, and bit 31 that a process waits for it.
    for (const auto& process : *processes)
      EXPECT_TRUE(process.id != 0 && process.id < 1u << 31) << process.id << " after " << next;
  }
}

TEST(ScribbledControl, IdsThatAreTakenArePassedBy) {
  ::alarm(60);
  test::scratch place;
  std::vector<bus::session> sessions;
  for (int i = 0; i < 30; ++i) {
    auto made = bus::open(place.url());
    ASSERT_TRUE(made);
    sessions.push_back(std::move(*made));
  }
  robust::poke<std::uint64_t>(place.directory() + "/control",
                              offsetof(bus::layout::control_header, next_process_id), 1);
  const auto one_more = bus::open(place.url());
  EXPECT_TRUE(one_more) << one_more.error().message();
}

// Random words over a ring and its control words: only publishers may write there, so errors are
// allowed, but nothing else is.
class ScribbledRing : public ::testing::TestWithParam<bus::overflow> {};

TEST_P(ScribbledRing, NeitherCrashesNorHangsItsReaders) {
  ::alarm(110);
  const std::uint32_t seed = new_seed();
  test::scratch place;
  auto config = test::small_stream("s", GetParam());
  config.send_timeout = 5ms;
  for (std::uint32_t round = 0; round < 12 && !HasFailure(); ++round) {
    auto keeper = bus::open(place.url());
    ASSERT_TRUE(keeper);
    ASSERT_TRUE(keeper->add_stream(config));
    const test::shared_value<account> seen;
    const bool header_too = round % 2 == 1;
    test::child scribbler([&] {
      const raw_words ring(
          place.stream("s") + "/lane-0",
          header_too ? offsetof(bus::layout::lane_header, limits) : bus::layout::lane_data_offset,
          ~0ull);
      std::mt19937_64 random(seed + round);
      while (seen->stop == 0) {
        auto& word = ring[random() % (header_too && random() % 2 == 0 ? 1024 : ring.count())];
        word.store(nasty(random, word.load(std::memory_order_relaxed)), std::memory_order_relaxed);
        if (++seen->strokes % 64 == 0) std::this_thread::sleep_for(20us);
      }
      return 0;
    });
    const auto end = [&] { return seen->stop != 0; };
    const auto read = [&](bus::subscriber_options how) {
      return robust::run_in_child(40, [&] {
        auto session = bus::open(place.url());
        ASSERT_TRUE(session);
        std::size_t bytes = 0;
        for (int attach = 0; attach < 40; ++attach) {
          auto subscriber = session->subscribe("s.>", how);
          if (!subscriber) {
            EXPECT_FALSE(subscriber.error().why.empty());
            continue;
          }
          for (int i = 0; i < 50 && !subscriber->failure(); ++i) {
            (void)subscriber->poll(100, [&](const bus::message& m) {
              bytes += m.subject().size() + m.headers().size() +
                       static_cast<std::size_t>(m.sequence() & 1);
              for (const std::byte b : m.payload()) bytes += static_cast<std::size_t>(b) & 1;
              (void)m.publish_time();
              bytes += m.still_valid() ? 1 : 0;
            });
            (void)subscriber->next(100us);
          }
          if (subscriber->failure()) {
            EXPECT_FALSE(subscriber->failure()->why.empty());
          }
          if (attach % 8 == 0) {
            EXPECT_TRUE(session->processes());
          }
          if (attach % 8 == 4) (void)session->streams();
        }
        asm volatile("" : : "r"(bytes));  // the payloads are read
      });
    };
    test::child publisher([&] {
      ::alarm(60);
      auto session = bus::open(place.url());
      if (!session) return 1;
      const std::string payload(300, 'p');
      while (!end()) {
        auto made = session->publisher("s.a");
        if (!made) continue;
        const bus::header mark{"key", "value"};
        for (int i = 0; i < 200 && !end(); ++i)
          (void)(i % 2 == 0
                     ? made->publish(payload)
                     : made->publish_to("s.b." + std::to_string(i), payload, std::span(&mark, 1)));
      }
      return 0;
    });
    bus::subscriber_options how;
    how.wait = round % 3 == 0 ? bus::wait_strategy::block : bus::wait_strategy::adaptive;
    how.in_place = round % 4 >= 2;
    how.gate = round % 3 != 1;
    how.start = round % 5 == 0   ? bus::start::last()
                : round % 5 == 1 ? bus::start::new_messages()
                                 : bus::start::all();
    EXPECT_EQ(read(how), "") << "round " << round;
    seen->stop = 1;
    const int ended = publisher.wait();
    EXPECT_EQ(ended, 0) << "round " << round << ": the publisher ended with wait status " << ended
                        << ", seed " << seed;
    EXPECT_TRUE(scribbler.succeeded());
    EXPECT_GT(seen->strokes, 100u);
    EXPECT_TRUE(keeper->remove_stream("s"));
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, ScribbledRing,
                         ::testing::Values(bus::overflow::block, bus::overflow::drop_oldest),
                         [](const auto& which) {
                           return std::string(bus::overflow_name(which.param));
                         });

}  // namespace
