#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "support/buses.hpp"

namespace {

using namespace test;

class Subscribe : public testing::Test {
 protected:
  test::scratch scratch;
  bus::session session = join(scratch);
};

TEST_F(Subscribe, GetsOnlyWhatMatchesItsPattern) {
  auto p = must(session.publisher("md.eq.AAPL"));
  auto one = must(session.subscribe("md.eq.AAPL")), star = must(session.subscribe("md.*.IBM"));
  auto rest = must(session.subscribe("md.>")), anywhere = must(session.subscribe("#.AAPL"));
  auto none = must(session.subscribe("md"));
  for (const char* subject : {"md.eq.AAPL", "md.eq.IBM", "md.fx.IBM", "AAPL", "md.AAPL", "x.y"})
    send_to(p, subject, subject);
  EXPECT_EQ(drain(one), texts{"md.eq.AAPL"});
  EXPECT_EQ(drain(star), (texts{"md.eq.IBM", "md.fx.IBM"}));
  EXPECT_EQ(drain(rest), (texts{"md.eq.AAPL", "md.eq.IBM", "md.fx.IBM", "md.AAPL"}));
  EXPECT_EQ(drain(anywhere), (texts{"md.eq.AAPL", "AAPL", "md.AAPL"}));
  EXPECT_TRUE(drain(none).empty());
}

TEST_F(Subscribe, TakesSeveralPatternsOverSeveralStreams) {
  must(session.add_stream(stream_of("a", {"a.>"})));
  must(session.add_stream(stream_of("b", {"b.>"}, bus::overflow::drop_oldest)));
  must(session.add_stream(stream_of("c", {"c.>"})));
  const std::array<std::string_view, 3> patterns{"a.x", "b.*", "a.>"};
  auto s = must(session.subscribe(patterns));
  auto a = must(session.publisher("a.x")), b = must(session.publisher("b.y")),
       c = must(session.publisher("c.z"));
  for (int i = 0; i < 3; ++i) send(a, "a"), send(b, "b"), send(c, "c");
  texts all = drain(s);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (texts{"a", "a", "a", "b", "b", "b"})) << "each once, though two patterns match";
}

TEST_F(Subscribe, RefusesImpossiblePatterns) {
  EXPECT_EQ(session.subscribe("a..b").error().code, bus::errc::invalid_argument);
  EXPECT_EQ(session.subscribe("").error().code, bus::errc::invalid_argument);
  const std::array<std::string_view, 2> one_bad{"fine", "a.>.b"};
  const auto answer = session.subscribe(one_bad);
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message().find("a.>.b"), std::string::npos);
  EXPECT_EQ(session.subscribe(std::span<const std::string_view>()).error().code,
            bus::errc::invalid_argument);
}

TEST_F(Subscribe, PollsInPortions) {
  auto p = must(session.publisher("a"));
  auto s = must(session.subscribe("a"));
  for (int i = 0; i < 200; ++i) send(p, std::to_string(i));
  texts all;
  const auto take = [&](const bus::message& m) { all.emplace_back(m.text()); };
  EXPECT_EQ(s.poll(0, take), 0u);
  EXPECT_EQ(s.poll(1, take), 1u);
  EXPECT_EQ(s.poll(150, take), 150u);
  EXPECT_EQ(s.next(0ns)->text(), "151");
  EXPECT_EQ(s.poll(1000, take), 48u);
  EXPECT_EQ(s.poll(1000, take), 0u);
  ASSERT_EQ(all.size(), 199u);
  EXPECT_EQ(all[151], "152");
}

TEST_F(Subscribe, ThrowingCountsTheMessageAsDelivered) {
  auto p = must(session.publisher("a"));
  auto s = must(session.subscribe("a"));
  for (int i = 0; i < 5; ++i) send(p, std::to_string(i));
  EXPECT_THROW(s.poll(10,
                      [](const bus::message& m) {
                        if (m.text() == "1") throw std::runtime_error("no");
                      }),
               std::runtime_error);
  EXPECT_EQ(drain(s), (texts{"2", "3", "4"}));
}

TEST_F(Subscribe, IteratesUntilStopped) {
  auto p = must(session.publisher("a"));
  auto s = must(session.subscribe("a"));
  for (int i = 0; i < 5; ++i) send(p, std::to_string(i));
  texts all;
  for (const bus::message& m : s) {
    all.emplace_back(m.text());
    if (all.size() == 3) s.stop();
  }
  EXPECT_EQ(all, (texts{"0", "1", "2"}));
  EXPECT_TRUE(s.stopped());
  EXPECT_FALSE(s.next(1h)) << "now and later";
  EXPECT_FALSE(s.wait(1h));
}

TEST_F(Subscribe, InPlaceTellsWhenItWasOverwritten) {
  must(session.add_stream(small_stream("s", bus::overflow::drop_oldest)));
  auto p = must(session.publisher("s.a"));
  bus::subscriber_options options;
  options.in_place = true;
  auto in_place = must(session.subscribe("s.a", options)), copied = must(session.subscribe("s.a"));
  send(p, "kept");
  const auto view = in_place.next(10s), copy = copied.next(10s);
  ASSERT_TRUE(view && copy);
  EXPECT_EQ(view->text(), "kept");
  EXPECT_TRUE(view->still_valid());
  for (int i = 0; i < 2000; ++i) send(p, std::string(100, 'x'));
  EXPECT_FALSE(view->still_valid());
  EXPECT_TRUE(copy->still_valid());
  EXPECT_EQ(copy->text(), "kept");
}

TEST_F(Subscribe, EarlyMessagesAreReadWhileTheyAreWritten) {
  bus::stream_config config = small_stream("s", bus::overflow::block, 4 << 20);
  config.max_message_bytes = 512 * 1024;
  must(session.add_stream(config));
  bus::publisher_options eager;
  eager.mode = bus::publish_mode::exclusive;
  eager.early_bytes = 64 * 1024;
  bus::subscriber_options early;
  early.early = true;
  auto p = must(session.publisher("s.a", eager));
  auto s = must(session.subscribe("s.a", early));
  constexpr int total = 200;
  std::jthread writer([&] {
    for (int i = 0; i < total; ++i) {
      // Every fourth is small and is published in the usual way.
      const std::string text(i % 4 == 3 ? 100u : 500'000u, static_cast<char>('a' + i % 26));
      if (!p.publish(text)) return;
    }
  });
  for (int i = 0; i < total; ++i) {
    const auto m = s.next(30s);
    ASSERT_TRUE(m) << i;
    EXPECT_EQ(m->sequence(), static_cast<std::uint64_t>(i) + 1);
    EXPECT_EQ(m->subject(), "s.a");
    const char expected = static_cast<char>('a' + i % 26);
    for (std::size_t at = 0; at < m->size();) {
      ASSERT_TRUE(m->wait_available(at + 1));
      const std::size_t there = m->available();
      ASSERT_GT(there, at);
      const auto part = m->text().substr(at, there - at);
      ASSERT_EQ(part.find_first_not_of(expected), std::string_view::npos)
          << "message " << i << " at " << at;
      at = there;
    }
    EXPECT_TRUE(m->complete());
  }
  EXPECT_EQ(s.stats().delivered, static_cast<std::uint64_t>(total));
}

TEST_F(Subscribe, LaterEarlyMessagesAreWholeForOthers) {
  must(session.add_stream(small_stream("s", bus::overflow::block)));
  bus::publisher_options eager;
  eager.mode = bus::publish_mode::exclusive;
  eager.early_bytes = 1;
  auto p = must(session.publisher("s.a", eager));
  auto s = must(session.subscribe("s.a"));
  const bus::header header{"k", "v"};
  send(p, std::string(5000, 'e'));
  send(p, "x", std::span(&header, 1));
  const auto first = s.next(10s);
  EXPECT_TRUE(first->complete());
  EXPECT_EQ(first->text(), std::string(5000, 'e'));
  EXPECT_EQ(s.next(10s)->header("k"), "v");
}

TEST_F(Subscribe, RecordsCarryTheirSubjectWhenTheTableIsFull) {
  for (const std::uint32_t max_subjects : {0u, 3u}) {
    const std::string name = "n" + std::to_string(max_subjects);
    bus::stream_config config = stream_of(
        name, {name + ".>"}, max_subjects == 0 ? bus::overflow::block : bus::overflow::drop_oldest);
    config.max_subjects = max_subjects;
    must(session.add_stream(config));
    auto p = must(session.publisher(name + ".0"));
    auto all = must(session.subscribe(name + ".>")), one = must(session.subscribe(name + ".7"));
    auto late = must(session.publisher(name + ".late"));
    texts expected;
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 10; ++i) {
        expected.push_back(name + "." + std::to_string(i));
        send_to(p, expected.back(), expected.back());
      }
    }
    texts subjects;
    while (all.poll(100, [&](const bus::message& m) {
      EXPECT_EQ(m.subject(), m.text());
      subjects.emplace_back(m.subject());
    }) != 0) {
    }
    EXPECT_EQ(subjects, expected);
    EXPECT_EQ(drain(one), (texts{name + ".7", name + ".7"}));
    // Batches, headers and loans carry their subject, too.
    const bus::header header{"k", "v"};
    const auto bytes = std::as_bytes(std::span("xyz", 3));
    const std::string eighth = name + ".8";
    const std::vector<bus::outgoing> batch{{"", bytes}, {eighth, bytes, {&header, 1}}};
    ASSERT_TRUE(p.publish_batch(batch)) << p.last_error().message();
    send(late, "late");
    auto lent = must(late.loan(4));
    std::memcpy(lent.data().data(), "lent", 4);
    ASSERT_TRUE(lent.commit());
    subjects.clear();
    all.poll(100, [&](const bus::message& m) {
      subjects.push_back(std::string(m.subject()) + std::string(m.header("k").value_or("")) + "=" +
                         std::string(m.text()));
    });
    EXPECT_EQ(subjects,
              (texts{name + ".0=xyz", name + ".8v=xyz", name + ".late=late", name + ".late=lent"}));
    EXPECT_EQ(must(session.stream(name)).subjects_interned, max_subjects);
  }
}

TEST_F(Subscribe, IsRefusedWhenAllReadersOfALaneAreTaken) {
  bus::stream_config config = small_stream("s", bus::overflow::block);
  config.max_readers = 2;
  must(session.add_stream(config));
  auto one = must(session.subscribe("s.>"));
  {
    auto two = must(session.subscribe("s.>"));
    const auto three = session.subscribe("s.>");
    ASSERT_FALSE(three);
    EXPECT_EQ(three.error().code, bus::errc::no_space);
    EXPECT_NE(three.error().message().find("'s'"), std::string::npos);
  }
  EXPECT_TRUE(session.subscribe("s.>")) << "an entry is free again";
}

TEST_F(Subscribe, IsRefusedWhenAllSlotsOfTheProcessAreTaken) {
  auto small = join(scratch, "&slots=8");
  std::vector<bus::publisher> publishers;
  for (int i = 0; i < 8; ++i) publishers.push_back(must(small.publisher("a")));
  EXPECT_EQ(small.publisher("a").error().code, bus::errc::no_space);
  EXPECT_EQ(small.subscribe("a").error().code, bus::errc::no_space);
  publishers.pop_back();
  EXPECT_TRUE(small.subscribe("a"));
}

// A lapped reader whose old position lies among the zeros ahead of the tail sees an empty ring
// there.
TEST_F(Subscribe, NoticesALapThatLooksLikeAnEmptyRing) {
  auto config = stream_of("lap", {"lap.>"}, bus::overflow::drop_oldest);
  must(session.add_stream(config));
  auto p = must(session.publisher("lap.x"));
  const std::string text(64, 'x');  // takes 128 bytes in the ring
  for (std::size_t behind = 1; behind < 8; ++behind) {
    auto s = must(session.subscribe("lap.>"));
    send(p, text);
    ASSERT_TRUE(s.try_next());
    for (std::size_t i = behind; i < config.ring_bytes / 128; ++i) send(p, text);
    std::size_t received = 0;
    for (int polls = 0; polls < 2000; ++polls) received += s.poll(1000, [](const bus::message&) {});
    EXPECT_EQ(received + s.stats().lost, config.ring_bytes / 128 - behind) << behind;
    EXPECT_FALSE(s.next(1ms));
  }
}

// A subscriber's table of subjects grows while it reads a batch. Records with headers take
// another path than records without.
TEST_F(Subscribe, LearnsManySubjectsInOneBatchWithAndWithoutHeaders) {
  auto s = must(session.subscribe(">"));
  auto p = must(session.publisher("a.first"));
  const bus::header header{"k", "v"};
  texts expected;
  for (int i = 0; i < 300; ++i) {
    const std::string subject = "a." + std::to_string(i), text = "m" + std::to_string(i);
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(text.data()),
                                           text.size());
    ASSERT_TRUE(p.publish_to(subject, bytes, std::span(&header, 1)));
    ASSERT_TRUE(p.publish(bytes));
    expected.push_back(text);
    expected.push_back(text);
  }
  EXPECT_EQ(drain(s), expected);
}

TEST_F(Subscribe, ManySubscribersGetTheSame) {
  auto p = must(session.publisher("a"));
  std::vector<bus::subscriber> all;
  for (int i = 0; i < 100; ++i) all.push_back(must(session.subscribe("a")));
  for (int i = 0; i < 10; ++i) send(p, std::to_string(i));
  for (auto& s : all) EXPECT_EQ(drain(s).size(), 10u);
}

}  // namespace

namespace {

/// Calls `look` with a partly written message whose publisher is stopped (SIGSTOP).
template <class Look>
void with_a_stopped_publisher(Look&& look) {
  scratch scratch;
  auto session = join(scratch);
  auto config = stream_of("s", {"s.>"});
  config.ring_bytes = 256 << 20;
  config.max_message_bytes = 48 << 20;
  must(session.add_stream(config));
  child writer([&] {
    auto own = join(scratch);
    bus::publisher_options eager;
    eager.mode = bus::publish_mode::exclusive;
    eager.early_bytes = 1;
    auto p = must(own.publisher("s.a", eager));
    const std::string payload(40 << 20, 'x');
    while (p.publish(payload)) std::this_thread::sleep_for(5ms);
    return 0;
  });
  bus::subscriber_options early;
  early.early = true;
  auto s = must(session.subscribe("s.>", early));
  for (int tries = 0; tries < 200; ++tries) {
    const auto m = s.next(20s);
    ASSERT_TRUE(m);
    writer.signal(SIGSTOP);
    int status = 0;
    ASSERT_EQ(::waitpid(writer.pid(), &status, WUNTRACED), writer.pid());
    if (m->available() < m->size()) return look(s, *m, writer);
    writer.signal(SIGCONT);
  }
  FAIL() << "it was never stopped in the middle";
}

std::chrono::nanoseconds cpu_time() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace

TEST(EarlyReading, OfAStoppedPublisherNeedsNoCoreAndEndsWithItsDeadline) {
  with_a_stopped_publisher([](bus::subscriber&, const bus::message& m, child&) {
    const auto before = cpu_time();
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_FALSE(m.wait_available(m.size(), 500ms));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 500ms);
    EXPECT_LT(cpu_time() - before, 250ms) << "it spins";
    EXPECT_FALSE(m.wait_available(m.size(), 0ms));
    EXPECT_TRUE(m.wait_available(m.available(), 0ms));
  });
}

TEST(EarlyReading, OfAStoppedPublisherEndsWithStop) {
  with_a_stopped_publisher([](bus::subscriber& s, const bus::message& m, child&) {
    std::jthread other([&] {
      std::this_thread::sleep_for(100ms);
      s.stop();
    });
    EXPECT_FALSE(m.wait_available(m.size()));
    EXPECT_TRUE(s.stopped());
  });
}

TEST(EarlyReading, GoesOnWhenItsPublisherDoes) {
  with_a_stopped_publisher([](bus::subscriber&, const bus::message& m, child& writer) {
    std::jthread other([&] {
      std::this_thread::sleep_for(100ms);
      writer.signal(SIGCONT);
    });
    EXPECT_TRUE(m.wait_available(m.size()));
    EXPECT_EQ(m.text().find_first_not_of('x'), std::string_view::npos);
  });
}

TEST(EarlyReading, EndsWithTheDeathOfItsPublisher) {
  with_a_stopped_publisher([](bus::subscriber&, const bus::message& m, child& writer) {
    std::jthread other([&] {
      std::this_thread::sleep_for(100ms);
      writer.kill();
    });
    EXPECT_FALSE(m.wait_available(m.size(), 20s));
    EXPECT_LT(m.available(), m.size());
  });
}
