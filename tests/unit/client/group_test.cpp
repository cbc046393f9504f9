#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>

#include "support/buses.hpp"

namespace bus {
namespace {

using namespace std::chrono_literals;

class Group : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = bus::open(here_.url("t", ""));
    ASSERT_TRUE(opened);
    bus_.emplace(std::move(*opened));
  }
  void add_stream(overflow policy = overflow::block, std::uint32_t lanes = 1, std::uint64_t ring = 64 << 10) {
    stream_config config;
    config.name = "orders";
    config.subjects = {"orders.>"};
    config.overflow = policy;
    config.lanes = lanes;
    config.ring_bytes = ring;
    config.max_message_bytes = 4096;
    config.send_timeout = 50ms;
    const auto added = bus_->add_stream(config);
    ASSERT_TRUE(added) << added.error().message();
    auto out = bus_->publisher("orders.new");
    ASSERT_TRUE(out);
    out_.emplace(std::move(*out));
  }
  void publish(int from, int to) {
    for (int i = from; i < to; ++i) ASSERT_TRUE(out_->publish(std::to_string(i))) << i;
  }
  void publish_key(std::string_view key, std::string_view text) {
    const header headers[] = {{"key", key}};
    ASSERT_TRUE(out_->publish(text, headers));
  }
  consumer join(consumer_options options, std::string_view subject = "orders.>") {
    if (options.group.empty()) options.group = "workers";
    auto made = bus_->consume(subject, std::move(options));
    EXPECT_TRUE(made) << made.error().message();
    if (!made) std::abort();
    return std::move(*made);
  }
  group_info info(std::string_view group = "workers") {
    auto found = bus_->group("orders", group);
    EXPECT_TRUE(found) << found.error().message();
    return found ? *found : group_info{};
  }
  /// Everything that was published is somewhere, and once.
  void expect_sums(std::uint64_t published, std::string_view group = "workers") {
    const auto c = info(group).counts;
    EXPECT_EQ(published, c.settled + c.filtered + c.dropped + c.dead + c.pending + c.unclaimed);
  }

  ::test::scratch here_;
  std::optional<session> bus_;
  std::optional<publisher> out_;
};

std::string text_of(std::optional<lease>& one) { return one ? std::string(one->text()) : std::string("nothing"); }

TEST_F(Group, HandsOutEachMessageOnceAndInOrder) {
  add_stream();
  auto c = join({});
  publish(0, 100);
  for (int i = 0; i < 100; ++i) {
    auto one = c.next(1s);
    ASSERT_EQ(text_of(one), std::to_string(i));
    EXPECT_EQ(one->subject(), "orders.new");
    EXPECT_EQ(one->acquired(), 1u);
    EXPECT_EQ(one->ack(), settle_result::ok);
    EXPECT_EQ(one->ack(), settle_result::already_settled);
  }
  EXPECT_FALSE(c.next(0s));
  EXPECT_EQ(info().counts.settled, 100u);
  expect_sums(100);
}

TEST_F(Group, SharesMessagesAmongItsConsumers) {
  add_stream();
  auto a = join({}), b = join({});
  publish(0, 10);
  auto first = a.fetch(4, 0s);
  auto second = b.fetch(4, 0s);
  ASSERT_EQ(first.size(), 4u);
  ASSERT_EQ(second.size(), 4u);
  std::set<std::string> texts;
  for (auto* got : {&first, &second})
    for (auto& l : *got) {
      texts.insert(std::string(l.text()));
      EXPECT_EQ(l.ack(), settle_result::ok);
    }
  EXPECT_EQ(texts.size(), 8u);
  EXPECT_EQ(info().counts.unclaimed, 2u);
}

TEST_F(Group, EachGroupGetsEverything) {
  add_stream();
  auto a = join({.group = "a"}), b = join({.group = "b"});
  publish(0, 5);
  for (auto* c : {&a, &b})
    for (int i = 0; i < 5; ++i) {
      auto one = c->next(0s);
      ASSERT_EQ(text_of(one), std::to_string(i));
      one->ack();
    }
}

TEST_F(Group, HoldsPublishersBackWhatNobodyClaimed) {
  add_stream();
  auto c = join({});
  int sent = 0;
  while (out_->publish(std::string(1000, 'x'))) ++sent;
  EXPECT_GT(sent, 40);
  EXPECT_LT(sent, 70);
  for (int i = 0; i < sent; ++i) {
    auto one = c.next(0s);
    ASSERT_TRUE(one) << i;
    one->ack();
  }
  EXPECT_FALSE(c.next(0s));
  EXPECT_TRUE(out_->publish("on it goes"));
  expect_sums(static_cast<std::uint64_t>(sent) + 1);
}

TEST_F(Group, AMessageThatIsOutDoesNotPinTheRing) {
  add_stream();
  auto c = join({});
  publish(0, 1);
  auto held = c.next(0s);
  ASSERT_TRUE(held);
  for (int i = 1; i < 500; ++i) {
    ASSERT_TRUE(out_->publish(std::string(1000, 'x'))) << i;
    auto one = c.next(0s);
    ASSERT_TRUE(one) << i;
    ASSERT_EQ(one->ack(), settle_result::ok);
  }
  EXPECT_EQ(held->text(), "0");
  EXPECT_EQ(held->release(), settle_result::ok);
  auto again = c.next(0s);
  ASSERT_EQ(text_of(again), "0");
  EXPECT_EQ(again->acquired(), 2u);
  EXPECT_EQ(again->failed(), 0u);
  again->ack();
  expect_sums(500);
}

// Nothing is ever settled while the ring goes round: each claim must copy as many out of it as it takes.
TEST_F(Group, ManyThatAreOutLeaveTheRingAsFastAsItGoesRoundUnderThem) {
  constexpr int rounds = 5;  // of the ring's 1024 records
  for (const int batch : {1, 64}) {
    SCOPED_TRACE(batch);
    add_stream();
    auto c = join({.max_ack_pending = 10'000});
    std::vector<lease> held;
    for (int i = 0; i < rounds * 1024; i += batch) {
      publish(i, i + batch);
      for (auto& one : c.fetch(static_cast<std::size_t>(batch), 0s)) held.push_back(std::move(one));
      ASSERT_EQ(held.size(), static_cast<std::size_t>(i + batch));
    }
    for (int i = 0; i < rounds * 1024; ++i) {
      EXPECT_EQ(held[static_cast<std::size_t>(i)].text(), std::to_string(i));
      EXPECT_EQ(held[static_cast<std::size_t>(i)].ack(), settle_result::ok);
    }
    EXPECT_FALSE(c.next(0s));
    expect_sums(rounds * 1024);
    ASSERT_TRUE(bus_->remove_stream("orders"));
  }
}

TEST_F(Group, ReturnsWhatFailedAfterTheBackOffAndBuriesItInTheEnd) {
  add_stream();
  auto c = join({.max_deliver = 3, .backoff = std::vector<std::chrono::nanoseconds>{0ms, 30ms}, .jitter = 0.0});
  publish(0, 2);
  auto one = c.next(0s);
  ASSERT_EQ(text_of(one), "0");
  EXPECT_EQ(one->nack({}, "first"), settle_result::ok);
  one = c.next(0s);
  ASSERT_EQ(text_of(one), "0") << "the first retry comes at once";
  EXPECT_EQ(one->failed(), 1u);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(one->nack({}, "second"), settle_result::ok);
  EXPECT_EQ(one->ack(), settle_result::already_settled);
  auto other = c.next(0s);
  ASSERT_EQ(text_of(other), "1") << "others flow meanwhile";
  other->ack();
  one = c.next(5s);
  ASSERT_EQ(text_of(one), "0");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 29ms);
  EXPECT_EQ(one->nack({}, "third"), settle_result::ok);
  EXPECT_FALSE(c.next(0s));
  const auto letters = bus_->dead_letters("orders", "workers");
  ASSERT_TRUE(letters);
  ASSERT_EQ(letters->size(), 1u);
  const dead_letter& dead = letters->front();
  EXPECT_EQ(dead.reason, "max_deliver");
  EXPECT_EQ(dead.error, "third");
  EXPECT_EQ(dead.attempts, 3u);
  EXPECT_EQ(dead.subject, "orders.new");
  EXPECT_EQ(dead.stream, "orders");
  EXPECT_EQ(dead.group, "workers");
  EXPECT_EQ(dead.origin_sequence, 1u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(dead.payload.data()), dead.payload.size()), "0");
  EXPECT_NE(dead.process.find(std::to_string(::getpid())), std::string::npos) << dead.process;
  EXPECT_EQ(info().counts.dead, 1u);
  expect_sums(2);
}

TEST_F(Group, RejectGoesToTheDeadLettersAtOnce) {
  add_stream();
  auto c = join({});
  const header headers[] = {{"message-id", "7"}, {"tenant", "blue"}};
  ASSERT_TRUE(out_->publish("bad", headers));
  auto one = c.next(0s);
  ASSERT_TRUE(one);
  EXPECT_EQ(one->reject("cannot parse"), settle_result::ok);
  const auto letters = bus_->dead_letters("orders", "workers");
  ASSERT_TRUE(letters && letters->size() == 1);
  EXPECT_EQ(letters->front().reason, "rejected");
  EXPECT_EQ(letters->front().error, "cannot parse");
  EXPECT_EQ(letters->front().headers,
            (std::vector<std::pair<std::string, std::string>>{{"message-id", "7"}, {"tenant", "blue"}}));
  auto dropped = bus_->drop_dead_letters("orders", "workers");
  ASSERT_TRUE(dropped);
  EXPECT_EQ(*dropped, 1u);
  EXPECT_TRUE(bus_->dead_letters("orders", "workers")->empty());
  expect_sums(1);
}

TEST_F(Group, DeadLettersCanBeReadAsAStreamAndNobodyElseWritesThem) {
  add_stream();
  auto c = join({});
  auto letters = bus_->subscribe("_dlq.orders.workers", {.start = start::all()});
  ASSERT_TRUE(letters);
  publish(0, 1);
  c.next(0s)->reject("no");
  auto seen = letters->next(1s);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->text(), "0");
  EXPECT_EQ(seen->header("death-reason"), "rejected");
  EXPECT_EQ(seen->header("death-subject"), "orders.new");
  EXPECT_FALSE(bus_->publisher("_dlq.orders.workers"));
}

TEST_F(Group, WithoutDeadLettersTheyAreDroppedAndCounted) {
  add_stream();
  auto c = join({.dead_letters = false});
  publish(0, 3);
  for (int i = 0; i < 3; ++i) c.next(0s)->reject("no");
  EXPECT_EQ(info().counts.dead, 3u);
  expect_sums(3);
  EXPECT_FALSE(bus_->stream("orders.workers.dlq"));
}

TEST_F(Group, ALeaseThatEndedIsStale) {
  add_stream();
  auto a = join({.ack_wait = 20ms, .backoff = std::vector<std::chrono::nanoseconds>{0ms}}), b = join({});
  publish(0, 1);
  auto first = a.next(0s);
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->held());
  auto second = b.next(2s);
  ASSERT_EQ(text_of(second), "0");
  EXPECT_EQ(second->failed(), 1u);
  EXPECT_FALSE(first->held());
  EXPECT_EQ(first->ack(), settle_result::stale_lease);
  EXPECT_EQ(second->ack(), settle_result::ok);
  EXPECT_EQ(info().expired, 1u);
  expect_sums(1);
}

TEST_F(Group, ExtendingKeepsALease) {
  add_stream();
  auto a = join({.ack_wait = 60ms}), b = join({});
  publish(0, 1);
  auto first = a.next(0s);
  ASSERT_TRUE(first);
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(25ms);
    ASSERT_EQ(first->extend(), settle_result::ok) << i;
    ASSERT_FALSE(b.next(0s)) << i;
  }
  EXPECT_EQ(first->ack(), settle_result::ok);
}

TEST_F(Group, KeepAliveKeepsWhatIsInHand) {
  add_stream();
  auto a = join({.ack_wait = 60ms, .keep_alive = true}), b = join({});
  publish(0, 1);
  auto first = a.next(0s);
  ASSERT_TRUE(first);
  EXPECT_FALSE(b.next(300ms));
  EXPECT_EQ(first->ack(), settle_result::ok);
}

TEST_F(Group, TheWindowBoundsWhatIsOut) {
  add_stream();
  auto c = join({.max_ack_pending = 3});
  publish(0, 10);
  auto out = c.fetch(10, 0s);
  EXPECT_EQ(out.size(), 3u);
  EXPECT_EQ(c.fetch(10, 0s).size(), 0u);
  out[1].ack();
  auto more = c.fetch(10, 0s);
  ASSERT_EQ(more.size(), 1u);
  EXPECT_EQ(more[0].text(), "3");
}

TEST_F(Group, DelayedMessagesDoNotUseUpTheWindow) {
  add_stream();
  auto c = join({.max_ack_pending = 2});
  publish(0, 100);
  for (int i = 0; i < 100; ++i) {
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), std::to_string(i));
    one->nack(1h);
  }
  EXPECT_EQ(info().counts.delayed, 100u);
  expect_sums(100);
}

TEST_F(Group, KeepsTheOrderOfAKeyAndLetsOthersPass) {
  add_stream();
  auto c = join({.order = group_order::key});
  for (int i = 0; i < 5; ++i) publish_key("a", "a" + std::to_string(i));
  publish_key("b", "b0");
  ASSERT_TRUE(out_->publish("without"));
  auto a0 = c.next(0s), b0 = c.next(0s), without = c.next(0s);
  ASSERT_EQ(text_of(a0), "a0");
  ASSERT_EQ(text_of(b0), "b0");
  ASSERT_EQ(text_of(without), "without");
  EXPECT_FALSE(c.next(0s));
  a0->ack();
  auto a1 = c.next(0s);
  ASSERT_EQ(text_of(a1), "a1");
  a1->release();
  a1 = c.next(0s);
  ASSERT_EQ(text_of(a1), "a1");
  a1->nack(10ms);
  EXPECT_FALSE(c.next(0s)) << "on_fail=block: those behind it wait";
  for (const char* text : {"a1", "a2", "a3", "a4"}) {
    auto next = c.next(1s);
    ASSERT_EQ(text_of(next), text);
    next->ack();
  }
  expect_sums(7);
}

TEST_F(Group, WithSkipARetryDoesNotHoldItsKey) {
  add_stream();
  auto c = join({.order = group_order::key, .on_fail = on_fail::skip});
  for (int i = 0; i < 3; ++i) publish_key("a", "a" + std::to_string(i));
  auto a0 = c.next(0s);
  a0->nack(20ms);
  auto a1 = c.next(0s);
  ASSERT_EQ(text_of(a1), "a1");
  std::this_thread::sleep_for(30ms);
  EXPECT_FALSE(c.next(0s)) << "its retry is due, but a1 is out";
  a1->ack();
  for (const char* text : {"a0", "a2"}) {
    auto next = c.next(0s);
    ASSERT_EQ(text_of(next), text);
    next->ack();
  }
  expect_sums(3);
}

// More of one key than are kept waiting: they are passed over, and looked at again.
TEST_F(Group, AHotKeyDoesNotHoldUpTheRest) {
  add_stream(overflow::block, 1, 4 << 20);
  auto c = join({.order = group_order::key, .max_parked = 50});
  auto first = (publish_key("hot", "0"), c.next(0s));
  ASSERT_TRUE(first);
  for (int i = 1; i < 3000; ++i) {
    publish_key("hot", std::to_string(i));
    if (i % 10 == 0) publish_key("cold" + std::to_string(i), "cold");
  }
  std::size_t cold = 0;
  for (auto one = c.next(0s); one; one = c.next(0s)) {
    ASSERT_EQ(one->text(), "cold");
    one->ack();
    ++cold;
  }
  EXPECT_EQ(cold, 299u);
  expect_sums(3299);
  first->ack();
  for (int i = 1; i < 3000; ++i) {
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), std::to_string(i));
    if (i % 100 == 0) {
      ASSERT_FALSE(c.next(0s));
    }
    one->ack();
  }
  EXPECT_FALSE(c.next(0s));
  EXPECT_EQ(info().counts.settled, 3299u);
  EXPECT_EQ(info().counts.pending, 0u);
}

// What is looked at again lies before what was claimed since: the ring keeps it as long as it is out.
TEST_F(Group, WhatIsLookedAtAgainIsNotOverwritten) {
  add_stream();
  auto c = join({.order = group_order::key, .max_parked = 2});
  auto first = (publish_key("hot", "0"), c.next(0s));
  ASSERT_TRUE(first);
  for (int i = 1; i < 20; ++i) publish_key("hot", std::to_string(i));
  publish_key("cold", "cold");
  auto cold = c.next(0s);
  ASSERT_EQ(text_of(cold), "cold");
  first->ack();
  for (int i = 1; i < 20; ++i) {
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), std::to_string(i));
    while (i == 3 && out_->publish(std::string(400, 'x'))) {  // all are found now: fill the ring
    }
    one->ack();
  }
  EXPECT_EQ(cold->ack(), settle_result::ok);
  EXPECT_EQ(info().counts.parked + info().counts.leased, 0u);
}

TEST_F(Group, TotalOrderIsOneAtATime) {
  add_stream();
  auto a = join({.order = group_order::total}), b = join({});
  publish(0, 3);
  auto one = a.next(0s);
  ASSERT_TRUE(one);
  EXPECT_FALSE(b.next(0s));
  one->nack(30ms);
  EXPECT_FALSE(b.next(0s)) << "what failed holds up the rest";
  auto again = b.next(1s);
  ASSERT_EQ(text_of(again), "0");
  again->ack();
  auto next = a.next(0s);
  ASSERT_EQ(text_of(next), "1");
  next->ack();
}

TEST_F(Group, ExclusiveHasOneConsumerAndFailoverOneAfterTheOther) {
  add_stream();
  {
    auto a = join({.group = "alone", .mode = group_mode::exclusive});
    auto second = bus_->consume("orders.>", {.group = "alone"});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, errc::busy);
    EXPECT_NE(second.error().why.find(std::to_string(::getpid())), std::string::npos) << second.error().why;
  }
  EXPECT_TRUE(bus_->consume("orders.>", {.group = "alone"}));
  std::optional<consumer> a = join({.group = "turns", .mode = group_mode::failover});
  auto b = join({.group = "turns"});
  publish(0, 2);
  EXPECT_FALSE(b.next(0s));
  EXPECT_EQ(b.active_token(), 0u);
  const auto token = a->active_token();
  EXPECT_NE(token, 0u);
  ASSERT_TRUE(a->next(0s)->ack() == settle_result::ok);
  a.reset();
  auto one = b.next(1s);
  ASSERT_EQ(text_of(one), "1");
  EXPECT_GT(b.active_token(), token);
}

TEST_F(Group, AckAllSettlesEverythingUpTo) {
  add_stream();
  auto c = join({.ack = ack_policy::all, .mode = group_mode::exclusive});
  publish(0, 10);
  auto got = c.fetch(10, 0s);
  ASSERT_EQ(got.size(), 10u);
  EXPECT_EQ(c.ack_all(got[6]), 7u);
  EXPECT_EQ(info().counts.settled, 7u);
  EXPECT_EQ(got[9].ack(), settle_result::ok);
  EXPECT_EQ(info().counts.settled, 10u);
}

TEST_F(Group, AckNoneIsAtMostOnce) {
  add_stream();
  auto c = join({.ack = ack_policy::none});
  publish(0, 10);
  EXPECT_EQ(c.fetch(10, 0s).size(), 10u);
  EXPECT_EQ(info().counts.settled, 10u);
  EXPECT_FALSE(c.next(0s));
}

TEST_F(Group, FiltersBySubjectAndHeaders) {
  add_stream();
  auto c = join({.group = "eu", .headers = {{{"region", "eu"}}}}, "orders.*.paid");
  auto sender = bus_->publisher("orders.x");
  ASSERT_TRUE(sender);
  const header eu[] = {{"region", "eu"}}, us[] = {{"region", "us"}};
  ASSERT_TRUE(sender->publish_to("orders.1.paid", "yes", eu));
  ASSERT_TRUE(sender->publish_to("orders.1.paid", "no", us));
  ASSERT_TRUE(sender->publish_to("orders.1.open", "no", eu));
  ASSERT_TRUE(sender->publish_to("orders.2.paid", "too", eu));
  for (const char* text : {"yes", "too"}) {
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), text);
    one->ack();
  }
  EXPECT_FALSE(c.next(0s));
  EXPECT_EQ(info("eu").counts.filtered, 2u);
  expect_sums(4, "eu");
}

TEST_F(Group, ASparseFilterIsSearchedToItsEnd) {
  for (const auto& [ring, before] : {std::pair{64 << 10, 900}, {1 << 20, 2000}}) {
    add_stream(overflow::block, 1, static_cast<std::uint64_t>(ring));
    auto c = join({.group = "rare"}, "orders.rare");
    publish(0, before);
    auto sender = bus_->publisher("orders.rare");
    ASSERT_TRUE(sender);
    ASSERT_TRUE(sender->publish("found"));
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), "found");
    one->ack();
    EXPECT_EQ(info("rare").counts.filtered, static_cast<std::uint64_t>(before));
    expect_sums(static_cast<std::uint64_t>(before) + 1, "rare");
    out_.reset();
    ASSERT_TRUE(bus_->remove_stream("orders"));
  }
}

TEST_F(Group, OverwritingStreamsLoseTheUnclaimedOnlyAndCountThem) {
  add_stream(overflow::drop_oldest);
  auto c = join({});
  publish(0, 10);
  auto held = c.fetch(5, 0s);
  ASSERT_EQ(held.size(), 5u);
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(out_->publish(std::string(200, 'x')));
  EXPECT_EQ(held[3].text(), "3");
  EXPECT_EQ(held[3].release(), settle_result::ok);
  auto again = c.next(0s);
  ASSERT_EQ(text_of(again), "3") << "what is out is kept";
  again->ack();
  std::size_t got = 0;
  for (auto one = c.next(0s); one; one = c.next(0s)) one->ack(), ++got;
  EXPECT_GT(got, 100u);
  const auto counts = info().counts;
  EXPECT_EQ(counts.dropped + got + 5, 3010u);
  expect_sums(3010);
}

TEST_F(Group, StartsWhereItIsTold) {
  add_stream();
  publish(0, 10);
  auto all = join({.group = "all"}), fresh = join({.group = "new", .deliver = start::new_messages()}),
       last = join({.group = "last", .deliver = start::last()}),
       sixth = join({.group = "sixth", .deliver = start::by_sequence(6)});
  publish(10, 11);
  auto a = all.next(0s), n = fresh.next(0s), l = last.next(0s), s = sixth.next(0s);
  EXPECT_EQ(text_of(a), "0");
  EXPECT_EQ(text_of(n), "10");
  EXPECT_EQ(text_of(l), "9");
  EXPECT_EQ(text_of(s), "5");
}

TEST_F(Group, PauseStopsClaimsUntilResumed) {
  add_stream();
  auto c = join({});
  publish(0, 1);
  ASSERT_TRUE(bus_->pause_group("orders", "workers"));
  EXPECT_FALSE(c.next(0s));
  EXPECT_TRUE(info().paused);
  ASSERT_TRUE(bus_->resume_group("orders", "workers"));
  EXPECT_TRUE(c.next(0s));
  ASSERT_TRUE(bus_->pause_group("orders", "workers", 30ms));
  publish(1, 2);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(c.next(5s));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
}

TEST_F(Group, WhatAConsumerLeavesBehindGoesBack) {
  add_stream();
  publish(0, 6);
  {
    auto c = join({.backoff = std::vector<std::chrono::nanoseconds>{0ms}, .prefetch = 4});
    auto one = c.next(0s);  // four are claimed, one is in hand
    ASSERT_EQ(text_of(one), "0");
  }
  auto c = join({});
  std::map<std::string, std::uint32_t> failed;
  for (auto one = c.next(0s); one; one = c.next(0s)) {
    failed[std::string(one->text())] = one->failed();
    one->ack();
  }
  EXPECT_EQ(failed.size(), 6u);
  EXPECT_EQ(failed["0"], 1u) << "let go without being settled";
  for (const char* text : {"1", "2", "3"}) EXPECT_EQ(failed[text], 0u) << text;
}

TEST_F(Group, WaitingConsumersAreWoken) {
  add_stream();
  auto c = join({.wait = wait_strategy::block});
  std::thread later([&] {
    std::this_thread::sleep_for(20ms);
    ASSERT_TRUE(out_->publish("hello"));
  });
  auto one = c.next(10s);
  later.join();
  EXPECT_EQ(text_of(one), "hello");
}

TEST_F(Group, WhoSpinsHearsOfAResumeToo) {
  add_stream();
  for (const auto wait : {wait_strategy::busy_spin, wait_strategy::spin_pause, wait_strategy::adaptive}) {
    auto c = join({.ack_wait = 0s, .wait = wait});
    ASSERT_TRUE(bus_->pause_group("orders", "workers"));
    publish(7, 8);
    std::thread later([&] {
      std::this_thread::sleep_for(20ms);
      ASSERT_TRUE(bus_->resume_group("orders", "workers"));
    });
    auto one = c.next(10s);
    later.join();
    ASSERT_EQ(text_of(one), "7");
    one->ack();
  }
}

TEST_F(Group, WhoRejectsSeesTheRoomThatThereIs) {
  add_stream(overflow::reject);
  auto c = join({});
  const std::string large(4000, 'x');
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 12; ++i) ASSERT_TRUE(out_->publish(large)) << round;
    int settled = 0;
    while (settled < 12) {
      auto some = c.fetch(12, 0s);
      ASSERT_FALSE(some.empty());
      for (auto& one : some) settled += one.ack() == settle_result::ok ? 1 : 0;
    }
    ASSERT_TRUE(out_->publish("x")) << round;
    auto one = c.next(0s);
    ASSERT_TRUE(one && one->ack() == settle_result::ok);
  }
}

TEST_F(Group, AConflictNamesTheFields) {
  add_stream();
  auto first = join({.max_deliver = 3});
  auto second = bus_->consume("orders.>", {.group = "workers", .ack_wait = 1s, .max_deliver = 4});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, errc::conflict);
  EXPECT_NE(second.error().why.find("max_deliver"), std::string::npos) << second.error().why;
  EXPECT_NE(second.error().why.find("ack_wait"), std::string::npos) << second.error().why;
  EXPECT_TRUE(bus_->consume("orders.>", {.group = "workers"}));
  EXPECT_FALSE(bus_->consume("orders.>", {.group = "x", .ack = ack_policy::all}));
  EXPECT_FALSE(bus_->consume("orders.>", {.group = "x/y"}));
}

// With so many keys they are looked for ahead, at a guessed place: records of other sizes must not mislead it.
TEST_F(Group, ManyKeysInFlightKeepTheOrderOfEach) {
  add_stream(overflow::block, 1, 4 << 20);
  auto c = join({.order = group_order::key, .max_ack_pending = 10'000, .hold_bytes = 16 << 20});
  std::vector<lease> held;
  for (int i = 0; i < 5000; ++i) {
    publish_key("held" + std::to_string(i), "x");
    auto one = c.next(0s);
    ASSERT_TRUE(one) << i;
    held.push_back(std::move(*one));
  }
  std::map<int, int> last;
  int next = 0, got = 0;
  while (got < 4000) {
    for (int i = 0; i < 40; ++i, ++next) {
      const std::size_t more = next % 7 == 0 ? static_cast<std::size_t>(next % 500) : 0;
      publish_key("k" + std::to_string(next % 13), std::to_string(next) + std::string(more, ' '));
    }
    for (auto batch = c.fetch(16, 0s); !batch.empty(); batch = c.fetch(16, 0s))
      for (auto& one : batch) {
        const int value = std::stoi(std::string(one.text()));
        const int key = value % 13;
        ASSERT_EQ(one.header("key"), "k" + std::to_string(key));
        ASSERT_EQ(value, last.contains(key) ? last[key] + 13 : key);
        last[key] = value;
        ++got;
        ASSERT_EQ(one.ack(), settle_result::ok);
      }
  }
  for (auto& one : held) ASSERT_EQ(one.ack(), settle_result::ok);
  expect_sums(static_cast<std::uint64_t>(next) + 5000);
}

TEST_F(Group, AnExpiredLeaseIsAnEvent) {
  add_stream();
  auto c = join({.ack_wait = 20ms, .backoff = std::vector<std::chrono::nanoseconds>{0s}});
  auto watch = bus_->subscribe("_bus.event.group.>");
  ASSERT_TRUE(watch);
  publish(0, 2);
  auto slow = c.next(0s);
  ASSERT_TRUE(slow);
  ASSERT_EQ(c.next(0s)->ack(), settle_result::ok);
  EXPECT_FALSE(watch->next(0s));
  auto again = c.next(5s);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->ack(), settle_result::ok);
  EXPECT_EQ(slow->ack(), settle_result::stale_lease);
  auto told = watch->next(5s);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->subject(), "_bus.event.group.expired");
  const std::string text(told->text());
  EXPECT_NE(text.find(R"("stream":"orders","group":"workers","lane":0,"sequence":1,"holder":")"), std::string::npos)
      << text;
  EXPECT_NE(text.find("(pid " + std::to_string(::getpid()) + ")"), std::string::npos) << text;
  EXPECT_FALSE(watch->next(0s));
}

// Its position is older than every waypoint that is left, or was overwritten: neither is damage.
TEST_F(Group, ARepairByHandOfAFullRingChangesNothing) {
  for (const overflow policy : {overflow::block, overflow::drop_oldest}) {
    const std::string stream = policy == overflow::block ? "full" : "lapped";
    stream_config config;
    config.name = stream;
    config.subjects = {stream};
    config.ring_bytes = 64 << 10;
    config.max_message_bytes = 2048;
    config.overflow = policy;
    config.send_timeout = 1ms;
    ASSERT_TRUE(bus_->add_stream(config));
    auto c = bus_->consume(stream, {.group = "workers", .stream = stream});
    ASSERT_TRUE(c) << c.error().message();
    auto out = bus_->publisher(stream);
    ASSERT_TRUE(out);
    for (int i = 0; i < 100; ++i) (void)out->publish(std::string(100, 'x'));
    for (int i = 0; i < 90; ++i) EXPECT_EQ(c->next(0s)->ack(), settle_result::ok);
    int published = 100;
    while (published < 3000 && out->publish(std::string(100, 'x'))) ++published;
    const auto before = bus_->group(stream, "workers")->counts;
    const auto repaired = bus_->repair_group(stream, "workers");
    ASSERT_TRUE(repaired) << repaired.error().message();
    EXPECT_EQ(*repaired, 0u);
    const auto after = bus_->group(stream, "workers")->counts;
    EXPECT_EQ(after.settled, 90u);
    EXPECT_EQ(after.settled, before.settled);
    EXPECT_EQ(after.unclaimed + after.dropped, before.unclaimed + before.dropped);
  }
}

// From one message to the next what it stands at is overwritten; also where its own waypoint is still there.
TEST_F(Group, ARepairByHandChangesNothingWhileItIsLapped) {
  stream_config config;
  config.name = "ring";
  config.subjects = {"ring"};
  config.ring_bytes = 64 << 10;
  config.max_message_bytes = 2048;
  config.overflow = overflow::drop_oldest;
  ASSERT_TRUE(bus_->add_stream(config));
  auto c = bus_->consume("ring", {.group = "workers", .stream = "ring"});
  ASSERT_TRUE(c) << c.error().message();
  auto out = bus_->publisher("ring");
  ASSERT_TRUE(out);
  std::uint64_t settled = 0, published = 0;
  for (int place = 0; place < 40; ++place) {
    for (int i = 0; i < 2 + place % 3; ++i, ++published) ASSERT_TRUE(out->publish(std::string(100, 'x')));
    auto one = c->next(1s);
    ASSERT_TRUE(one);
    ASSERT_EQ(one->ack(), settle_result::ok);
    ++settled;
    for (int i = 0; i < 420; ++i) {
      ASSERT_TRUE(out->publish(std::string(100, 'x')));
      ++published;
      if (i < 300) continue;
      const auto repaired = bus_->repair_group("ring", "workers");
      ASSERT_TRUE(repaired) << repaired.error().message();
      ASSERT_EQ(*repaired, 0u);
    }
    while (auto next = c->next(0s)) settled += next->ack() == settle_result::ok ? 1 : 0;
    const auto counts = bus_->group("ring", "workers")->counts;
    ASSERT_EQ(counts.settled, settled) << place;
    ASSERT_EQ(counts.settled + counts.dropped, published) << place;
  }
}

TEST_F(Group, SurvivesARepairAtAnyTime) {
  add_stream(overflow::block, 1, 1 << 20);
  auto c = join({.order = group_order::key, .max_parked = 20, .backoff = std::vector<std::chrono::nanoseconds>{1h}});
  for (int i = 0; i < 300; ++i) publish_key("k" + std::to_string(i % 7), std::to_string(i));
  std::vector<lease> out;
  std::set<std::string> seen;
  for (int i = 0; i < 7; ++i) {
    auto one = c.next(0s);
    ASSERT_TRUE(one);
    seen.insert(std::string(one->text()));
    if (i % 3 == 0)
      out.push_back(std::move(*one));
    else if (i % 3 == 1)
      one->ack();
    else
      one->release();
    const auto repaired = bus_->repair_group("orders", "workers");
    ASSERT_TRUE(repaired) << repaired.error().message();
    ASSERT_EQ(*repaired, 0u);
    expect_sums(300);
  }
  for (auto& l : out) EXPECT_EQ(l.ack(), settle_result::ok);
  std::map<int, int> last;
  for (auto one = c.next(0s); one; one = c.next(0s)) {
    const int value = std::stoi(std::string(one->text()));
    seen.insert(std::string(one->text()));
    ASSERT_GT(value, last.contains(value % 7) ? last[value % 7] : -1);
    last[value % 7] = value;
    one->ack();
    if (value % 13 == 0) {
      ASSERT_EQ(*bus_->repair_group("orders", "workers"), 0u);
    }
  }
  EXPECT_EQ(seen.size(), 300u);
  EXPECT_EQ(info().counts.settled, 300u);
}

TEST_F(Group, WithoutConsumersItLetsPublishersGoInTheEnd) {
  add_stream();
  group_config config;
  config.name = "workers";
  config.stream = "orders";
  config.idle_release = 100ms;
  ASSERT_TRUE(bus_->add_group(config));
  {
    auto c = join({.backoff = {}});
    publish(0, 2);
    auto one = c.next(0s);
    ASSERT_TRUE(one);
    EXPECT_EQ(one->nack(1h), settle_result::ok);
  }
  int sent = 2;
  while (out_->publish(std::string(1000, 'x'))) ++sent;
  EXPECT_LT(sent, 70) << "for a while they are held back";
  std::this_thread::sleep_for(120ms);
  for (int i = 0; i < 200; ++i, ++sent) ASSERT_TRUE(out_->publish(std::string(1000, 'y'))) << i;
  EXPECT_EQ(info().counts.delayed, 1u) << "what waits for its retry stays";
  auto c = join({});
  std::uint64_t got = 0;
  for (auto one = c.next(0s); one; one = c.next(0s)) one->ack(), ++got;
  EXPECT_GT(got, 40u);
  const auto counts = info().counts;
  EXPECT_GT(counts.dropped, 100u);
  EXPECT_EQ(counts.dropped + got + 1, static_cast<std::uint64_t>(sent));
  expect_sums(static_cast<std::uint64_t>(sent));
  int held = 0;
  while (out_->publish(std::string(1000, 'z'))) ++held;
  EXPECT_LT(held, 70) << "held back again";
}

TEST_F(Group, LeasesThatOutliveTheirConsumerAreStale) {
  add_stream();
  publish(0, 1);
  std::optional<lease> one;
  {
    auto c = join({.backoff = std::vector<std::chrono::nanoseconds>{0s}});
    one = c.next(0s);
    ASSERT_TRUE(one);
  }
  EXPECT_EQ(one->text(), "0");
  EXPECT_NE(one->ack(), settle_result::ok);
  auto c = join({});
  auto again = c.next(0s);
  ASSERT_EQ(text_of(again), "0");
  EXPECT_EQ(again->ack(), settle_result::ok);
  one.reset();
  expect_sums(1);
}

TEST_F(Group, SeveralLanesAreTakenInTheOrderOfTime) {
  add_stream(overflow::block, 3);
  auto c = join({});
  std::optional<publisher> outs[3];
  for (std::uint32_t lane = 0; lane < 3; ++lane) {
    auto made = bus_->publisher("orders.new", {.lane = lane});
    ASSERT_TRUE(made);
    outs[lane].emplace(std::move(*made));
  }
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(outs[i % 3]->publish(std::to_string(i)));
    std::this_thread::sleep_for(100us);
  }
  for (int i = 0; i < 30; ++i) {
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), std::to_string(i));
    one->ack();
  }
  expect_sums(30);
}

}  // namespace
}  // namespace bus
