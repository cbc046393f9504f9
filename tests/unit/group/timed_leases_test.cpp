// Leases with a time of their own, which extend() gives: they are in the heap of timers and not in
// the list of leases.

#include "client/group_fixture.hpp"
#include "consume/group_control.hpp"
#include "sync/failpoint.hpp"
#include "sync/seeded_fault.hpp"

namespace bus {

void sync::failpoint_reached(failpoint) noexcept {}

namespace {

using namespace std::chrono_literals;

class TimedLeases : public Group {
 protected:
  void TearDown() override { sync::seeded = sync::fault::none; }

  // How many messages remain when the last of three leases, two of them extended, is acknowledged.
  std::uint64_t left_by_ack_all(sync::fault seeded) {
    sync::seeded = sync::fault::none;
    auto c = join({.ack = ack_policy::all, .mode = group_mode::exclusive, .max_deliver = 100});
    publish(0, 3);
    auto held = c.fetch(3, 0s);
    EXPECT_EQ(held.size(), 3u);
    EXPECT_EQ(held[0].extend(1h), settle_result::ok);
    EXPECT_EQ(held[2].extend(2h), settle_result::ok);
    sync::seeded = seeded;
    (void)held[2].ack();
    sync::seeded = sync::fault::none;
    return info().counts.pending;
  }
};

TEST_F(TimedLeases, AreSettledByACumulativeAck) {
  add_stream();
  EXPECT_EQ(left_by_ack_all(sync::fault::none), 0u);
}

TEST_F(TimedLeases, AreMissedByASeededMistake) {
  add_stream();
  EXPECT_NE(left_by_ack_all(sync::fault::timed_leases_forgotten), 0u);
}

// Each return moves other entries of the heap; none may be passed over.
TEST_F(TimedLeases, AllReturnWhenTheirConsumerDies) {
  add_stream();
  constexpr int each = 120;
  auto dies = join({.max_ack_pending = 2 * each, .backoff = {{5ms, 1s, 1h}}, .jitter = 1.0});
  auto lives = join({});
  publish(0, 2 * each);
  auto of_dead = dies.fetch(each, 0s), of_living = lives.fetch(each, 0s);
  ASSERT_EQ(of_dead.size(), std::size_t{each});
  ASSERT_EQ(of_living.size(), std::size_t{each});
  std::uint32_t random = 1;
  for (std::size_t i = 0; i < each; ++i)
    for (auto* batch : {&of_dead, &of_living}) {
      random = random * 1664525 + 1013904223;
      if (random >> 31 != 0) {
        EXPECT_EQ((*batch)[i].start(), settle_result::ok);
      }
      EXPECT_EQ((*batch)[i].extend(std::chrono::minutes(1 + random % 600)), settle_result::ok);
    }
  auto other = session_core::open({here_.url("t", ""), "other"});
  ASSERT_TRUE(other);
  auto group = consume::open_group(**other, "orders", "workers");
  ASSERT_TRUE(group);
  ASSERT_TRUE((*group)->lock(1s));
  EXPECT_EQ((*group)->core().member_died(0, (*group)->now()), std::uint32_t{each});
  (*group)->unlock();
  const auto counts = info().counts;
  EXPECT_EQ(counts.leased, std::uint64_t{each}) << "those of the living one";
  EXPECT_EQ(counts.pending, std::uint64_t{2 * each});
}

}  // namespace
}  // namespace bus
