// What groups guarantee when something fails: attempts that count, reported losses, rising
// tokens, an active consumer that hangs, and events of what a status command finds first. The
// first tests also seed the mistake that they must catch.

#include <bus/bus.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "scratch.hpp"
#include "sync/seeded_fault.hpp"

namespace {

using namespace std::chrono_literals;
using bus::sync::fault;

class GroupFaults : public ::testing::Test {
 protected:
  void SetUp() override { ::alarm(100); }
  void TearDown() override {
    ::alarm(0);
    bus::sync::seeded = fault::none;
  }
};

// A separate bus with the stream "orders".
struct desk {
  test::scratch place;
  std::optional<bus::session> session;
  std::optional<bus::publisher> out;

  explicit desk(bus::overflow policy = bus::overflow::block) {
    auto opened = bus::open(place.url());
    if (!opened) std::abort();
    session.emplace(std::move(*opened));
    bus::stream_config config;
    config.name = "orders";
    config.subjects = {"orders.>"};
    config.overflow = policy;
    config.ring_bytes = 64 << 10;
    config.max_message_bytes = 4096;
    auto made = session->add_stream(config) ? session->publisher("orders.new")
                                            : bus::result<bus::publisher>(bus::error{});
    if (!made) std::abort();
    out.emplace(std::move(*made));
  }
  bus::consumer join(bus::consumer_options options) {
    options.group = "workers";
    options.stream = "orders";
    auto made = session->consume("", std::move(options));
    if (!made) std::abort();
    return std::move(*made);
  }
};

// Claimed ahead and never started: the end of the lease is no failed attempt.
TEST_F(GroupFaults, WhatWasNeverStartedDoesNotFail) {
  for (const fault seeded : {fault::none, fault::unstarted_fails}) {
    bus::sync::seeded = seeded;
    desk d;
    auto slow = d.join({.ack_wait = 30ms,
                        .max_deliver = 5,
                        .backoff = std::vector<std::chrono::nanoseconds>{0ms},
                        .prefetch = 4});
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(d.out->publish(std::to_string(i)));
    auto begun = slow.next(0s);
    ASSERT_TRUE(begun);
    std::this_thread::sleep_for(80ms);
    auto other = d.join({});
    std::uint32_t failed_unstarted = 0, failed_started = 0, got = 0;
    for (; got < 4; ++got) {
      auto one = other.next(5s);
      ASSERT_TRUE(one);
      (one->text() == "0" ? failed_started : failed_unstarted) += one->failed();
      (void)one->ack();
    }
    EXPECT_EQ(failed_started, 1u);
    EXPECT_EQ(failed_unstarted, seeded == fault::none ? 0u : 3u);
  }
}

TEST_F(GroupFaults, WhatTheRingLostIsToldOnceAndExactly) {
  constexpr std::uint64_t sent = 5000;
  for (const fault seeded : {fault::none, fault::loss_unreported}) {
    bus::sync::seeded = seeded;
    desk d(bus::overflow::drop_oldest);
    auto events = d.session->subscribe("_bus.event.group.lost");
    ASSERT_TRUE(events);
    std::uint64_t told = 0, gaps = 0, got = 0;
    auto c = d.join({.on_gap = [&](const bus::gap& gap) { told += gap.count, ++gaps; }});
    for (std::uint64_t i = 0; i < sent; ++i) ASSERT_TRUE(d.out->publish("payload of a message"));
    while (auto one = c.next(0s)) ++got, (void)one->ack();
    EXPECT_LT(got, sent);
    if (seeded == fault::none) {
      EXPECT_EQ(got + told, sent);
      EXPECT_EQ(c.stats().lost, told);
      EXPECT_EQ(c.stats().gaps, gaps);
      EXPECT_TRUE(events->next(2s)) << "and an event says so";
    } else {
      EXPECT_EQ(told, 0u) << "the check cannot fail";
    }
  }
}

// A consumer that becomes active after a killed one always has a higher token.
TEST_F(GroupFaults, TokensRiseOverActivesThatAreKilled) {
  for (const fault seeded : {fault::none, fault::place_stays_active}) {
    bus::sync::seeded = seeded;
    desk d;
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(d.out->publish("m"));
    std::vector<std::uint64_t> tokens;
    for (int life = 0; life < 4; ++life) {
      test::shared_value<std::atomic<std::uint64_t>> token;
      test::child active([&] {
        auto own = bus::open(d.place.url());
        auto c = own->consume(
            "", {.group = "workers", .stream = "orders", .mode = bus::group_mode::failover});
        if (!c || !c->next(10s)) return 10;
        token->store(c->active_token());
        ::pause();
        return 0;
      });
      while (token->load() == 0) std::this_thread::sleep_for(1ms);
      tokens.push_back(token->load());
      ::kill(active.pid(), SIGKILL);
      ASSERT_TRUE(test::was_killed(active.wait()));
    }
    const bool rise =
        std::adjacent_find(tokens.begin(), tokens.end(), std::greater_equal<>()) == tokens.end();
    EXPECT_EQ(rise, seeded == fault::none)
        << tokens[0] << ' ' << tokens[1] << ' ' << tokens[2] << ' ' << tokens[3];
  }
}

// An active consumer that does not work on its message is replaced after ack_wait. One that works
// is not, however much it has claimed ahead.
TEST_F(GroupFaults, AnActiveConsumerThatHangsIsReplaced) {
  desk d;
  auto events = d.session->subscribe("_bus.event.group.failover");
  ASSERT_TRUE(events);
  const bus::consumer_options how{.mode = bus::group_mode::failover,
                                  .ack_wait = 100ms,
                                  .backoff = std::vector<std::chrono::nanoseconds>{0ms},
                                  .name = "first"};
  auto first = d.join(how);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(d.out->publish(std::to_string(i)));
  auto hanging = first.next(0s);
  ASSERT_TRUE(hanging);
  const std::uint64_t before = first.active_token();
  ASSERT_NE(before, 0u);
  auto second = d.join({.mode = bus::group_mode::failover, .name = "second"});
  EXPECT_FALSE(second.next(0s)) << "the first one is active";
  auto taken = second.next(10s);
  ASSERT_TRUE(taken) << "nobody took over";
  EXPECT_GT(second.active_token(), before);
  EXPECT_EQ(first.active_token(), 0u);
  EXPECT_EQ(hanging->ack(), bus::settle_result::stale_lease);
  const auto event = events->next(2s);
  ASSERT_TRUE(event);
  EXPECT_NE(event->text().find("first"), std::string_view::npos) << event->text();
}

TEST_F(GroupFaults, AnActiveConsumerThatWorksSlowlyIsNot) {
  desk d;
  auto first = d.join({.mode = bus::group_mode::failover, .ack_wait = 100ms, .prefetch = 8});
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(d.out->publish(std::to_string(i)));
  auto second = d.join({.mode = bus::group_mode::failover});
  auto one = first.next(0s);
  ASSERT_TRUE(one);
  for (int i = 0; i < 10; ++i) {  // meanwhile what it claimed ahead returns
    std::this_thread::sleep_for(30ms);
    EXPECT_EQ(one->extend(), bus::settle_result::ok) << i;
    EXPECT_FALSE(second.next(0s)) << "two work at once";
  }
  EXPECT_EQ(one->ack(), bus::settle_result::ok);
  auto following = first.next(5s);
  ASSERT_TRUE(following) << "what went back is its own again";
  EXPECT_EQ(following->failed(), 0u);
}

// The first process that finds an expired lease reports it, even a command that only reads.
TEST_F(GroupFaults, AnExpiredLeaseIsAnEventWhoeverFindsIt) {
  desk d;
  auto events = d.session->subscribe("_bus.event.group.expired");
  ASSERT_TRUE(events);
  auto c = d.join({.ack_wait = 20ms});
  ASSERT_TRUE(d.out->publish("m"));
  auto one = c.next(0s);
  ASSERT_TRUE(one);
  std::this_thread::sleep_for(60ms);
  ASSERT_TRUE(d.session->group("orders", "workers"));
  ASSERT_TRUE(d.session->pending("orders", "workers"));
  auto other = d.join({});
  (void)other.next(100ms);
  std::size_t told = 0;
  while (events->next(200ms)) ++told;
  EXPECT_EQ(told, 1u);
}

// A consumer of a removed group gets an error and hands nothing out.
TEST_F(GroupFaults, AGroupThatIsRemovedEndsItsConsumers) {
  desk d;
  auto c = d.join({.dead_letters = false});
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(d.out->publish("m"));
  auto held = c.next(0s);
  ASSERT_TRUE(held);
  ASSERT_TRUE(d.session->remove_group("orders", "workers"));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(c.next(20s));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  ASSERT_TRUE(c.failure());
  EXPECT_EQ(c.failure()->code, bus::errc::closed);
  EXPECT_EQ(held->ack(), bus::settle_result::closed);
}

}  // namespace
