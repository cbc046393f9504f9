#include <gtest/gtest.h>

#include <cstring>

#include "support/buses.hpp"

namespace {

using namespace test;
using bus::publish_status;

class Publish : public testing::TestWithParam<bus::publish_mode> {
 protected:
  bus::publisher publisher(std::string_view subject) {
    bus::publisher_options options;
    options.mode = GetParam();
    return must(session.publisher(subject, options));
  }
  test::scratch scratch;
  bus::session session = join(scratch);
};

INSTANTIATE_TEST_SUITE_P(Modes, Publish,
                         testing::Values(bus::publish_mode::shared, bus::publish_mode::exclusive),
                         [](const auto& mode) {
                           return mode.param == bus::publish_mode::shared ? "Shared" : "Exclusive";
                         });

TEST_P(Publish, DeliversEverythingThatAMessageCarries) {
  auto p = publisher("md.eq.AAPL");
  auto s = must(session.subscribe("md.>"));
  const auto before = std::chrono::system_clock::now();
  EXPECT_EQ(send(p, "101.25"), 1u);
  EXPECT_EQ(send(p, "101.50"), 2u);
  const auto m = s.next(10s);
  ASSERT_TRUE(m);
  EXPECT_EQ(m->text(), "101.25");
  EXPECT_EQ(m->size(), 6u);
  EXPECT_EQ(m->subject(), "md.eq.AAPL");
  EXPECT_EQ(m->stream(), "default");
  EXPECT_EQ(m->sequence(), 1u);
  EXPECT_EQ(m->lane(), 0u);
  EXPECT_EQ(m->publisher_id(), p.id());
  EXPECT_FALSE(m->has_headers());
  EXPECT_TRUE(m->complete());
  EXPECT_TRUE(m->still_valid());
  EXPECT_LT(std::chrono::abs(m->publish_time() - before), 10s);
  EXPECT_GE(m->age(), 0ns);
  EXPECT_EQ(s.next(10s)->text(), "101.50");
  EXPECT_FALSE(s.try_next());
  EXPECT_EQ(p.stream(), "default");
  EXPECT_EQ(p.subject(), "md.eq.AAPL");
}

TEST_P(Publish, EmptyPayloadsAreMessages) {
  auto p = publisher("a");
  auto s = must(session.subscribe("a"));
  send(p, "");
  send(p, std::span<const std::byte>());
  EXPECT_EQ(drain(s), (texts{"", ""}));
}

TEST_P(Publish, PayloadsStartOnAMultipleOf32) {
  auto p = publisher("a");
  auto s = must(session.subscribe("a"));
  const bus::header header{"k", "some value"};
  for (const std::size_t bytes : {0u, 1u, 33u, 1000u}) {
    send(p, std::string(bytes, 'x'));
    send(p, std::string(bytes, 'x'), std::span(&header, 1));
  }
  std::size_t seen = 0;
  s.poll(100, [&](const bus::message& m) {
    ++seen;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(m.payload().data()) % 32, 0u);
  });
  EXPECT_EQ(seen, 8u);
}

TEST_P(Publish, HeadersArriveInOrder) {
  auto p = publisher("a");
  auto s = must(session.subscribe("a"));
  const std::vector<bus::header> sent{
      {"key", "AAPL"}, {"trace", std::string_view("\0\1", 2)}, {"empty", ""}};
  send(p, "x", sent);
  const auto m = s.next(10s);
  ASSERT_TRUE(m);
  EXPECT_TRUE(m->has_headers());
  EXPECT_EQ(m->header("trace"), std::string_view("\0\1", 2));
  EXPECT_EQ(m->header("empty"), "");
  EXPECT_FALSE(m->header("Key"));
  const auto headers = m->headers();
  ASSERT_EQ(headers.size(), 3u);
  EXPECT_EQ(headers[0].key, "key");
  EXPECT_EQ(headers[0].value, "AAPL");
  EXPECT_EQ(m->text(), "x");
}

TEST_P(Publish, RefusesImpossibleHeaders) {
  auto p = publisher("a");
  const std::string long_key(256, 'k'), large(20'000, 'v');
  for (const std::vector<bus::header>& headers :
       {std::vector<bus::header>{{"", "x"}}, {{long_key, "x"}}, {{"a", large}, {"b", large}}}) {
    EXPECT_EQ(p.publish("x", headers).status, publish_status::invalid);
    EXPECT_EQ(p.last_error().code, bus::errc::invalid_argument);
  }
  EXPECT_EQ(send(p, "fine"), 1u) << "what was refused took no sequence";
}

TEST_P(Publish, TakesTheLargestMessageAndRefusesALargerOne) {
  must(session.add_stream(small_stream("s", bus::overflow::block)));  // 8 KiB
  auto p = publisher("s.a");
  auto s = must(session.subscribe("s.a"));
  const std::string largest(8 * 1024, 'L');
  send(p, largest);
  const auto refused = p.publish(largest + "x");
  EXPECT_EQ(refused.status, publish_status::too_large);
  EXPECT_EQ(refused.sequence, 0u);
  EXPECT_EQ(p.last_error().code, bus::errc::too_large);
  EXPECT_NE(p.last_error().message().find("8192"), std::string::npos) << p.last_error().message();
  EXPECT_EQ(p.publish_to("s.b", largest + "x").status, publish_status::too_large);
  EXPECT_EQ(drain(s), texts{largest});
}

TEST_P(Publish, ReachesOtherSubjectsOfItsStream) {
  must(session.add_stream(stream_of("s", {"s.>"})));
  auto p = publisher("s.own");
  auto s = must(session.subscribe("s.>"));
  for (int round = 0; round < 2; ++round) {
    send_to(p, "s.other", "1");
    send_to(p, "s.own", "2");
    send_to(p, "", "3");
  }
  texts subjects;
  s.poll(100, [&](const bus::message& m) { subjects.emplace_back(m.subject()); });
  EXPECT_EQ(subjects, (texts{"s.other", "s.own", "s.own", "s.other", "s.own", "s.own"}));
}

TEST_P(Publish, RefusesSubjectsThatAreInvalidOrOfAnotherStream) {
  must(session.add_stream(stream_of("s", {"s.>"})));
  auto p = publisher("s.own");
  EXPECT_EQ(p.publish_to("a..b", "x").status, publish_status::invalid);
  EXPECT_NE(p.last_error().message().find("at byte 2"), std::string::npos)
      << p.last_error().message();
  EXPECT_EQ(p.publish_to("s.*", "x").status, publish_status::invalid);
  EXPECT_EQ(p.publish_to("elsewhere", "x").status, publish_status::invalid);
  EXPECT_NE(p.last_error().message().find("elsewhere"), std::string::npos);
  const std::vector<bus::outgoing> batch{{"s.fine", {}}, {"elsewhere", {}}};
  EXPECT_EQ(p.publish_batch(batch).status, publish_status::invalid);
  EXPECT_EQ(must(session.stream("s")).messages(), 0u);
  for (const char* bad : {"", "a.", "a b", ">"})
    EXPECT_EQ(session.publisher(bad).error().code, bus::errc::invalid_argument) << bad;
}

TEST_P(Publish, ABatchIsSeenWholeOrNotAtAll) {
  must(session.add_stream(stream_of("s", {"s.>"}, bus::overflow::drop_oldest)));
  auto p = publisher("s.own");
  auto s = must(session.subscribe("s.>"));
  const std::vector<bus::header> headers{{"k", "v"}};
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
  const std::vector<bus::outgoing> batch{
      {"", bytes("one")}, {"s.two", bytes("two"), headers}, {"", {}}};
  const auto done = p.publish_batch(batch);
  ASSERT_TRUE(done) << p.last_error().message();
  EXPECT_EQ(done.sequence, 1u);
  texts seen;
  s.poll(100, [&](const bus::message& m) {
    seen.push_back(std::string(m.subject()) + "=" + std::string(m.text()) +
                   std::string(m.header("k").value_or("")));
  });
  EXPECT_EQ(seen, (texts{"s.own=one", "s.two=twov", "s.own="}));
  EXPECT_EQ(send(p, "next"), 4u);
}

TEST_P(Publish, BatchesOfPlainPayloadsKeepTheirOrder) {
  auto p = publisher("a");
  auto s = must(session.subscribe("a"));
  std::vector<std::string> payloads;
  for (int i = 0; i < 1000; ++i) payloads.push_back(std::to_string(i));
  std::vector<std::span<const std::byte>> views;
  for (const auto& text : payloads) views.push_back(std::as_bytes(std::span(text)));
  const auto done = p.publish_batch(views);
  ASSERT_TRUE(done) << p.last_error().message();
  EXPECT_EQ(drain(s), payloads);
  EXPECT_EQ(send(p, "next"), 1001u);
}

TEST_P(Publish, BatchesHaveLimits) {
  // A ring of 64 KiB: 16 KiB for one batch
  must(session.add_stream(small_stream("s", bus::overflow::drop_oldest)));
  auto p = publisher("s.a");
  auto s = must(session.subscribe("s.a"));
  EXPECT_TRUE(p.publish_batch(std::span<const bus::outgoing>()));
  EXPECT_TRUE(p.publish_batch(std::span<const std::span<const std::byte>>()));
  EXPECT_EQ(p.publish_batch(std::vector<bus::outgoing>(1001)).status, publish_status::too_large);
  EXPECT_NE(p.last_error().message().find("1000"), std::string::npos);
  EXPECT_EQ(p.publish_batch(std::vector<std::span<const std::byte>>(1001)).status,
            publish_status::too_large);
  const std::string part(4096 - 32, 'p'), large(8193, 'l');
  const auto view = std::as_bytes(std::span(part));
  EXPECT_EQ(p.publish_batch(std::vector<std::span<const std::byte>>(5, view)).status,
            publish_status::too_large);
  EXPECT_EQ(p.publish_batch(std::vector<bus::outgoing>(5, {"", view})).status,
            publish_status::too_large);
  const std::vector<std::span<const std::byte>> one_too_large{view,
                                                              std::as_bytes(std::span(large))};
  EXPECT_EQ(p.publish_batch(one_too_large).status, publish_status::too_large);
  EXPECT_TRUE(drain(s).empty());
  EXPECT_TRUE(p.publish_batch(std::vector<std::span<const std::byte>>(4, view)))
      << p.last_error().message();
  EXPECT_EQ(drain(s).size(), 4u);
}

TEST_P(Publish, GoesOnWhenItsSessionIsMovedOrGone) {
  auto doomed = std::make_unique<bus::session>(join(scratch));
  bus::publisher_options options;
  options.mode = GetParam();
  auto p = must(doomed->publisher("a", options));
  auto s = must(doomed->subscribe("a"));
  bus::session moved = std::move(*doomed);
  send(p, "moved");
  doomed.reset();
  { const bus::session gone = std::move(moved); }
  send(p, "gone");
  bus::publisher second = std::move(p);
  bus::subscriber other = std::move(s);
  send(second, "handles moved");
  EXPECT_EQ(drain(other), (texts{"moved", "gone", "handles moved"}));
}

TEST(ExclusivePublisher, HasItsLaneAlone) {
  scratch scratch;
  auto session = join(scratch, "&name=first"), other = join(scratch);
  bus::publisher_options exclusive;
  exclusive.mode = bus::publish_mode::exclusive;
  auto shared = must(other.publisher("a"));
  auto s = must(session.subscribe("a"));
  send(shared, "before");
  {
    auto owner = must(session.publisher("a", exclusive));
    EXPECT_EQ(send(owner, "mine"), 2u);
    const auto second = other.publisher("a", exclusive);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, bus::errc::conflict);
    EXPECT_NE(second.error().message().find("first (pid " + std::to_string(::getpid())),
              std::string::npos)
        << second.error().message();
    EXPECT_EQ(shared.publish("refused").status, publish_status::conflict);
    EXPECT_EQ(shared.last_error().code, bus::errc::conflict);
    send(owner, "still mine");
  }
  EXPECT_EQ(send(shared, "after"), 4u);
  auto next = must(other.publisher("a", exclusive));
  EXPECT_EQ(send(next, "next owner"), 5u);
  EXPECT_EQ(drain(s), (texts{"before", "mine", "still mine", "after", "next owner"}));
}

TEST_P(Publish, KnownSubjectsArePublishedToWithoutALookUp) {
  auto p = publisher("a.own"), other = must(session.publisher("a.other", {.lane = 0}));
  auto s = must(session.subscribe("a.>"));
  bus::known_subject one("a.one"), two("a.two"), own("a.own");
  EXPECT_EQ(one.text(), "a.one");
  for (int round = 0; round < 3; ++round) {
    for (bus::known_subject* to : {&one, &two, &own})
      ASSERT_TRUE(p.publish_to(*to, to->text())) << round;
    const bool both = GetParam() == bus::publish_mode::shared;  // else the owner's
    ASSERT_EQ(static_cast<bool>(other.publish_to(one, "a.one")), both)
        << "known to another publisher now";
    // Streams changed: what the handle knew no longer counts.
    must(session.add_stream(stream_of("s" + std::to_string(round), {"b" + std::to_string(round)})));
  }
  texts seen;
  while (s.poll(100, [&](const bus::message& m) {
    EXPECT_EQ(m.text(), m.subject());
    seen.emplace_back(m.subject());
  }) != 0) {
  }
  EXPECT_EQ(seen.size(), GetParam() == bus::publish_mode::shared ? 12u : 9u);
  bus::known_subject wrong("a..b"), foreign("b1"), large("a.large");
  EXPECT_EQ(p.publish_to(wrong, "x").status, publish_status::invalid);
  EXPECT_EQ(p.publish_to(foreign, "x").status, publish_status::invalid) << "another stream's";
  EXPECT_EQ(p.publish_to(large, std::string(64 << 20, 'x')).status, publish_status::too_large);
  EXPECT_FALSE(s.try_next());
}

// A declared stream takes a subject over from the default stream: a handle that knows the subject
// does not publish it to the old stream.
TEST_P(Publish, KnownSubjectsFollowTheirStream) {
  auto p = publisher("a.own");
  bus::known_subject moves("a.moves");
  ASSERT_TRUE(p.publish_to(moves, "before"));
  must(session.add_stream(stream_of("late", {"a.moves"})));
  const bus::published done = p.publish_to(moves, "after");
  EXPECT_EQ(done.status, publish_status::invalid)
      << "the publisher is bound to the stream of its own subject";
  ASSERT_TRUE(p.publish("own"));
}

TEST_P(Publish, ManySubjectsOfAllLengthsAreKeptApart) {
  auto p = publisher("a");
  auto s = must(session.subscribe(">"));
  texts all;
  for (int i = 0; i < 600; ++i) {
    const std::string tail = i % 3 == 0 ? "." + std::string(20 + i % 200, 'x') : "";
    all.push_back("s" + std::to_string(i) + tail);
  }
  for (int round = 0; round < 2; ++round) {
    texts seen;
    for (const std::string& subject : all) {
      send_to(p, subject, "m");
      s.poll(10, [&](const bus::message& m) { seen.emplace_back(m.subject()); });
    }
    EXPECT_EQ(seen, all);
  }
}

// While a publisher has the lease, the shared turn is stale, by any number of laps: other
// publishers must not draw conclusions from it.
TEST(ExclusivePublisher, IsLeftInPeaceByTheOthersHoweverMuchItPublishes) {
  scratch scratch;
  auto session = join(scratch), other = join(scratch);
  auto config = test::small_stream("laps", bus::overflow::block);
  must(session.add_stream(config));
  bus::publisher_options exclusive;
  exclusive.mode = bus::publish_mode::exclusive;
  auto shared = must(other.publisher("laps.a"));
  auto owner = must(session.publisher("laps.a", exclusive));
  auto s = must(session.subscribe("laps.a"));
  const std::string text(200, 'x');
  const std::size_t laps = 4, each = config.ring_bytes / 256;
  for (std::size_t i = 0; i < laps * each; ++i) {
    ASSERT_EQ(send(owner, text), i + 1);
    ASSERT_EQ(shared.publish("refused").status, publish_status::conflict);
    ASSERT_EQ(drain(s), texts{text});
  }
  for (const auto& stream : must(session.streams()))
    for (const auto& lane : stream.lanes) EXPECT_EQ(lane.repaired, 0u) << stream.config.name;
}

TEST(Session, RefusesItsHandlesInAForkedChild) {
  scratch scratch;
  auto session = join(scratch);
  auto p = must(session.publisher("a"));
  auto s = must(session.subscribe("a"));
  send(p, "parent");
  child child([&] {
    ::alarm(60);
    if (p.publish("child").status != publish_status::forked) return 1;
    if (p.last_error().code != bus::errc::forked) return 2;
    if (session.publisher("a").error().code != bus::errc::forked) return 3;
    if (session.subscribe("a").error().code != bus::errc::forked) return 4;
    if (session.streams().error().code != bus::errc::forked) return 5;
    if (s.poll(10, [](const bus::message&) {}) != 0 || !s.failure() ||
        s.failure()->code != bus::errc::forked)
      return 6;
    if (s.next(1s)) return 7;
    auto own = bus::session::open(scratch.url());
    if (!own) return 8;
    auto publisher = own->publisher("a");
    return publisher && publisher->publish("own session") ? 0 : 9;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(drain(s), (texts{"parent", "own session"}));
}

}  // namespace
