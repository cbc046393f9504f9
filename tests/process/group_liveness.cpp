// Which consumer holds a message: stopped consumers keep it, dead ones do not. Forks, execs,
// closed descriptors, threads and other pid namespaces change nothing. Also what a stopped or
// dead holder of a group's lock causes.

#include <gtest/gtest.h>

#include <sys/syscall.h>

#include <cstdlib>
#include <thread>

#include "failpoint_plan.hpp"
#include "group_file.hpp"
#include "namespaces.hpp"
#include "stage.hpp"
#include "sync/seeded_fault.hpp"

namespace {

using namespace test;
using bus::settle_result;

struct words {
  std::atomic<bool> ready{false}, go{false};
  std::atomic<std::uint64_t> got{0}, settled{0};
  std::atomic<int> tid{0}, pid{0}, status{0};
};

// A bus with a stream "k" and a group "g", a session on it, and a watchdog.
class GroupLiveness : public ::testing::Test {
 protected:
  void SetUp() override {
    ::alarm(60);
    session_.emplace(std::move(*bus::open(url("judge"))));
    ASSERT_TRUE(session_->add_stream(small_stream("k", bus::overflow::block)));
  }
  void TearDown() override { ::alarm(0); }

  std::string url(const std::string& name) const { return place_.url("t", "&name=" + name); }
  void add_group(std::chrono::nanoseconds ack_wait = 30s, std::int32_t max_deliver = 5) {
    bus::group_config group;
    group.name = "g";
    group.stream = "k";
    group.ack_wait = ack_wait;
    group.max_deliver = max_deliver;
    group.backoff = {0ms};
    const auto made = session_->add_group(group);
    ASSERT_TRUE(made) << made.error().message();
  }
  static bus::result<bus::consumer> join(bus::session& session, bool keep_alive = false) {
    return session.consume(
        "",
        {.group = "g", .stream = "k", .wait = bus::wait_strategy::block, .keep_alive = keep_alive});
  }
  bus::consumer join() {
    auto made = join(*session_);
    if (!made) std::abort();
    return std::move(*made);
  }
  void publish(std::initializer_list<const char*> texts) {
    auto to = session_->publisher("k");
    for (const char* text : texts) ASSERT_TRUE(to->publish(text));
  }
  bus::group_info info() {
    auto found = session_->group("k", "g");
    if (!found) ADD_FAILURE() << found.error().message();
    return found ? *found : bus::group_info{};
  }
  bool wait_for(const std::atomic<bool>& word) {
    return eventually([&] { return word.load(std::memory_order_acquire); });
  }
  bool is_stopped(const child& who, std::string_view name) {
    who.signal(SIGSTOP);
    return eventually([&] {
      const auto all = session_->processes();
      for (const auto& p : *all)
        if (p.name == name && p.state == bus::process_state::stopped) return true;
      return false;
    });
  }
  // Takes what there is, and holds it until it is killed or `go` lets it settle.
  int hold_messages(const std::string& name, std::size_t most = 4) {
    auto session = bus::open(url(name));
    auto made = session ? join(*session) : std::move(session.error());
    if (!made) return 10;
    auto batch = made->fetch(most, 5s);
    for (auto& one : batch) (void)one;
    words_->got.store(batch.size());
    words_->ready.store(true);
    while (!words_->go.load()) ::usleep(100);
    for (auto& one : batch)
      if (one.ack() == settle_result::ok) words_->settled.fetch_add(1);
    return 0;
  }
  // Claims, and holds the group's lock as long as the plan requires.
  static int claim_one(const std::string& at, failpoint_plan* plan, words& w) {
    auto session = bus::open(at);
    auto made = session ? join(*session) : std::move(session.error());
    if (!made) return 10;
    w.tid.store(static_cast<int>(::syscall(SYS_gettid)));
    w.ready.store(true);
    follow(plan);
    auto one = made->next(20s);
    const bool settled = one && one->ack() == settle_result::ok;
    follow(nullptr);
    return settled ? 0 : 11;
  }
  void expect_busy(std::initializer_list<std::string> parts) {
    const auto repaired = session_->repair_group("k", "g");
    ASSERT_FALSE(repaired) << "the lock must stay held";
    EXPECT_EQ(repaired.error().code, bus::errc::busy);
    for (const std::string& part : parts)
      EXPECT_NE(repaired.error().message().find(part), std::string::npos)
          << repaired.error().message();
  }

  scratch place_;
  std::optional<bus::session> session_;
  shared_value<words> words_;
  shared_value<failpoint_plan> plan_;
};

}  // namespace

// --- the lock

TEST_F(GroupLiveness, StoppedHolderOfTheLockIsNamedAndWaitedFor) {
  add_group();
  auto waits = join();
  publish({"a", "b"});
  auto mine = waits.next(1s);
  ASSERT_TRUE(mine);
  plan_->hold_at.store(failpoint::claim_slots);
  child holder([&] { return claim_one(url("holder"), &*plan_, *words_); });
  ASSERT_TRUE(wait_for(plan_->held));
  ASSERT_TRUE(is_stopped(holder, "holder"));
  EXPECT_EQ(mine->release(), settle_result::busy);
  expect_busy({"holder", std::to_string(holder.pid()), "stopped"});
  EXPECT_EQ(mine->ack(), settle_result::ok) << "settling needs no lock";
  plan_->hold_at.store(failpoint::count);
  holder.signal(SIGCONT);
  EXPECT_EQ(holder.wait(), 0);
  EXPECT_EQ(info().repaired, 0u);
  EXPECT_EQ(info().counts.settled, 2u);
}

TEST_F(GroupLiveness, HolderOfTheLockThatIsStoppedAndThenKilledIsTakenOver) {
  add_group();
  publish({"a"});
  plan_->hold_at.store(failpoint::claim_slots);
  child holder([&] { return claim_one(url("holder"), &*plan_, *words_); });
  ASSERT_TRUE(wait_for(plan_->held));
  ASSERT_TRUE(is_stopped(holder, "holder"));
  holder.kill();
  auto c = join();
  auto one = c.next(10s);
  ASSERT_TRUE(one);
  EXPECT_EQ(one->ack(), settle_result::ok);
  EXPECT_EQ(info().repaired, 1u);
}

TEST_F(GroupLiveness, DeathOfAWaiterWithTheHoldersThreadIdFreesNothing) {
  if (!namespaces_work()) return;
  add_group();
  publish({"a", "b"});
  shared_value<words> holds, waits;
  shared_value<failpoint_plan> waiter_plan;
  shared_value<std::array<std::atomic<int>, 2>> init;
  const auto run = [&](int who, const char* name, failpoint_plan* plan, words& w) {
    return child([&, who, name, plan] {
      return in_new_pid_namespace((*init)[static_cast<std::size_t>(who)],
                                  [&] { return claim_one(url(name), plan, w); });
    });
  };
  // The waiter joins first, because joining takes the lock, too.
  waiter_plan->hold_at.store(failpoint::claim_unlocked);
  child waiter([&] {
    return in_new_pid_namespace((*init)[1], [&] {
      auto session = bus::open(url("waiter"));
      auto made = join(*session);
      if (!made) return 10;
      waits->tid.store(static_cast<int>(::syscall(SYS_gettid)));
      waits->ready.store(true);
      while (!waits->go.load()) ::usleep(100);
      waiter_plan->hold_at.store(failpoint::count);
      follow(&*waiter_plan);
      (void)made->next(20s);
      return 11;
    });
  });
  ASSERT_TRUE(wait_for(waits->ready));
  plan_->hold_at.store(failpoint::claim_slots);
  child holder = run(0, "holder", &*plan_, *holds);
  ASSERT_TRUE(wait_for(plan_->held));
  waits->go.store(true);
  ASSERT_TRUE(eventually([&] { return waiter_plan->hits_of(failpoint::lock_waiting) >= 2; }))
      << "it must sleep on the lock";
  EXPECT_EQ(holds->tid.load(), waits->tid.load())
      << "both must have the same number in their namespaces";
  ::kill((*init)[1].load(), SIGKILL);
  (void)waiter.wait();
  expect_busy({"holder", "another namespace"});
  plan_->hold_at.store(failpoint::count);
  EXPECT_EQ(holder.wait(), 0);
  EXPECT_EQ(info().repaired, 0u);
}

// A process that opens the group finds the dead process's lock first, and repairs before anything
// else.
TEST_F(GroupLiveness, ANewcomerThatTakesOverLosesNothing) {
  add_group();
  publish({"a", "b", "c"});
  child holder([&] { return hold_messages("holder", 1); });
  ASSERT_TRUE(wait_for(words_->ready));
  shared_value<words> claims;
  plan_->kill_at.store(failpoint::claim_cursor);
  child dead([&] { return claim_one(url("dead"), &*plan_, *claims); });
  EXPECT_TRUE(WIFSIGNALED(dead.wait()));
  auto c = join();
  words_->go.store(true);
  EXPECT_EQ(holder.wait(), 0);
  EXPECT_EQ(words_->settled.load(), 1u) << "its lease was good";
  for (int i = 0; i < 2; ++i) {
    auto one = c.next(5s);
    ASSERT_TRUE(one) << i;
    EXPECT_EQ(one->ack(), settle_result::ok);
  }
  EXPECT_EQ(info().repaired, 1u);
}

// The process that takes over may not have seen a new lane, whose messages are out, too.
TEST_F(GroupLiveness, WhoTakesOverLearnsOfNewLanes) {
  auto config = small_stream("m", bus::overflow::block);
  config.mode = bus::lane_mode::per_publisher;
  config.lanes = 4;
  ASSERT_TRUE(session_->add_stream(config));
  const auto in_group = [](bus::session& session) {
    return session.consume("", {.group = "g", .stream = "m", .backoff = {{0ms}}});
  };
  auto made = in_group(*session_);
  ASSERT_TRUE(made);
  auto first = session_->publisher("m");
  ASSERT_TRUE(first && first->publish("a"));
  auto mine = made->next(1s);
  ASSERT_TRUE(mine);
  plan_->kill_at.store(failpoint::claim_cursor);
  child dead([&] {
    auto session = bus::open(url("dead"));
    auto second = session->publisher("m");
    if (!second || !second->publish("b")) return 10;
    auto other = in_group(*session);
    auto one = other ? other->next(5s) : std::nullopt;
    if (!one || !second->publish("c")) return 11;
    follow(&*plan_);
    (void)other->next(5s);
    return 12;
  });
  ASSERT_TRUE(WIFSIGNALED(dead.wait()));
  EXPECT_EQ(mine->release(), settle_result::ok);
  std::size_t got = 0;
  while (auto one = made->next(300ms)) got += one->ack() == settle_result::ok ? 1 : 0;
  EXPECT_EQ(got, 3u);
}

// --- between settling and being collected

// A consumer that is stopped during an ack delays no lease that ends.
TEST_F(GroupLiveness, LeasesEndThoughSomebodyIsStoppedWhileItSettles) {
  add_group(50ms);
  publish({"a", "b"});
  plan_->hold_at.store(failpoint::settle_marked);
  shared_value<words> settles;
  child settler([&] { return claim_one(url("settler"), &*plan_, *settles); });
  ASSERT_TRUE(wait_for(plan_->held));
  child holder([&] { return hold_messages("holder"); });
  ASSERT_TRUE(wait_for(words_->ready));
  auto c = join();
  EXPECT_TRUE(eventually(
      [&] {
        auto one = c.next(20ms);
        return one && one->text() == "b" && one->ack() == settle_result::ok;
      },
      5s))
      << "the other's lease has ended long ago";
  plan_->hold_at.store(failpoint::count);
  EXPECT_EQ(settler.wait(), 0);
}

// It blocks no publisher and no slot of the window: its settlement is found without it.
TEST_F(GroupLiveness, PublishersGoOnThoughSomebodyIsStoppedWhileItSettles) {
  add_group(0s);
  publish({"a"});
  plan_->hold_at.store(failpoint::settle_marked);
  shared_value<words> settles;
  child settler([&] { return claim_one(url("settler"), &*plan_, *settles); });
  ASSERT_TRUE(wait_for(plan_->held));
  auto c = join();
  auto to = session_->publisher("k");
  ASSERT_TRUE(to);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(to->publish("m")) << i;
    auto one = c.next(1s);
    ASSERT_TRUE(one && one->ack() == settle_result::ok) << i;
  }
  EXPECT_EQ(info().counts.settled, 3001u);
  plan_->hold_at.store(failpoint::count);
  EXPECT_EQ(settler.wait(), 0);
}

// The collector of a settled message dies. The settler lives on and never claims again.
TEST_F(GroupLiveness, ASettledMessageWhoseCollectorDiesIsCollectedAfterAll) {
  add_group();
  publish({"a"});
  plan_->hold_at.store(failpoint::settle_announced);
  child settler([&] {
    auto session = bus::open(url("settler"));
    auto made = join(*session);
    if (!made) return 10;
    auto one = made->next(5s);
    follow(&*plan_);
    (void)one->ack();
    words_->ready.store(true);
    while (!words_->go.load()) ::usleep(100);  // it lives on
    return 0;
  });
  ASSERT_TRUE(wait_for(plan_->held));
  shared_value<words> claims;
  shared_value<failpoint_plan> collects;
  collects->kill_at.store(failpoint::collect_taken);
  child collector([&] { return claim_one(url("collector"), &*collects, *claims); });
  EXPECT_TRUE(WIFSIGNALED(collector.wait()));
  auto c = join();
  EXPECT_FALSE(c.next(0s));
  EXPECT_EQ(info().repaired, 1u);
  plan_->hold_at.store(failpoint::count);
  ASSERT_TRUE(wait_for(words_->ready));
  EXPECT_FALSE(c.next(0s));
  EXPECT_EQ(group_file(place_, "k", "g").leftovers(), "");
  words_->go.store(true);
  EXPECT_EQ(settler.wait(), 0);
}

// A repair discards the settler's queue between its entry there and the decision. The decision is
// found anyway, unless the mark that leads to it is missing.
TEST_F(GroupLiveness, AMessageThatIsSettledBehindTheBackOfARepairIsCollected) {
  for (const auto seeded : {bus::sync::fault::none, bus::sync::fault::passed_over_unlisted}) {
    add_group();
    publish({"a"});
    words_->ready.store(false);
    words_->go.store(false);
    plan_->held.store(false);
    plan_->hold_at.store(failpoint::settle_listed);
    bus::sync::seeded = seeded;
    child settler([&] {
      auto session = bus::open(url("settler"));
      auto made = join(*session);
      auto one = made ? made->next(5s) : std::nullopt;
      if (!one) return 10;
      follow(&*plan_);
      const bool settled = one->ack() == settle_result::ok;
      follow(nullptr);
      words_->ready.store(true);
      while (!words_->go.load()) ::usleep(100);  // it lives on
      return settled ? 0 : 11;
    });
    ASSERT_TRUE(wait_for(plan_->held));
    auto c = join();
    const group_file file(place_, "k", "g");
    file.settled_by(0).head.store(file.settled_by(0).tail.load() + 1000);
    ASSERT_TRUE(session_->repair_group("k", "g"));
    plan_->hold_at.store(failpoint::count);
    ASSERT_TRUE(wait_for(words_->ready));
    while (auto one = c.next(0s)) EXPECT_EQ(one->ack(), settle_result::ok);  // of the round before
    bus::sync::seeded = bus::sync::fault::none;
    EXPECT_EQ(file.leftovers() == "", seeded == bus::sync::fault::none) << file.leftovers();
    words_->go.store(true);
    EXPECT_EQ(settler.wait(), 0);
    ASSERT_TRUE(session_->remove_group("k", "g"));
  }
}

// More than the queue holds, while no process can collect any of it.
TEST_F(GroupLiveness, AsManyAsOneLikesAreSettledWhileTheLockIsHeld) {
  add_group();
  auto mine = join();
  auto to = session_->publisher("k");
  constexpr std::size_t count = 300;
  for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(to->publish("m"));
  std::vector<bus::lease> batch;
  while (batch.size() < count) {
    auto one = mine.next(1s);
    ASSERT_TRUE(one);
    batch.push_back(std::move(*one));
  }
  publish({"b"});
  plan_->hold_at.store(failpoint::claim_slots);
  shared_value<words> claims;
  child claimer([&] { return claim_one(url("claimer"), &*plan_, *claims); });
  ASSERT_TRUE(wait_for(plan_->held));
  for (auto& one : batch) ASSERT_EQ(one.ack(), settle_result::ok) << "settling needs no lock";
  plan_->hold_at.store(failpoint::count);
  EXPECT_EQ(claimer.wait(), 0);
  EXPECT_FALSE(mine.next(0s));
  EXPECT_EQ(group_file(place_, "k", "g").leftovers(), "");
  EXPECT_EQ(info().counts.settled, count + 1);
}

// --- fork, exec, descriptors, threads

TEST_F(GroupLiveness, AForkedChildThatExitsTakesNoLeaseAlong) {
  add_group();
  publish({"a"});
  for (const bool keep_alive : {false, true}) {
    child parent([&] {
      auto session = bus::open(url("parent"));
      auto made = join(*session, keep_alive);
      auto one = made->next(5s);
      if (!one) return 10;
      for (int i = 0; i < 3; ++i) {
        child forked([&] {
          ::alarm(5);
          if (one->ack() == settle_result::ok) return 11;
          one.reset();
          { const bus::consumer gone = std::move(*made); }
          return 0;
        });
        if (!forked.succeeded()) return 12;
      }
      return one->release() == settle_result::ok ? 0 : 13;
    });
    EXPECT_EQ(parent.wait(), 0) << keep_alive;
  }
  EXPECT_EQ(info().counts.ready, 1u);
}

TEST_F(GroupLiveness, DeathIsNoticedThoughAForkedChildLivesOn) {
  add_group();
  publish({"a"});
  child parent([&] {
    auto session = bus::open(url("parent"));
    auto made = join(*session);
    auto one = made->next(5s);
    if (!one) return 10;
    const pid_t orphan = ::fork();
    if (orphan == 0) {
      ::alarm(50);
      for (;;) ::pause();
    }
    words_->pid.store(orphan);
    words_->ready.store(true);
    for (;;) ::pause();
  });
  ASSERT_TRUE(wait_for(words_->ready));
  auto c = join();
  EXPECT_FALSE(c.next(100ms));
  parent.kill();
  (void)parent.wait();
  EXPECT_TRUE(c.next(5s));
  EXPECT_EQ(::kill(words_->pid.load(), 0), 0) << "the forked child must have lived all the time";
  ::kill(words_->pid.load(), SIGKILL);
}

TEST_F(GroupLiveness, ExecOfAHolderIsItsDeath) {
  add_group();
  publish({"a"});
  child changed([&] {
    auto session = bus::open(url("changed"));
    auto made = join(*session);
    auto one = made->next(5s);
    if (!one) return 10;
    words_->ready.store(true);
    while (!words_->go.load()) ::usleep(100);
    ::execl("/bin/sleep", "sleep", "50", static_cast<char*>(nullptr));
    return 127;
  });
  ASSERT_TRUE(wait_for(words_->ready));
  auto c = join();
  EXPECT_FALSE(c.next(50ms));
  words_->go.store(true);
  EXPECT_TRUE(c.next(5s));
  EXPECT_EQ(::kill(changed.pid(), 0), 0) << "the other program must run all the time";
}

TEST_F(GroupLiveness, ClosedDescriptorsAndEndedThreadsAreNoDeath) {
  add_group();
  publish({"a", "b"});
  child closer([&] {
    auto* session = new auto(bus::open(url("closer")));  // these outlive the first thread
    auto* made = new auto(join(**session));
    auto* first = new auto((*made)->next(5s));
    if (!*first) return 10;
    ::syscall(SYS_close_range, 3u, ~0u, 0u);
    std::thread([this, made, first] {
      auto second = (*made)->next(5s);
      words_->got.store(second ? 2 : 1);
      words_->ready.store(true);
      while (!words_->go.load()) ::usleep(100);
      if ((*first)->ack() == settle_result::ok) words_->settled.fetch_add(1);
      words_->pid.store(1);
      for (;;) ::pause();
    }).detach();
    ::syscall(SYS_exit, 0);
    return 11;
  });
  ASSERT_TRUE(wait_for(words_->ready));
  EXPECT_EQ(words_->got.load(), 2u);
  auto c = join();
  EXPECT_FALSE(c.next(100ms)) << "it holds both still";
  words_->go.store(true);
  ASSERT_TRUE(eventually([&] { return words_->pid.load() != 0; }));
  EXPECT_EQ(words_->settled.load(), 1u);
  closer.kill();
  auto one = c.next(5s);
  ASSERT_TRUE(one) << "now it is dead";
  EXPECT_EQ(one->text(), "b");
}

TEST_F(GroupLiveness, AStoppedConsumerKeepsItsMessages) {
  add_group();
  publish({"a", "b"});
  child holder([&] { return hold_messages("holder"); });
  ASSERT_TRUE(wait_for(words_->ready));
  ASSERT_TRUE(is_stopped(holder, "holder"));
  auto c = join();
  EXPECT_FALSE(c.next(100ms));
  words_->go.store(true);
  holder.signal(SIGCONT);
  EXPECT_EQ(holder.wait(), 0);
  EXPECT_EQ(words_->settled.load(), words_->got.load());
}

// --- death

TEST_F(GroupLiveness, APoisonMessageIsADeadLetterOnceAndOthersFlow) {
  add_group(30s, 3);
  publish({"good", "poison", "better", "best"});
  int crashes = 0;
  for (int life = 0; life < 20 && info().counts.settled < 3; ++life) {
    child worker([&] {
      auto session = bus::open(url("worker"));
      auto made = join(*session);
      if (!made) return 10;
      while (auto one = made->next(300ms)) {
        if (one->text() == "poison") ::raise(SIGKILL);  // like abort(), without a core file
        (void)one->ack();
      }
      return 0;
    });
    if (WIFSIGNALED(worker.wait())) ++crashes;
  }
  auto c = join();
  EXPECT_FALSE(c.next(200ms));
  EXPECT_EQ(crashes, 3);
  const auto letters = session_->dead_letters("k", "g");
  ASSERT_TRUE(letters);
  ASSERT_EQ(letters->size(), 1u);
  EXPECT_EQ(letters->front().origin_sequence, 2u);
  EXPECT_EQ(letters->front().attempts, 3u);
  EXPECT_EQ(info().counts.settled, 3u);
}

TEST_F(GroupLiveness, LeasesOfTheDeadComeBackLongBeforeTheyEnd) {
  add_group();
  auto c = join();
  times took;
  for (int round = 0; round < 30; ++round) {
    words_->ready.store(false);
    publish({"a"});
    child holder([&] { return hold_messages("holder"); });
    ASSERT_TRUE(wait_for(words_->ready));
    std::thread killer([&] {  // while this thread sleeps
      ::usleep(3000);
      words_->tid.store(1);
      words_->settled.store(static_cast<std::uint64_t>(now_ns()));
      holder.kill();
    });
    auto one = c.next(10s);
    const std::int64_t came = now_ns();
    killer.join();
    ASSERT_TRUE(one);
    took.add(came - static_cast<std::int64_t>(words_->settled.load()));
    EXPECT_EQ(one->ack(), settle_result::ok);
  }
  std::printf("leases of the dead came back, %s\n", took.line().c_str());
  EXPECT_LT(took.at(0.5), 3'000'000'000) << "a tenth of ack_wait";
}
