// Random words are written over a group's file, anywhere after its segment header, between the
// steps of its consumers. They get messages or a typed error; nothing crashes or hangs.
// Afterwards a repair makes the group usable again. If it cannot, the group can be removed and
// created again.

#include <random>

#include "layout/group.hpp"
#include "raw_words.hpp"
#include "robust.hpp"

namespace {

using namespace std::chrono_literals;

constexpr int rounds = 60;
constexpr unsigned watchdog_seconds = 60;

void make_group(bus::session& session, bus::group_order order, bus::overflow overflow) {
  bus::stream_config stream;
  stream.name = "s";
  stream.subjects = {"s"};
  stream.ring_bytes = 256 << 10;
  stream.max_message_bytes = 8192;
  stream.overflow = overflow;
  stream.send_timeout = 10ms;
  ASSERT_TRUE(session.add_stream(stream));
  bus::group_config group;
  group.name = "g";
  group.stream = "s";
  group.order = order;
  group.max_ack_pending = 50;
  group.max_delayed = 50;
  group.max_parked = 20;
  group.hold_bytes = 64 << 10;
  group.ack_wait = 50ms;
  group.max_lease = 1s;
  group.backoff = {0s, 1ms};
  ASSERT_TRUE(session.add_group(group));
}

bool is_typed(const bus::error& failure) {
  return failure.code == bus::errc::corrupt || failure.code == bus::errc::busy ||
         failure.code == bus::errc::closed || failure.code == bus::errc::unsupported;
}

// Some work of every kind, whatever the group's state.
void work(bus::consumer& consumer, bus::publisher& out, std::mt19937_64& random) {
  for (int i = 0; i < 20; ++i) {
    const std::string key = std::to_string(random() % 4);
    const bus::header headers[] = {{"key", key}};
    (void)out.publish(std::string(random() % 3000, 'x'), headers);
    auto batch = consumer.fetch(1 + random() % 4, 0s);
    for (auto& one : batch) {
      switch (random() % 6) {
        case 0: (void)one.nack(1ms, "no"); break;
        case 1: (void)one.release(); break;
        case 2: (void)one.reject("never"); break;
        case 3: (void)one.extend(); break;
        default: (void)one.ack(); break;
      }
    }
    if (consumer.failure()) {
      EXPECT_TRUE(is_typed(*consumer.failure())) << consumer.failure()->message();
      return;
    }
  }
}

void one_round(std::uint64_t seed, bus::group_order order, bus::overflow overflow) {
  test::scratch here;
  std::mt19937_64 random(seed);
  auto session = bus::open(here.url());
  ASSERT_TRUE(session);
  make_group(*session, order, overflow);
  auto out = session->publisher("s");
  ASSERT_TRUE(out);
  const std::string path = here.stream("s") + "/groups/g";
  bool repairable = true;
  for (int strokes = 0; strokes < 8; ++strokes) {
    auto consumer = session->consume("", {.group = "g", .stream = "s"});
    if (consumer) {
      work(*consumer, *out, random);
    } else {
      EXPECT_TRUE(is_typed(consumer.error())) << consumer.error().message();
    }
    {
      // One time in four at the configuration and the lists, otherwise anywhere.
      const std::uint64_t end = random() % 4 == 0 ? sizeof(bus::layout::group_header) : ~0ull;
      const robust::raw_words words(path, sizeof(bus::layout::segment_header), end);
      for (int i = 0; i < 30; ++i) {
        const std::size_t index = random() % words.count();
        // Consumers wait for seconds for the holder of the lock: it has its own test.
        if (index ==
            (offsetof(bus::layout::group_header, lock) - sizeof(bus::layout::segment_header)) / 8)
          continue;
        words[index].store(robust::nasty(random, words[index].load()));
      }
    }
    if (consumer && !consumer->failure()) work(*consumer, *out, random);
    (void)session->group("s", "g");
    (void)session->pending("s", "g");
    (void)session->peek("s", "g");
    (void)session->dead_letters("s", "g");
    const auto repaired = session->repair_group("s", "g");
    if (!repaired) {
      EXPECT_TRUE(is_typed(repaired.error())) << repaired.error().message();
      repairable = false;
      break;
    }
  }
  if (!repairable) {  // useless now, but it can be removed and created again
    const auto removed = session->remove_group("s", "g");
    ASSERT_TRUE(removed) << removed.error().message();
    bus::group_config anew;
    anew.name = "g";
    anew.stream = "s";
    anew.deliver = bus::start::new_messages();
    const auto added = session->add_group(anew);
    ASSERT_TRUE(added) << added.error().message();
  }
  (void)session->resume_group("s", "g");
  auto consumer = session->consume("", {.group = "g", .stream = "s"});
  ASSERT_TRUE(consumer) << consumer.error().message();
  bool found = false;
  auto published = bus::publish_status::ok;
  for (int i = 0; i < 20'000 && !found; ++i) {
    if (i % 200 == 0) published = out->publish("at last").status;
    auto one = consumer->next(1ms);
    if (consumer->failure()) FAIL() << consumer->failure()->message();
    if (!one) continue;
    found = one->text() == "at last";
    EXPECT_EQ(one->ack(), bus::settle_result::ok);
  }
  if (found) return;
  const auto info = session->group("s", "g");
  ASSERT_TRUE(info) << info.error().message();
  const auto& c = info->counts;
  FAIL() << "the group is of no use after its repair: publishing is "
         << bus::publish_status_name(published) << ", waiting " << c.unclaimed << ", ready "
         << c.ready << ", leased " << c.leased << ", delayed " << c.delayed << ", parked "
         << c.parked << ", dying " << c.dying << ", why " << ::testing::PrintToString(info->why);
}

// Words that change between two reads: the number that is used must be the one that was checked.
// The same bits toggle as fast as a processor can, in counts, lists, timers and keys, while
// consumers work.
void toggle_while_they_work(std::uint64_t seed, bus::group_order order) {
  test::scratch here;
  std::mt19937_64 random(seed);
  auto session = bus::open(here.url());
  ASSERT_TRUE(session);
  make_group(*session, order, bus::overflow::drop_oldest);
  auto out = session->publisher("s");
  ASSERT_TRUE(out);
  test::shared_value<std::atomic<int>> stop;
  const std::string path = here.stream("s") + "/groups/g";
  test::child toggling([&] {
    const robust::raw_words words(path, sizeof(bus::layout::segment_header), ~0ull);
    std::mt19937_64 own(seed + 1);
    while (stop->load() == 0) {
      const std::size_t near =
          own() % 3 == 0 ? words.count() : sizeof(bus::layout::group_header) / 8;
      const std::size_t index = own() % std::min(near, words.count());
      if (index ==
          (offsetof(bus::layout::group_header, lock) - sizeof(bus::layout::segment_header)) / 8)
        continue;
      const std::uint64_t before = words[index].load(), other = robust::nasty(own, before);
      for (int i = 0; i < 3000; ++i)
        words[index].store(i % 2 == 0 ? other : before, std::memory_order_relaxed);
      words[index].store(before);
    }
    return 0;
  });
  const auto end = std::chrono::steady_clock::now() + 1500ms;
  while (std::chrono::steady_clock::now() < end) {
    auto consumer = session->consume("", {.group = "g", .stream = "s"});
    if (consumer) work(*consumer, *out, random);
    (void)session->group("s", "g");
    (void)session->pending("s", "g");
    (void)session->repair_group("s", "g");
  }
  stop->store(1);
  EXPECT_EQ(toggling.wait(), 0);
}

TEST(GroupScribble, WordsThatChangeUnderTheReader) {
  const std::uint64_t seed = robust::new_seed();
  for (int round = 0; round < 2; ++round) {
    const auto order = round % 2 == 0 ? bus::group_order::none : bus::group_order::key;
    const auto end = robust::run_in_child(watchdog_seconds,
                                          [&] { toggle_while_they_work(seed + round, order); });
    ASSERT_EQ(end, "") << "BUS_TEST_SEED=" << seed + round;
  }
}

struct scene {
  bus::group_order order;
  bus::overflow overflow;
};
class ScribbledGroup : public ::testing::TestWithParam<scene> {};

TEST_P(ScribbledGroup, AnswersWithATypedErrorAndCanBeRepaired) {
  const std::uint64_t seed = robust::new_seed();
  for (int round = 0; round < rounds; ++round) {
    const auto end = robust::run_in_child(
        watchdog_seconds, [&] { one_round(seed + round, GetParam().order, GetParam().overflow); });
    ASSERT_EQ(end, "") << "BUS_TEST_SEED=" << seed + round;
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, ScribbledGroup,
                         ::testing::Values(scene{bus::group_order::none, bus::overflow::block},
                                           scene{bus::group_order::key, bus::overflow::block},
                                           scene{bus::group_order::none,
                                                 bus::overflow::drop_oldest}));

}  // namespace
