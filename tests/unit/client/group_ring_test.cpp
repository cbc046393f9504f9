// Groups and the ring: what pins the ring, what leaves it, what is lost when it is overwritten,
// what a repair finds.

#include <map>
#include <set>

#include "group_fixture.hpp"

namespace bus {
namespace {

using namespace std::chrono_literals;

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
    EXPECT_EQ(one->ack(), settle_result::ok);
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
  EXPECT_EQ(again->ack(), settle_result::ok);
  expect_sums(500);
}

// Nothing is settled while the ring is overwritten several times: each claim must copy out of the
// ring as many messages as it takes.
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
  EXPECT_EQ(again->ack(), settle_result::ok);
  std::size_t got = 0;
  for (auto one = c.next(0s); one; one = c.next(0s)) {
    EXPECT_EQ(one->ack(), settle_result::ok);
    ++got;
  }
  EXPECT_GT(got, 100u);
  const auto counts = info().counts;
  EXPECT_EQ(counts.dropped + got + 5, 3010u);
  expect_sums(3010);
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

// The group's position is older than every remaining waypoint, or was overwritten: neither is
// damage.
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

// Each publish may overwrite the record at the group's position, even while its waypoint is
// intact.
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
    for (int i = 0; i < 2 + place % 3; ++i, ++published)
      ASSERT_TRUE(out->publish(std::string(100, 'x')));
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
  auto c = join({.order = group_order::key,
                 .max_parked = 20,
                 .backoff = std::vector<std::chrono::nanoseconds>{1h}});
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
      EXPECT_EQ(one->ack(), settle_result::ok);
    else
      EXPECT_EQ(one->release(), settle_result::ok);
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
    EXPECT_EQ(one->ack(), settle_result::ok);
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
  for (auto one = c.next(0s); one; one = c.next(0s)) {
    EXPECT_EQ(one->ack(), settle_result::ok);
    ++got;
  }
  EXPECT_GT(got, 40u);
  const auto counts = info().counts;
  EXPECT_GT(counts.dropped, 100u);
  EXPECT_EQ(counts.dropped + got + 1, static_cast<std::uint64_t>(sent));
  expect_sums(static_cast<std::uint64_t>(sent));
  int held = 0;
  while (out_->publish(std::string(1000, 'z'))) ++held;
  EXPECT_LT(held, 70) << "held back again";
}

}  // namespace
}  // namespace bus
