// Groups: the order of messages, and how many may be out.

#include <cstring>
#include <map>

#include "group_fixture.hpp"
#include "layout/record.hpp"

namespace bus {
namespace {

using namespace std::chrono_literals;

TEST_F(Group, TheWindowBoundsWhatIsOut) {
  add_stream();
  auto c = join({.max_ack_pending = 3});
  publish(0, 10);
  auto out = c.fetch(10, 0s);
  EXPECT_EQ(out.size(), 3u);
  EXPECT_EQ(c.fetch(10, 0s).size(), 0u);
  EXPECT_EQ(out[1].ack(), settle_result::ok);
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
    EXPECT_EQ(one->nack(1h), settle_result::ok);
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
  EXPECT_EQ(a0->ack(), settle_result::ok);
  auto a1 = c.next(0s);
  ASSERT_EQ(text_of(a1), "a1");
  EXPECT_EQ(a1->release(), settle_result::ok);
  a1 = c.next(0s);
  ASSERT_EQ(text_of(a1), "a1");
  EXPECT_EQ(a1->nack(10ms), settle_result::ok);
  EXPECT_FALSE(c.next(0s)) << "on_fail=block: those behind it wait";
  for (const char* text : {"a1", "a2", "a3", "a4"}) {
    auto next = c.next(1s);
    ASSERT_EQ(text_of(next), text);
    EXPECT_EQ(next->ack(), settle_result::ok);
  }
  expect_sums(7);
}

TEST_F(Group, WithSkipARetryDoesNotHoldItsKey) {
  add_stream();
  auto c = join({.order = group_order::key, .on_fail = on_fail::skip});
  for (int i = 0; i < 3; ++i) publish_key("a", "a" + std::to_string(i));
  auto a0 = c.next(0s);
  EXPECT_EQ(a0->nack(20ms), settle_result::ok);
  auto a1 = c.next(0s);
  ASSERT_EQ(text_of(a1), "a1");
  std::this_thread::sleep_for(30ms);
  EXPECT_FALSE(c.next(0s)) << "its retry is due, but a1 is out";
  EXPECT_EQ(a1->ack(), settle_result::ok);
  for (const char* text : {"a0", "a2"}) {
    auto next = c.next(0s);
    ASSERT_EQ(text_of(next), text);
    EXPECT_EQ(next->ack(), settle_result::ok);
  }
  expect_sums(3);
}

// More messages of one key than may be parked: the rest is passed over and found again later.
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
    EXPECT_EQ(one->ack(), settle_result::ok);
    ++cold;
  }
  EXPECT_EQ(cold, 299u);
  expect_sums(3299);
  EXPECT_EQ(first->ack(), settle_result::ok);
  for (int i = 1; i < 3000; ++i) {
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), std::to_string(i));
    if (i % 100 == 0) {
      ASSERT_FALSE(c.next(0s));
    }
    EXPECT_EQ(one->ack(), settle_result::ok);
  }
  EXPECT_FALSE(c.next(0s));
  EXPECT_EQ(info().counts.settled, 3299u);
  EXPECT_EQ(info().counts.pending, 0u);
}

// Messages that were passed over precede those claimed since: the ring keeps them until they are
// claimed.
TEST_F(Group, WhatIsLookedAtAgainIsNotOverwritten) {
  add_stream();
  auto c = join({.order = group_order::key, .max_parked = 2});
  auto first = (publish_key("hot", "0"), c.next(0s));
  ASSERT_TRUE(first);
  for (int i = 1; i < 20; ++i) publish_key("hot", std::to_string(i));
  publish_key("cold", "cold");
  auto cold = c.next(0s);
  ASSERT_EQ(text_of(cold), "cold");
  EXPECT_EQ(first->ack(), settle_result::ok);
  for (int i = 1; i < 20; ++i) {
    auto one = c.next(0s);
    ASSERT_EQ(text_of(one), std::to_string(i));
    while (i == 3 && out_->publish(std::string(400, 'x'))) {  // all are found by now: fill the ring
    }
    EXPECT_EQ(one->ack(), settle_result::ok);
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
  EXPECT_EQ(one->nack(30ms), settle_result::ok);
  EXPECT_FALSE(b.next(0s)) << "what failed holds up the rest";
  auto again = b.next(1s);
  ASSERT_EQ(text_of(again), "0");
  EXPECT_EQ(again->ack(), settle_result::ok);
  auto next = a.next(0s);
  ASSERT_EQ(text_of(next), "1");
  EXPECT_EQ(next->ack(), settle_result::ok);
}

// With this many keys in flight, keys are looked up ahead at a guessed position. Records of other
// sizes must not mislead the look-up.
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

// With many keys in flight, keys are looked up four records ahead, at the position where the
// record should lie. A payload that imitates a record of another key there must not be trusted.
TEST_F(Group, APayloadThatLooksLikeARecordIsNotTakenForOne) {
  for (const std::size_t phase : {0u, 32u}) {
    SCOPED_TRACE(phase);
    add_stream(overflow::block, 1, 4 << 20);
    auto c = join({.order = group_order::key, .max_ack_pending = 10'000, .hold_bytes = 16 << 20});
    std::vector<lease> held;
    std::uint64_t sequence = 0;
    for (; sequence < 5000; ++sequence) {
      publish_key("held" + std::to_string(sequence), "x");
      auto one = c.next(0s);
      ASSERT_TRUE(one);
      held.push_back(std::move(*one));
    }
    const std::uint64_t forged = sequence + 5;  // four after the first of the next ones
    const std::uint64_t words[] = {
        forged, layout::record_shape{0, 32, layout::flag_headers}.pack(), 0, 0, 0, 0, 0, 0};
    std::string record(reinterpret_cast<const char*>(words), sizeof words);
    const std::uint16_t lengths[] = {3, 5};
    std::memcpy(record.data() + layout::record_header_bytes, lengths, sizeof lengths);
    record.replace(layout::record_header_bytes + sizeof lengths, 8, "keyother");
    std::string payload(phase, ' ');
    while (payload.size() < 2048) payload += record;
    publish_key("a", "first");
    publish_key("b", payload);
    publish_key("c", "third");
    publish_key("d", "fourth");
    publish_key("held77", "fifth");
    for (int i = 0; i < 1000; ++i) publish_key("e" + std::to_string(i), "more");
    std::size_t got = 0;
    for (auto batch = c.fetch(64, 0s); !batch.empty(); batch = c.fetch(64, 0s))
      for (auto& one : batch) {
        EXPECT_NE(one.header("key"), "held77") << "somebody has this key";
        EXPECT_EQ(one.ack(), settle_result::ok);
        ++got;
      }
    EXPECT_EQ(got, 1004u);
    for (auto& one : held) EXPECT_EQ(one.ack(), settle_result::ok);
    EXPECT_EQ(c.fetch(64, 0s).size(), 1u);
    ASSERT_TRUE(bus_->remove_stream("orders"));
  }
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
    EXPECT_EQ(one->ack(), settle_result::ok);
  }
  expect_sums(30);
}

}  // namespace
}  // namespace bus
