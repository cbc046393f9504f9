#include <gtest/gtest.h>

#include <cstring>

#include "support/buses.hpp"

namespace {

using namespace test;

struct quote {
  double bid;
  double ask;
};
struct trade {
  double price;
  std::uint64_t size;
};
struct point_v1 {
  static constexpr std::string_view bus_type = "point";
  static constexpr std::string_view bus_layout = "i32 x, i32 y";
  std::int32_t x, y;
};
struct same_point {
  static constexpr std::string_view bus_type = "point";
  static constexpr std::string_view bus_layout = "i32 x, i32 y";
  std::int32_t x, y;
};
struct other_point {
  static constexpr std::string_view bus_type = "point";
  static constexpr std::string_view bus_layout = "f32 x, f32 y";
  float x, y;
};

class Typed : public testing::Test {
 protected:
  test::scratch scratch;
  bus::session session = join(scratch);
};

TEST_F(Typed, ValuesArriveAsTheyWere) {
  auto p = must(bus::typed_publisher<quote>::open(session, "q.AAPL"));
  auto s = must(bus::typed_subscriber<quote>::open(session, "q.>"));
  ASSERT_TRUE(p.publish({1.5, 2.5}));
  ASSERT_TRUE(p.publish({3.5, 4.5}));
  const auto first = s.next(10s);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->ask, 2.5);
  std::size_t seen = 0;
  s.poll(10, [&](const quote& q, const bus::message& m) {
    ++seen;
    EXPECT_EQ(q.bid, 3.5);
    EXPECT_EQ(m.subject(), "q.AAPL");
  });
  EXPECT_EQ(seen, 1u);
}

TEST_F(Typed, APublisherOfAnotherTypeIsRefused) {
  auto first = must(bus::typed_publisher<quote>::open(session, "q.a"));
  const auto second = bus::typed_publisher<trade>::open(session, "q.a");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, bus::errc::type_mismatch);
  EXPECT_NE(second.error().message().find("q.a"), std::string::npos);
  EXPECT_TRUE(bus::typed_publisher<trade>::open(session, "q.b")) << "another subject is free";
  EXPECT_TRUE(bus::typed_publisher<quote>::open(session, "q.a")) << "the same type is welcome";
}

TEST_F(Typed, ASubscriberOfAnotherTypeGetsAFailureAndNoMessage) {
  auto quotes = must(bus::typed_publisher<quote>::open(session, "x.quote"));
  auto trades = must(bus::typed_publisher<trade>::open(session, "x.trade"));
  auto s = must(bus::typed_subscriber<trade>::open(session, "x.>"));
  ASSERT_TRUE(quotes.publish({1, 2}));
  ASSERT_TRUE(trades.publish({9, 10}));
  std::size_t seen = 0;
  for (int polls = 0; polls < 3; ++polls) {
    s.poll(10, [&](const trade& t, const bus::message& m) {
      ++seen;
      EXPECT_EQ(t.size, 10u);
      EXPECT_EQ(m.subject(), "x.trade");
    });
  }
  EXPECT_EQ(seen, 1u) << "the other subjects are still read";
  ASSERT_TRUE(s.untyped().failure());
  EXPECT_EQ(s.untyped().failure()->code, bus::errc::type_mismatch);
  EXPECT_NE(s.untyped().failure()->message().find("x.quote"), std::string::npos);
}

TEST_F(Typed, ASubjectWithoutATypeIsNotDelivered) {
  auto untyped = must(session.publisher("x.raw"));
  auto s = must(bus::typed_subscriber<quote>::open(session, "x.>"));
  send(untyped, std::string(sizeof(quote), 'x'));
  EXPECT_FALSE(s.next(0ns));
  ASSERT_TRUE(s.untyped().failure());
  EXPECT_EQ(s.untyped().failure()->code, bus::errc::type_mismatch);
}

TEST_F(Typed, APayloadOfAnotherSizeIsNeverDeliveredAsTheType) {
  auto typed = must(bus::typed_publisher<quote>::open(session, "x.q"));
  auto s = must(bus::typed_subscriber<quote>::open(session, "x.>"));
  auto untyped = session.publisher("x.q");
  if (untyped) (void)untyped->publish("short");
  std::size_t seen = 0;
  s.poll(10, [&](const quote&, const bus::message&) { ++seen; });
  EXPECT_EQ(seen, 0u) << "5 bytes were read as a struct of " << sizeof(quote);
}

TEST_F(Typed, AnUntypedMessageOfTheSameSizeIsNeverDeliveredAsTheType) {
  for (const auto mode : {bus::publish_mode::shared, bus::publish_mode::exclusive}) {
    const bool shared = mode == bus::publish_mode::shared;
    bus::stream_config config = stream_of(shared ? "s" : "e", {shared ? "s.>" : "e.>"});
    config.lanes = 2;
    must(session.add_stream(config));
    const std::string subject = config.name + ".q", bytes(sizeof(quote), 'x');
    auto untyped = must(session.publisher(subject, {.mode = mode}));
    send(untyped, bytes);
    auto p = must(bus::typed_publisher<quote>::open(session, subject, {.mode = mode}));
    auto s =
        must(bus::typed_subscriber<quote>::open(session, subject, {.start = bus::start::all()}));
    send(untyped, bytes);
    send_to(p.untyped(), config.name + ".other", bytes);
    // All that a typed publisher sends to its own subject is of its type, whichever call it uses.
    ASSERT_TRUE(p.publish({1, 0}));
    const quote more{2, 0};
    const auto raw = std::as_bytes(std::span(&more, 1));
    const bus::header header{"key", "k"};
    ASSERT_TRUE(p.untyped().publish(raw, std::span(&header, 1)));
    const std::span<const std::byte> both[] = {raw, raw};
    ASSERT_TRUE(p.untyped().publish_batch(both));
    auto loan = must(p.untyped().loan(sizeof more));
    std::memcpy(loan.data().data(), &more, sizeof more);
    ASSERT_TRUE(loan.commit());
    send(untyped, bytes);
    double sum = 0;
    std::size_t seen = 0;
    while (const auto q = s.next(0ns)) ++seen, sum += q->bid;
    EXPECT_EQ(seen, 5u);
    EXPECT_EQ(sum, 9);
    ASSERT_TRUE(s.untyped().failure());
    EXPECT_EQ(s.untyped().failure()->code, bus::errc::type_mismatch);
  }
}

// A reader that keeps up takes one message at a time, on a separate path.
TEST_F(Typed, AReaderThatKeepsUpIsGivenNoUntypedMessageEither) {
  must(session.add_stream(stream_of("k", {"k.>"})));
  auto p = must(bus::typed_publisher<quote>::open(session, "k.q"));
  auto untyped = must(session.publisher("k.q"));
  auto s = must(bus::typed_subscriber<quote>::open(session, "k.q"));
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(p.publish({1, 2}));
    ASSERT_TRUE(s.next(0ns));
    EXPECT_FALSE(s.next(0ns));  // it has kept up
    send(untyped, std::string(sizeof(quote), 'x'));
    EXPECT_FALSE(s.next(0ns)) << "an untyped message was delivered as the type";
  }
  ASSERT_TRUE(s.untyped().failure());
  EXPECT_EQ(s.untyped().failure()->code, bus::errc::type_mismatch);
}

TEST_F(Typed, ASubjectThatGetsItsTypeLaterIsReadFromThenOn) {
  auto untyped = must(session.publisher("x.q"));
  auto s = must(bus::typed_subscriber<quote>::open(session, "x.q"));
  send(untyped, std::string(sizeof(quote), 'x'));
  EXPECT_FALSE(s.next(0ns));
  auto p = must(bus::typed_publisher<quote>::open(session, "x.q"));
  send(untyped, "short");
  ASSERT_TRUE(p.publish({1, 2}));
  const auto got = s.next(0ns);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->ask, 2);
}

TEST_F(Typed, NameAndLayoutMakeTheType) {
  EXPECT_EQ(bus::detail::type_hash<point_v1>(), bus::detail::type_hash<same_point>());
  EXPECT_NE(bus::detail::type_hash<point_v1>(), bus::detail::type_hash<other_point>());
  EXPECT_NE(bus::detail::type_hash<quote>(), bus::detail::type_hash<trade>());
  auto p = must(bus::typed_publisher<point_v1>::open(session, "p"));
  auto s = must(bus::typed_subscriber<same_point>::open(session, "p"));
  EXPECT_FALSE(bus::typed_publisher<other_point>::open(session, "p"));
  ASSERT_TRUE(p.publish({{}, 4}));
  EXPECT_EQ(s.next(10s)->y, 4);
}

TEST_F(Typed, WorksWithSubjectsThatAreNotInterned) {
  bus::stream_config config = stream_of("x", {"x.>"});
  config.max_subjects = 0;
  must(session.add_stream(config));
  auto quotes = must(bus::typed_publisher<quote>::open(session, "x.quote"));
  auto trades = must(bus::typed_publisher<trade>::open(session, "x.trade"));
  auto s = must(bus::typed_subscriber<quote>::open(session, "x.>"));
  ASSERT_TRUE(trades.publish({1, 2}));
  ASSERT_TRUE(quotes.publish({3, 4}));
  const auto got = s.next(10s);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->bid, 3);
  EXPECT_EQ(s.untyped().failure()->code, bus::errc::type_mismatch);
}

}  // namespace
