// Tests of group_checker: the library makes a mistake on purpose, and the checker must complain.
// Each case first runs without the mistake: then there must be no complaint.

#include <gtest/gtest.h>

#include "group_rounds.hpp"
#include "sync/seeded_fault.hpp"

namespace {

using namespace test;
using bus::sync::fault;
using kind = complaint_kind;
using enum failpoint;

class GroupSeededBugs : public ::testing::Test {
 protected:
  void SetUp() override { ::alarm(100); }
  void TearDown() override {
    ::alarm(0);
    bus::sync::seeded = fault::none;
  }

  // Victims die at `at`, at one hit after another, until there is a complaint.
  std::vector<complaint> with(fault seeded, const group_stage::options& on, failpoint at,
                              const group_victim& other = nullptr) {
    bus::sync::seeded = seeded;
    group_stage s(on);
    shared_value<failpoint_plan> plan;
    for (std::uint64_t hit = 1; hit <= 12 && s.checker().complaints().empty(); ++hit)
      (void)run_round(s, *plan, at, hit, 40, [&](std::uint32_t life) {
        return other ? other(life) : consume_everything(s, life);
      });
    return s.checker().complaints();
  }
  void expect_caught(fault seeded, const group_stage::options& on, failpoint at,
                     std::initializer_list<kind> kinds) {
    for (const auto& c : with(fault::none, on, at))
      ADD_FAILURE() << "without a mistake: " << complaint_name(c.kind) << ": " << c.text;
    const auto found = with(seeded, on, at);
    bool caught = false;
    for (const kind wanted : kinds) caught = caught || any_is(found, wanted);
    EXPECT_TRUE(caught) << "the mistake went unnoticed" << report_of(found, 0);
    if (!found.empty())
      std::printf("caught:%s\n", report_of({found.front()}, found.size() - 1).c_str());
  }
};

}  // namespace

TEST_F(GroupSeededBugs, ACursorThatIsStoredBeforeTheSlots) {
  expect_caught(fault::cursor_before_slots, small_group(), claim_taking, {kind::lost, kind::sums});
}

TEST_F(GroupSeededBugs, AnAckOfAnOlderLease) {
  auto on = small_group();
  on.group.ack_wait = 10ms;
  for (const fault seeded : {fault::none, fault::ack_without_generation}) {
    bus::sync::seeded = seeded;
    group_stage s(on);
    s.begin_round();
    s.publish(8);
    auto session = bus::open(s.url());
    ASSERT_TRUE(session);
    const std::uint32_t first_life = s.new_life(), second_life = s.new_life();
    auto first = group_worker::open(*session, s.history(), first_life, s.group());
    auto second = group_worker::open(*session, s.history(), second_life, s.group());
    ASSERT_TRUE(first && second);
    EXPECT_EQ(first->fetch(8, 1s), 8u);
    ::usleep(12'000);
    EXPECT_EQ(second->fetch(8, 1s), 8u);
    first->settle_all(verb::ack);
    second->settle_all(verb::ack);
    (void)s.drain();
    EXPECT_EQ(s.checker().has(kind::two_holders), seeded != fault::none) << s.checker().report();
  }
}

TEST_F(GroupSeededBugs, ADeadLetterThatIsFreedBeforeItIsWritten) {
  expect_caught(fault::dead_letter_freed_too_early, small_group(), death_decided,
                {kind::lost, kind::sums});
}

TEST_F(GroupSeededBugs, ADeadLetterThatIsWrittenTwice) {
  expect_caught(fault::dead_letter_written_again, small_group(), death_written,
                {kind::dead_letters});
}

TEST_F(GroupSeededBugs, ASettledMessageThatNobodyCollects) {
  expect_caught(fault::unlisted_never_collected, small_group(), settle_marked,
                {kind::lost, kind::other});
}

TEST_F(GroupSeededBugs, AKeyThatIsReleasedTooEarly) {
  auto on = small_group();
  on.group.order = bus::group_order::key;
  expect_caught(fault::key_released_early, on, claim_cursor, {kind::reordered});
}

TEST_F(GroupSeededBugs, AReturnedLeaseThatCountsAsSettled) {
  expect_caught(fault::returned_is_settled, small_group(), claim_cursor, {kind::lost, kind::sums});
}

TEST_F(GroupSeededBugs, AKeyThatForgetsWhatItPassedOver) {
  auto on = small_group();
  on.group.order = bus::group_order::key;
  on.group.max_parked = 3;
  on.keys = 2;
  expect_caught(fault::passed_over_is_forgotten, on, claim_cursor, {kind::lost, kind::stalled});
}
