// Groups on a memory stream: which consumer gets a message, and how it is settled.

#include <map>
#include <set>
#include <thread>

#include "group_fixture.hpp"

namespace bus {
namespace {

using namespace std::chrono_literals;

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
      EXPECT_EQ(one->ack(), settle_result::ok);
    }
}

TEST_F(Group, ReturnsWhatFailedAfterTheBackOffAndBuriesItInTheEnd) {
  add_stream();
  auto c = join({.max_deliver = 3,
                 .backoff = std::vector<std::chrono::nanoseconds>{0ms, 30ms},
                 .jitter = 0.0});
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
  EXPECT_EQ(other->ack(), settle_result::ok);
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
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(dead.payload.data()), dead.payload.size()),
            "0");
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
  EXPECT_EQ(letters->front().headers, (std::vector<std::pair<std::string, std::string>>{
                                          {"message-id", "7"}, {"tenant", "blue"}}));
  auto dropped = bus_->drop_dead_letters("orders", "workers");
  ASSERT_TRUE(dropped);
  EXPECT_EQ(*dropped, 1u);
  EXPECT_TRUE(bus_->dead_letters("orders", "workers")->empty());
  for (const start& from : {start::all(), start::last(), start::by_sequence(1)}) {
    auto reader = bus_->subscribe("_dlq.orders.workers", {.start = from});
    ASSERT_TRUE(reader);
    EXPECT_FALSE(reader->next(0s)) << "what was dropped is still in the ring, and nobody's to read";
  }
  expect_sums(1);
}

TEST_F(Group, DeadLettersCanBeReadAsAStreamAndNobodyElseWritesThem) {
  add_stream();
  auto c = join({});
  auto letters = bus_->subscribe("_dlq.orders.workers", {.start = start::all()});
  ASSERT_TRUE(letters);
  publish(0, 1);
  EXPECT_EQ(c.next(0s)->reject("no"), settle_result::ok);
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
  for (int i = 0; i < 3; ++i) EXPECT_EQ(c.next(0s)->reject("no"), settle_result::ok);
  EXPECT_EQ(info().counts.dead, 3u);
  expect_sums(3);
  EXPECT_FALSE(bus_->stream("orders.workers.dlq"));
}

TEST_F(Group, ALeaseThatEndedIsStale) {
  add_stream();
  auto a = join({.ack_wait = 20ms, .backoff = std::vector<std::chrono::nanoseconds>{0ms}}),
       b = join({});
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

TEST_F(Group, ExclusiveHasOneConsumerAndFailoverOneAfterTheOther) {
  add_stream();
  {
    auto a = join({.group = "alone", .mode = group_mode::exclusive});
    auto second = bus_->consume("orders.>", {.group = "alone"});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, errc::busy);
    EXPECT_NE(second.error().why.find(std::to_string(::getpid())), std::string::npos)
        << second.error().why;
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
    EXPECT_EQ(one->ack(), settle_result::ok);
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
    EXPECT_EQ(one->ack(), settle_result::ok);
    EXPECT_EQ(info("rare").counts.filtered, static_cast<std::uint64_t>(before));
    expect_sums(static_cast<std::uint64_t>(before) + 1, "rare");
    out_.reset();
    ASSERT_TRUE(bus_->remove_stream("orders"));
  }
}

TEST_F(Group, PeekShowsWhatComesNextInTheOrderOfClaims) {
  add_stream(overflow::block, 2);
  auto c = join({});
  auto zero = bus_->publisher("orders.a", {.mode = publish_mode::exclusive, .lane = 0});
  auto one = bus_->publisher("orders.b", {.mode = publish_mode::exclusive, .lane = 1});
  ASSERT_TRUE(zero && one);
  // Lanes are ordered by their stamps. The pauses give each message a different stamp, even if
  // the counter is coarse.
  int sent = 0;
  for (; sent < 20; ++sent) {
    std::this_thread::sleep_for(10us);
    ASSERT_TRUE((sent / 3 % 2 == 0 ? *zero : *one).publish(std::to_string(sent)));
  }
  std::this_thread::sleep_for(10us);
  std::vector<std::string> batch;  // all of it has the same stamp
  for (; sent < 30; ++sent) batch.push_back(std::to_string(sent));
  std::vector<std::span<const std::byte>> payloads;
  for (const std::string& text : batch) payloads.push_back(std::as_bytes(std::span(text)));
  ASSERT_TRUE(zero->publish_batch(payloads));
  const auto all = bus_->peek("orders", "workers", 100), some = bus_->peek("orders", "workers", 7);
  ASSERT_TRUE(all && some);
  ASSERT_EQ(all->size(), 30u);
  ASSERT_EQ(some->size(), 7u);
  for (std::size_t i = 0; i < 30; ++i) {
    const auto& seen = (*all)[i];
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(seen.payload.data()), seen.payload.size()),
              std::to_string(i));
    EXPECT_LE(seen.age, (*all)[i == 0 ? 0 : i - 1].age);
    EXPECT_EQ((*some)[std::min<std::size_t>(i, 6)].payload,
              (*all)[std::min<std::size_t>(i, 6)].payload);
    auto next = c.next(0s);
    EXPECT_EQ(text_of(next), std::to_string(i));
    EXPECT_TRUE(!next || next->ack() == settle_result::ok);
  }
}

TEST_F(Group, StartsWhereItIsTold) {
  add_stream();
  publish(0, 10);
  auto all = join({.group = "all"}),
       fresh = join({.group = "new", .deliver = start::new_messages()}),
       last = join({.group = "last", .deliver = start::last()}),
       sixth = join({.group = "sixth", .deliver = start::by_sequence(6)});
  publish(10, 11);
  auto a = all.next(0s), n = fresh.next(0s), l = last.next(0s), s = sixth.next(0s);
  EXPECT_EQ(text_of(a), "0");
  EXPECT_EQ(text_of(n), "10");
  EXPECT_EQ(text_of(l), "9");
  EXPECT_EQ(text_of(s), "5");
}

TEST_F(Group, StartsAtTheLastOfAllLanes) {
  add_stream(overflow::block, 3);
  auto first = bus_->publisher("orders.a", {.lane = 0}),
       second = bus_->publisher("orders.a", {.lane = 1});
  ASSERT_TRUE(first && second);
  ASSERT_TRUE(first->publish("1") && second->publish("2") && first->publish("3") &&
              second->publish("4") && first->publish("5"));
  auto c = join({.deliver = start::last()});
  ASSERT_TRUE(second->publish("6"));
  for (const char* expected : {"5", "6", "nothing"}) {
    auto one = c.next(0s);
    EXPECT_EQ(text_of(one), expected);
    EXPECT_TRUE(!one || one->ack() == settle_result::ok);
  }
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
    auto one = c.next(0s);  // four are claimed, one is in the lease
    ASSERT_EQ(text_of(one), "0");
  }
  auto c = join({});
  std::map<std::string, std::uint32_t> failed;
  for (auto one = c.next(0s); one; one = c.next(0s)) {
    failed[std::string(one->text())] = one->failed();
    EXPECT_EQ(one->ack(), settle_result::ok);
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
  for (const auto wait :
       {wait_strategy::busy_spin, wait_strategy::spin_pause, wait_strategy::adaptive}) {
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
    EXPECT_EQ(one->ack(), settle_result::ok);
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
  EXPECT_NE(text.find(R"("stream":"orders","group":"workers","lane":0,"sequence":1,"holder":")"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("(pid " + std::to_string(::getpid()) + ")"), std::string::npos) << text;
  EXPECT_FALSE(watch->next(0s));
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

}  // namespace
}  // namespace bus
