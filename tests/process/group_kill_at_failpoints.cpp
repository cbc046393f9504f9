// Kills a consumer at every failpoint of claim, settle, return, retry, death and repair, at the
// first, some middle and a late hit. Then a survivor settles the rest, and the history of both is
// judged. After each kill the group must be as good as new.

#include <gtest/gtest.h>

#include <algorithm>

#include "group_rounds.hpp"

namespace {

using namespace test;
using bus::overflow;
using enum failpoint;

struct tally : failpoint_tally {
  times continued;
  std::uint64_t judged = 0;
  std::size_t scenarios = 0;
} all;

constexpr std::size_t scenario_count = 14;

class scenario {
 public:
  using work = group_victim;

  scenario(std::string name, group_stage::options on, std::vector<failpoint> must,
           std::size_t messages = 60)
      : name_(std::move(name)),
        must_(std::move(must)),
        messages_(messages),
        watchdog_(120),
        stage_(std::move(on)) {}

  group_stage& on() noexcept { return stage_; }

  /// Runs `victim` once to see what it reaches, then once for each place to die.
  void run(const work& victim) {
    const auto seen = one(victim, count, 0);
    for (std::size_t i = 0; i < failpoints; ++i) {
      const auto at = static_cast<failpoint>(i);
      if (!is_of_groups(at) && at != lock_taken_over) continue;
      all.hits[i] += seen[i];
      std::size_t died = 0;
      const bool forced = std::find(must_.begin(), must_.end(), at) != must_.end();
      for (std::size_t turn = 0; turn < (forced ? turns : 1); ++turn)
        for (const std::uint64_t hit : hits_to_die_at(seen[i])) {
          if (!stage_.checker().complaints().empty()) break;
          one(victim, at, hit);
          if (plan_->killed_ns.load(std::memory_order_acquire) != 0)
            ++died, ++all.kills[i], ++kills_;
        }
      if (!stage_.checker().complaints().empty()) break;
      EXPECT_TRUE(died != 0 || !forced) << name_ << ": it was never killed at " << name_of(at);
    }
    std::printf("%-24s %zu kills, %llu messages judged; the survivor had the first, %s\n",
                name_.c_str(), kills_, static_cast<unsigned long long>(stage_.checker().judged()),
                continued_.line().c_str());
    all.judged += stage_.checker().judged();
    ++all.scenarios;
  }

  std::size_t turns = 1;                  ///< rounds for failpoints that must kill
  std::function<void()> between = [] {};  ///< called after publishing, before the victim starts

 private:
  std::array<std::uint64_t, failpoints> one(const work& victim, failpoint at, std::uint64_t hit) {
    const group_round done = run_round(stage_, *plan_, at, hit, messages_, victim, between);
    continued_.add(done.took_ns);
    all.continued.add(done.took_ns);
    EXPECT_TRUE(stage_.checker().complaints().empty())
        << name_ << ", killed at " << done.where << stage_.checker().report();
    return done.hits;
  }

  std::string name_;
  std::vector<failpoint> must_;
  std::size_t messages_;
  alarm_guard watchdog_;
  shared_value<failpoint_plan> plan_;
  group_stage stage_;
  times continued_;
  std::size_t kills_ = 0;
};

// Before the victim starts, another consumer joins, takes some messages, settles one, and dies
// with the rest.
void leave_a_dead_one(group_stage& on, failpoint at, std::uint64_t hit) {
  const std::uint32_t life = on.new_life();
  shared_value<failpoint_plan> plan;
  plan->kill_at_hit.store(hit);
  plan->kill_at.store(at);
  child dead([&] {
    follow(&*plan);
    auto session = bus::open(on.url("&name=first"));
    auto made = group_worker::open(*session, on.history(), life, on.group());
    if (!made) return 10;
    made->fetch(6, 50ms);
    made->extend(1, 5s);
    made->settle(0, verb::ack);
    made->fetch(4, 1ms);
    for (int i = 0; i < 3 && made->in_hand() != 0; ++i)
      made->settle(0, i % 2 == 0 ? verb::ack : verb::nack);
    ::raise(SIGKILL);
    return 11;
  });
  (void)dead.wait();
  const std::int64_t killed = plan->killed_ns.load();
  on.history().ended_ns[life].store(killed != 0 ? killed : now_ns());
}

const std::vector<failpoint> plain_steps = {
    claim_begin,    claim_taking,     claim_slots,      claim_cursor,  claim_again,
    claim_unlocked, settle_begin,     settle_listed,    settle_marked, settle_announced,
    collect_taken,  collect_unlinked, collect_freed,    return_marked, return_unlinked,
    member_joined,  member_returned,  member_collected, pin_raised};
const std::vector<failpoint> time_steps = {extend_unlinked, timer_taken};
const std::vector<failpoint> death_steps = {death_announced, death_decided, death_written,
                                            death_freed};

std::vector<failpoint> both(std::vector<failpoint> a, const std::vector<failpoint>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void everything(const std::string& name, group_stage::options on, std::vector<failpoint> must,
                std::size_t messages = 60, int rounds = 3) {
  scenario s(name, std::move(on), std::move(must), messages);
  s.run([&](std::uint32_t life) { return consume_everything(s.on(), life, rounds); });
}

}  // namespace

TEST(GroupKillAtFailpoints, NoOrder) {
  everything("no order", small_group(), both(both(plain_steps, death_steps), time_steps));
}

TEST(GroupKillAtFailpoints, LeasesThatEnd) {
  auto on = small_group();
  on.group.ack_wait = 10ms;
  everything("short ack_wait", on, both(plain_steps, death_steps));
}

TEST(GroupKillAtFailpoints, Keys) {
  auto on = small_group();
  on.group.order = bus::group_order::key;
  everything("keys", on, both(both(plain_steps, death_steps), {key_promoted}));
}

TEST(GroupKillAtFailpoints, KeysThatSkipWhatFailed) {
  auto on = small_group();
  on.group.order = bus::group_order::key;
  on.group.on_fail = bus::on_fail::skip;
  on.keys = 3;
  everything("keys, skip", on, both(both(plain_steps, death_steps), {key_promoted}));
}

// More messages of a key wait than may be parked: they are passed over and found again later.
TEST(GroupKillAtFailpoints, HotKeys) {
  for (const bus::on_fail rule : {bus::on_fail::block, bus::on_fail::skip}) {
    auto on = small_group();
    on.group.order = bus::group_order::key;
    on.group.on_fail = rule;
    on.group.max_parked = 3;
    on.keys = 2;
    everything(
        std::string("hot keys, ") + bus::on_fail_name(rule), on,
        {key_promoted, key_to_rescan, rescan_found, rescan_placed, rescan_freed, claim_passed_over},
        100);
  }
}

TEST(GroupKillAtFailpoints, TotalOrder) {
  auto on = small_group();
  on.group.order = bus::group_order::total;
  everything("total order", on,
             {claim_taking, claim_again, settle_marked, return_marked, death_written}, 20, 8);
}

TEST(GroupKillAtFailpoints, OverwritingStream) {
  auto on = small_group(overflow::drop_oldest);
  everything("drop_oldest", on, death_steps);
}

TEST(GroupKillAtFailpoints, KeysOfAnOverwritingStream) {
  auto on = small_group(overflow::drop_oldest);
  on.group.order = bus::group_order::key;
  on.group.max_parked = 5;
  everything("drop_oldest, keys", on, {key_promoted, claim_undone});
}

TEST(GroupKillAtFailpoints, WithoutDeadLetters) {
  auto on = small_group();
  on.group.dead_letters = false;
  everything("no dead letters", on, {death_announced, death_decided, death_freed});
}

TEST(GroupKillAtFailpoints, SeveralLanes) {
  everything("three lanes", small_group(overflow::block, 3), both(plain_steps, death_steps));
}

TEST(GroupKillAtFailpoints, HotKeysOfSeveralLanes) {
  auto on = small_group(overflow::block, 3);
  on.group.order = bus::group_order::key;
  on.group.max_parked = 3;
  on.keys = 2;
  everything("three lanes, hot keys", on, {key_promoted, rescan_found, rescan_freed}, 100);
}

TEST(GroupKillAtFailpoints, FullDeadLetters) {
  auto on = small_group();
  on.fill_letters = true;
  scenario s("full dead letters", on, {claim_taking, settle_marked, return_marked}, 40);
  s.run([&](std::uint32_t life) { return consume_everything(s.on(), life, 2); });
}

// One consumer dies with the lock, the next one during the repair, and the survivor finishes it.
TEST(GroupKillAtFailpoints, DeathWhileClearingUp) {
  static constexpr std::pair<failpoint, std::uint64_t> first_ends[] = {
      {collect_unlinked, 1}, {claim_slots, 2},     {collect_taken, 1},   {claim_taking, 3},
      {return_marked, 1},    {extend_unlinked, 1}, {return_unlinked, 1}, {claim_cursor, 2}};
  auto on = small_group();
  on.group.order = bus::group_order::key;
  on.keys = 20;
  scenario s("clearing up", on,
             {lock_taken_over, group_repair_dropped, group_repair_sorted, group_repair_linked,
              group_repaired, member_returned, member_collected});
  std::size_t turn = 0;
  s.turns = std::size(first_ends);
  s.between = [&] {
    const auto& [at, hit] = first_ends[turn++ % std::size(first_ends)];
    leave_a_dead_one(s.on(), at, hit);
  };
  s.run([&](std::uint32_t life) { return consume_everything(s.on(), life); });
}

// Groups are created and removed, and the process that does it dies.
TEST(GroupKillAtFailpoints, CreatorAndRemoverOfAGroup) {
  const alarm_guard watchdog(60);
  shared_value<failpoint_plan> plan;
  shared_value<remark> why;
  const scratch place;
  auto judge = bus::open(place.url());
  ASSERT_TRUE(judge);
  ASSERT_TRUE(judge->add_stream(small_stream("k", overflow::block)));
  const auto work = [&](bool fresh) {
    child who([&] {
      auto session = bus::open(place.url());
      if (!session) return why->say(session.error().message()), 10;
      if (fresh) (void)session->remove_group("k", "x");  // what the dead process left
      auto made = session->consume("", {.group = "x", .stream = "k"});
      if (!made) return why->say(made.error().message()), 11;
      auto to = session->publisher("k");
      if (!to || !to->publish("hello")) return why->say("cannot publish"), 12;
      auto one = made->next(3s);
      if (!one || one->ack() != bus::settle_result::ok) return why->say("no message"), 13;
      if (auto removed = session->remove_group("k", "x"); !removed)
        return why->say(removed.error().message()), 14;
      return 0;
    });
    return who.wait();
  };
  const auto followed = [&] {
    follow(&*plan);
    const int status = work(false);
    follow(nullptr);
    return status;
  };
  ASSERT_EQ(followed(), 0) << why->text;
  for (const failpoint at : {group_file_built, group_file_named, group_announced}) {
    const std::uint64_t hits = plan->hits_of(at);
    all.hits[static_cast<std::size_t>(at)] += hits;
    EXPECT_NE(hits, 0u) << name_of(at);
    plan->reset();
    plan->kill_at.store(at);
    EXPECT_TRUE(WIFSIGNALED(followed())) << name_of(at);
    ++all.kills[static_cast<std::size_t>(at)];
    plan->reset();
    EXPECT_EQ(work(true), 0) << "after a kill at " << name_of(at) << ": " << why->text;
    EXPECT_EQ(followed(), 0) << "after a kill at " << name_of(at) << ": " << why->text;
    EXPECT_TRUE(names_in(place.stream("k") + "/groups").empty()) << name_of(at);
    // A group that was announced and never removed must not hold publishers back.
    auto to = judge->publisher("k");
    ASSERT_TRUE(to);
    for (int i = 0; i < 300; ++i)
      ASSERT_TRUE(to->publish(std::string(700, 'x'))) << to->last_error().message();
  }
}

TEST(GroupKillAtFailpoints, ZZEveryNamedStepWasReached) {
  if (all.scenarios < scenario_count)
    GTEST_FAIL() << "this test judges a run of all the others: " << all.scenarios;
  const std::string missing = all.print(is_of_groups);
  EXPECT_EQ(missing, "") << "no process was killed there";
  std::printf("%llu messages judged; survivors had their first message, %s\n",
              static_cast<unsigned long long>(all.judged), all.continued.line().c_str());
}
