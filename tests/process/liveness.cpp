// Which processes are alive: stopped ones are, dead ones are not. Forks, execs, closed
// descriptors, threads and other pid namespaces change nothing. Also what a stopped or dead
// subscriber or lock holder causes for the others.

#include <gtest/gtest.h>

#include <sys/syscall.h>

#include <thread>

#include "failpoint_plan.hpp"
#include "namespaces.hpp"
#include "stage.hpp"

namespace {

using namespace test;
using bus::overflow;
using bus::publish_status;

struct words {
  std::atomic<bool> ready{false}, go{false}, done{false};
  std::atomic<std::uint64_t> delivered{0}, lost{0}, published{0};
  std::atomic<int> pid{0}, tid{0}, status{0};
};

// A bus with a stream "k", a session of this process on it, and a watchdog.
class Liveness : public ::testing::Test {
 protected:
  void SetUp() override {
    ::alarm(60);
    session_.emplace(std::move(*bus::open(place_.url("t", "&name=watcher"))));
  }
  void TearDown() override { ::alarm(0); }

  void add_stream(overflow policy) { ASSERT_TRUE(session_->add_stream(small_stream("k", policy))); }
  bus::publisher publisher(std::chrono::milliseconds send_timeout = 200ms) {
    bus::publisher_options how;
    how.send_timeout = send_timeout;
    auto made = session_->publisher("k.w", how);
    if (!made) ADD_FAILURE() << made.error().message();
    return std::move(*made);
  }
  std::optional<bus::process_info> info(std::string_view name) {
    auto all = session_->processes();
    if (all)
      for (auto& p : *all)
        if (p.name == name) return std::move(p);
    return std::nullopt;
  }
  bool is_running(std::string_view name) {
    const auto p = info(name);
    return p && p->state == bus::process_state::running;
  }
  bool becomes_dead(std::string_view name) {
    return eventually([&] {
      const auto p = info(name);
      return !p || p->state == bus::process_state::dead;
    });
  }
  std::uint64_t repaired() { return session_->stream("k")->lanes.at(0).repaired; }
  bool wait_for(const std::atomic<bool>& word) {
    return eventually([&] { return word.load(std::memory_order_acquire); });
  }
  bool stop(const child& who, std::string_view name) {
    who.signal(SIGSTOP);
    return eventually([&] {
      const auto p = info(name);
      return p && p->state == bus::process_state::stopped;
    });
  }
  // Publishes until the result is not ok, at most `most` times.
  bus::published fill(bus::publisher& to, std::uint64_t& sent, std::uint64_t most = 100'000) {
    bus::published last;
    for (std::uint64_t i = 0; i < most; ++i) {
      last = to.publish(std::string(500, 'f'));
      if (!last) return last;
      ++sent;
    }
    return last;
  }

  scratch place_;
  std::optional<bus::session> session_;
  shared_value<words> words_;
  shared_value<failpoint_plan> plan_;
};

// Subscribes and counts until it is killed, or until `go` and all published messages came or were
// lost.
int count_messages(const std::string& url, words& w) {
  auto session = bus::open(url);
  if (!session) return 10;
  bus::subscriber_options how;
  how.wait = bus::wait_strategy::block;
  how.name = "counter";
  how.on_gap = [&](const bus::gap& g) { w.lost.fetch_add(g.count); };
  auto made = session->subscribe("k.>", how);
  if (!made) return 11;
  w.ready.store(true);
  while (!w.go.load() || w.delivered.load() + w.lost.load() < w.published.load())
    if (made->next(5ms)) w.delivered.fetch_add(1);
  return made->failure() ? 12 : 0;
}

// Publishes one message, and holds the lane's lock as long as the plan requires.
int publish_one(const std::string& url, failpoint_plan* plan, words& w,
                std::chrono::milliseconds patience = 20s) {
  auto session = bus::open(url);
  if (!session) return 10;
  bus::publisher_options how;
  how.send_timeout = patience;
  auto made = session->publisher("k.h", how);
  if (!made) return 11;
  w.tid.store(static_cast<int>(::syscall(SYS_gettid)));
  w.ready.store(true);
  follow(plan);
  const auto outcome = made->publish("held");
  follow(nullptr);
  w.status.store(static_cast<int>(outcome.status));
  w.done.store(true);
  return outcome ? 0 : 12;
}

}  // namespace

// --- stopped

TEST_F(Liveness, StoppedSubscriberIsWaitedForAndNamed) {
  add_stream(overflow::block);
  child reader([&] { return count_messages(place_.url("t", "&name=reader"), *words_); });
  ASSERT_TRUE(wait_for(words_->ready));
  auto to = publisher(200ms);
  ASSERT_TRUE(stop(reader, "reader"));
  std::uint64_t sent = 0;
  const auto before = std::chrono::steady_clock::now();
  const auto outcome = fill(to, sent);
  EXPECT_EQ(outcome.status, publish_status::timed_out);
  EXPECT_GE(std::chrono::steady_clock::now() - before, 200ms);
  const std::string why = to.last_error().message();
  EXPECT_NE(why.find("reader"), std::string::npos) << why;
  EXPECT_NE(why.find(std::to_string(reader.pid())), std::string::npos) << why;
  EXPECT_EQ(to.publish(std::string(500, 'f')).status, publish_status::timed_out);
  EXPECT_EQ(info("reader")->state, bus::process_state::stopped);
  reader.signal(SIGCONT);
  EXPECT_TRUE(eventually([&] { return to.publish("after").status == publish_status::ok; }));
  words_->published.store(sent + 1);
  words_->go.store(true);
  EXPECT_EQ(reader.wait(), 0);
  EXPECT_EQ(words_->delivered.load(), sent + 1);
  EXPECT_EQ(words_->lost.load(), 0u);
}

TEST_F(Liveness, StoppedHolderOfTheLockIsNamedAndWaitedFor) {
  add_stream(overflow::block);
  plan_->hold_at.store(failpoint::publish_begin);
  child holder([&] { return publish_one(place_.url("t", "&name=holder"), &*plan_, *words_); });
  ASSERT_TRUE(wait_for(plan_->held));
  ASSERT_TRUE(stop(holder, "holder"));
  auto to = publisher(200ms);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_EQ(to.publish("x").status, publish_status::busy);
  EXPECT_GE(std::chrono::steady_clock::now() - before, 200ms);
  const std::string why = to.last_error().message();
  EXPECT_NE(why.find("holder"), std::string::npos) << why;
  EXPECT_NE(why.find(std::to_string(holder.pid())), std::string::npos) << why;
  EXPECT_NE(why.find("stopped"), std::string::npos) << why;
  plan_->hold_at.store(failpoint::count);
  EXPECT_EQ(to.publish("x").status, publish_status::busy) << "it is stopped still";
  holder.signal(SIGCONT);
  EXPECT_EQ(holder.wait(), 0) << "a holder that was stopped publishes when it goes on";
  EXPECT_EQ(to.publish("x").status, publish_status::ok);
  EXPECT_EQ(session_->stream("k")->messages(), 2u);
  EXPECT_EQ(repaired(), 0u);
}

TEST_F(Liveness, HolderOfTheLockThatIsStoppedAndThenKilledIsTakenOver) {
  add_stream(overflow::block);
  plan_->hold_at.store(failpoint::publish_payload);
  child holder([&] { return publish_one(place_.url("t", "&name=holder"), &*plan_, *words_); });
  ASSERT_TRUE(wait_for(plan_->held));
  ASSERT_TRUE(stop(holder, "holder"));
  auto to = publisher(200ms);
  EXPECT_EQ(to.publish("x").status, publish_status::busy);
  holder.kill();
  EXPECT_TRUE(eventually([&] { return to.publish("x").status == publish_status::ok; }));
  EXPECT_EQ(repaired(), 1u);
  EXPECT_EQ(session_->stream("k")->messages(), 1u) << "the killed one had committed nothing";
}

// --- overflow

TEST_F(Liveness, StoppedSubscriberOnEveryPolicy) {
  for (const overflow policy :
       {overflow::block, overflow::reject, overflow::drop_new, overflow::drop_oldest}) {
    SCOPED_TRACE(bus::overflow_name(policy));
    shared_value<words> w;
    add_stream(policy);
    child reader([&] { return count_messages(place_.url("t", "&name=reader"), *w); });
    ASSERT_TRUE(wait_for(w->ready));
    ASSERT_TRUE(stop(reader, "reader"));
    auto to = publisher(100ms);
    std::uint64_t sent = 0;
    const auto outcome = fill(to, sent, 1000);
    const auto lane = session_->stream("k")->lanes.at(0);
    switch (policy) {
      case overflow::block: EXPECT_EQ(outcome.status, publish_status::timed_out); break;
      case overflow::reject:
        EXPECT_EQ(outcome.status, publish_status::rejected);
        EXPECT_EQ(lane.rejected, 1u);
        break;
      case overflow::drop_new:
        EXPECT_EQ(outcome.status, publish_status::dropped);
        EXPECT_EQ(lane.dropped, 1u);
        break;
      case overflow::drop_oldest:
        EXPECT_EQ(outcome.status, publish_status::ok);
        EXPECT_EQ(sent, 1000u);
        break;
    }
    EXPECT_GT(sent, 50u);
    w->published.store(sent);
    w->go.store(true);
    reader.signal(SIGCONT);
    EXPECT_EQ(reader.wait(), 0);
    EXPECT_EQ(w->delivered.load() + w->lost.load(), sent);
    EXPECT_EQ(w->lost.load() != 0, policy == overflow::drop_oldest);
    ASSERT_TRUE(session_->remove_stream("k"));
  }
}

TEST_F(Liveness, DeathOfASubscriberReleasesABlockedPublisher) {
  add_stream(overflow::block);
  child reader([&] { return count_messages(place_.url("t", "&name=reader"), *words_); });
  ASSERT_TRUE(wait_for(words_->ready));
  ASSERT_TRUE(stop(reader, "reader"));
  shared_value<words> w;
  child blocked([&] {
    auto session = bus::open(place_.url("t", "&name=blocked"));
    if (!session) return 10;
    bus::publisher_options how;
    how.send_timeout = 50s;
    auto made = session->publisher("k.b", how);
    if (!made) return 11;
    for (int i = 0; i < 1000; ++i)
      if (!made->publish(std::string(500, 'b'))) return 12;
    return 0;
  });
  ASSERT_TRUE(eventually([&] {
    const auto p = info("blocked");
    return p && !p->publishers.empty() && p->publishers[0].blocked;
  }));
  const std::int64_t killed = now_ns();
  reader.kill();
  EXPECT_EQ(blocked.wait(), 0);
  std::printf("a blocked publisher went on and was through after %.1f ms\n",
              static_cast<double>(now_ns() - killed) / 1e6);
}

TEST_F(Liveness, WaitingForOneselfIsRefusedAtOnce) {
  add_stream(overflow::block);
  auto to = publisher(20s);
  auto made = session_->subscribe("k.>");
  ASSERT_TRUE(made);
  std::uint64_t sent = 0;
  EXPECT_EQ(fill(to, sent).status, publish_status::would_deadlock);
  EXPECT_NE(to.last_error().message().find("this same thread"), std::string::npos)
      << to.last_error().message();
  std::uint64_t got = 0;
  while (made->poll(100, [&](const bus::message&) { ++got; }) != 0) {
  }
  EXPECT_EQ(got, sent);
  EXPECT_EQ(to.publish("x").status, publish_status::ok);
  // A subscriber of another thread is no reason to refuse: it may continue at any moment.
  std::atomic<bool> refused{false};
  std::thread other([&] {
    bus::publisher_options how;
    how.send_timeout = 100ms;
    auto from_here = session_->publisher("k.o", how);
    std::uint64_t ignored = 0;
    refused = fill(*from_here, ignored).status == publish_status::timed_out;
  });
  other.join();
  EXPECT_TRUE(refused);
}

// --- other pid namespaces

TEST_F(Liveness, DeathOfAWaiterWithTheHoldersThreadIdFreesNothing) {
  if (!namespaces_work()) return;
  add_stream(overflow::block);
  shared_value<words> holds, waits;
  shared_value<failpoint_plan> waiter_plan;
  shared_value<std::array<std::atomic<int>, 2>> init;
  plan_->hold_at.store(failpoint::publish_payload);
  child holder([&] {
    return in_new_pid_namespace(
        (*init)[0], [&] { return publish_one(place_.url("t", "&name=holder"), &*plan_, *holds); });
  });
  ASSERT_TRUE(wait_for(plan_->held));
  child waiter([&] {
    return in_new_pid_namespace((*init)[1], [&] {
      return publish_one(place_.url("t", "&name=waiter"), &*waiter_plan, *waits);
    });
  });
  ASSERT_TRUE(eventually([&] { return waiter_plan->hits_of(failpoint::lock_waiting) >= 2; }))
      << "it must sleep on the lock";
  EXPECT_EQ(holds->tid.load(), waits->tid.load())
      << "both must have the same number in their namespaces";
  ::kill((*init)[1].load(), SIGKILL);
  (void)waiter.wait();
  EXPECT_TRUE(becomes_dead("waiter"));
  EXPECT_TRUE(is_running("holder"));
  EXPECT_TRUE(info("holder")->other_namespace);
  auto to = publisher(200ms);
  EXPECT_EQ(to.publish("x").status, publish_status::busy) << "the lock must stay held";
  const std::string why = to.last_error().message();
  EXPECT_NE(why.find("holder"), std::string::npos) << why;
  EXPECT_NE(why.find("another namespace"), std::string::npos) << why;
  plan_->hold_at.store(failpoint::count);
  EXPECT_EQ(holder.wait(), 0);
  EXPECT_EQ(to.publish("x").status, publish_status::ok);
  EXPECT_EQ(repaired(), 0u);
  EXPECT_EQ(session_->stream("k")->messages(), 2u);
}

TEST_F(Liveness, HolderThatDiesInAnotherPidNamespaceIsTakenOver) {
  if (!namespaces_work()) return;
  add_stream(overflow::block);
  shared_value<std::array<std::atomic<int>, 1>> init;
  plan_->hold_at.store(failpoint::publish_payload);
  child holder([&] {
    return in_new_pid_namespace(
        (*init)[0], [&] { return publish_one(place_.url("t", "&name=holder"), &*plan_, *words_); });
  });
  ASSERT_TRUE(wait_for(plan_->held));
  auto to = publisher(10s);
  const std::int64_t killed = now_ns();
  ::kill((*init)[0].load(), SIGKILL);
  EXPECT_EQ(to.publish("x").status, publish_status::ok) << to.last_error().message();
  std::printf("taken over across pid namespaces after %.1f ms\n",
              static_cast<double>(now_ns() - killed) / 1e6);
  EXPECT_EQ(repaired(), 1u);
  (void)holder.wait();
  EXPECT_TRUE(becomes_dead("holder"));
}

// --- other clocks

TEST_F(Liveness, HolderWhoseClocksAreADayAheadIsNeitherTakenForDeadNorMissed) {
  if (!namespaces_work()) return;
  add_stream(overflow::block);
  shared_value<std::array<std::atomic<int>, 1>> pid;
  plan_->hold_at.store(failpoint::publish_payload);
  child holder([&] {
    return a_day_ahead(
        (*pid)[0], [&] { return publish_one(place_.url("t", "&name=holder"), &*plan_, *words_); });
  });
  ASSERT_TRUE(wait_for(plan_->held));
  EXPECT_TRUE(is_running("holder"));
  EXPECT_TRUE(info("holder")->other_namespace);
  auto impatient = publisher(200ms);
  EXPECT_EQ(impatient.publish("x").status, publish_status::busy) << "the lock must stay held";
  EXPECT_EQ(repaired(), 0u);
  auto to = publisher(10s);
  ::kill((*pid)[0].load(), SIGKILL);
  EXPECT_EQ(to.publish("x").status, publish_status::ok) << to.last_error().message();
  EXPECT_EQ(repaired(), 1u);
  (void)holder.wait();
  EXPECT_TRUE(becomes_dead("holder"));
}

// --- fork and exec

TEST_F(Liveness, ForkedChildThatExitsTakesNobodyAlong) {
  add_stream(overflow::block);
  child parent([&] {
    auto session = bus::open(place_.url("t", "&name=parent"));
    auto made = session->subscribe("k.>");
    auto to = session->publisher("k.p");
    if (!made || !to) return 10;
    for (int i = 0; i < 3; ++i) {
      child forked([] { return 0; });
      if (!forked.succeeded()) return 11;
    }
    words_->ready.store(true);
    while (!words_->go.load()) ::usleep(100);
    while (made->poll(100, [](const bus::message&) {}) != 0) {
    }
    if (!to->publish("still here")) return 12;
    const auto m = made->next(5s);
    return m && m->text() == "still here" ? 0 : 13;
  });
  ASSERT_TRUE(wait_for(words_->ready));
  EXPECT_TRUE(is_running("parent"));
  auto to = publisher(100ms);
  std::uint64_t sent = 0;
  EXPECT_EQ(fill(to, sent).status, publish_status::timed_out)
      << "the parent's subscriber still counts";
  EXPECT_TRUE(is_running("parent"));
  words_->go.store(true);
  EXPECT_EQ(parent.wait(), 0);
  EXPECT_TRUE(becomes_dead("parent"));
}

TEST_F(Liveness, DeathIsNoticedThoughAForkedChildLivesOn) {
  add_stream(overflow::block);
  plan_->hold_at.store(failpoint::publish_payload);
  child parent([&] {
    auto session = bus::open(place_.url("t", "&name=parent"));
    auto made = session->subscribe("k.>");  // gates
    auto to = session->publisher("k.p");
    if (!made || !to) return 10;
    const pid_t orphan = ::fork();
    if (orphan == 0) {
      ::alarm(50);
      words_->pid.store(::getpid());
      for (;;) ::pause();
    }
    while (words_->pid.load() == 0) ::usleep(100);
    follow(&*plan_);
    (void)to->publish("never committed");
    return 0;
  });
  ASSERT_TRUE(wait_for(plan_->held));
  EXPECT_TRUE(is_running("parent"));
  parent.kill();
  (void)parent.wait();
  EXPECT_TRUE(becomes_dead("parent"));
  auto to = publisher(10s);
  std::uint64_t sent = 0;
  EXPECT_EQ(fill(to, sent, 500).status, publish_status::ok) << to.last_error().message();
  EXPECT_EQ(repaired(), 1u);
  EXPECT_EQ(::kill(words_->pid.load(), 0), 0) << "the forked child must have lived all the time";
  ::kill(words_->pid.load(), SIGKILL);
}

TEST_F(Liveness, HandlesOfTheParentSayForked) {
  add_stream(overflow::block);
  auto to = publisher(5s);
  auto made = session_->subscribe("k.>");
  ASSERT_TRUE(made);
  shared_value<remark> why;
  child forked([&] {
    if (to.publish("x").status != publish_status::forked) return why->say("publish"), 10;
    if (to.loan(10)) return why->say("loan"), 11;
    if (made->poll(10, [](const bus::message&) {}) != 0) return why->say("poll"), 12;
    if (made->next(1ms)) return why->say("next"), 13;
    if (!made->failure() || made->failure()->code != bus::errc::forked)
      return why->say("failure()"), 14;
    const auto again = session_->publisher("k.c");
    if (again || again.error().code != bus::errc::forked) return why->say("session"), 15;
    const auto listed = session_->processes();
    if (listed || listed.error().code != bus::errc::forked) return why->say("processes"), 16;
    auto own = bus::open(place_.url("t", "&name=forked"));
    if (!own) return why->say(own.error().message()), 17;
    auto mine = own->publisher("k.c");
    auto reads = own->subscribe("k.>");
    if (!mine || !reads) return why->say("own handles"), 18;
    if (!mine->publish("from the child")) return why->say(mine->last_error().message()), 19;
    const auto m = reads->next(5s);
    return m && m->text() == "from the child" ? 0 : (why->say("own message"), 20);
  });
  EXPECT_EQ(forked.wait(), 0) << why->text;
  EXPECT_EQ(to.publish("from the parent").status, publish_status::ok);
  std::vector<std::string> got;
  while (const auto m = made->next(100ms)) got.emplace_back(m->text());
  EXPECT_EQ(got, (std::vector<std::string>{"from the child", "from the parent"}));
  EXPECT_FALSE(made->failure());
}

TEST_F(Liveness, ForkAndExecInheritsNothing) {
  add_stream(overflow::block);
  child parent([&] {
    auto session = bus::open(place_.url("t", "&name=parent"));
    auto made = session->subscribe("k.>");
    auto to = session->publisher("k.p");
    if (!made || !to || !made->fd()) return 10;
    const pid_t other = ::fork();
    if (other == 0) {
      ::execl("/bin/sleep", "sleep", "50", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    words_->pid.store(other);
    words_->ready.store(true);
    for (;;) ::pause();
  });
  ASSERT_TRUE(wait_for(words_->ready));
  const std::string fds = "/proc/" + std::to_string(words_->pid.load()) + "/fd";
  const auto inherited = [&] {
    std::string found;
    for (const std::string& fd : names_in(fds)) {
      std::error_code gone;
      const std::string target =
          std::filesystem::read_symlink(std::filesystem::path(fds) / fd, gone);
      if (target.find("bus-test-") != std::string::npos) found += " " + target;
    }
    return found;
  };
  EXPECT_TRUE(eventually([&] { return inherited().empty(); })) << inherited();
  EXPECT_TRUE(is_running("parent"));
  parent.kill();
  (void)parent.wait();
  EXPECT_TRUE(becomes_dead("parent"));
  EXPECT_EQ(::kill(words_->pid.load(), 0), 0);
  ::kill(words_->pid.load(), SIGKILL);
}

// Another program with the same process id and start time is not the process that joined the bus.
TEST_F(Liveness, ExecOfTheProcessItselfIsItsDeath) {
  add_stream(overflow::block);
  plan_->hold_at.store(failpoint::publish_payload);
  child changed([&] {
    auto session = bus::open(place_.url("t", "&name=changed"));
    auto made = session->subscribe("k.>");
    auto to = session->publisher("k.p");
    if (!made || !to) return 10;
    std::thread publishes([&] {
      follow(&*plan_);
      (void)to->publish("never committed");
    });
    while (!words_->go.load()) ::usleep(100);
    ::execl("/bin/sleep", "sleep", "50", static_cast<char*>(nullptr));
    return 127;
  });
  ASSERT_TRUE(wait_for(plan_->held));
  EXPECT_TRUE(is_running("changed"));
  words_->go.store(true);
  EXPECT_TRUE(becomes_dead("changed"));
  auto to = publisher(3s);
  std::uint64_t sent = 0;
  EXPECT_EQ(fill(to, sent, 500).status, publish_status::ok) << to.last_error().message();
  EXPECT_EQ(repaired(), 1u);
  EXPECT_EQ(::kill(changed.pid(), 0), 0) << "the other program must run all the time";
}

// --- descriptors and threads

TEST_F(Liveness, ProcessThatClosesAllDescriptorsKeepsWorking) {
  add_stream(overflow::block);
  child closer([&] {
    auto session = bus::open(place_.url("t", "&name=closer"));
    auto made = session->subscribe("k.>");
    auto to = session->publisher("k.p");
    if (!made || !to) return 10;
    ::syscall(SYS_close_range, 3u, ~0u, 0u);
    for (int i = 0; i < 500; ++i) {
      if (!to->publish(std::string(300, 'c'))) return 11;
      if (!made->next(5s)) return 12;
    }
    words_->ready.store(true);
    while (!words_->go.load()) ::usleep(100);
    follow(&*plan_);
    const auto outcome = to->publish("never committed");
    words_->status.store(static_cast<int>(outcome.status));
    return 0;
  });
  ASSERT_TRUE(wait_for(words_->ready));
  EXPECT_TRUE(is_running("closer"));
  // A process that joins must not sweep it away.
  EXPECT_TRUE(bus::open(place_.url("t", "&name=joins")));
  EXPECT_TRUE(is_running("closer"));
  plan_->hold_at.store(failpoint::publish_payload);
  words_->go.store(true);
  ASSERT_TRUE(wait_for(plan_->held)) << "its publish answered " << words_->status.load();
  auto to = publisher(100ms);
  EXPECT_EQ(to.publish("x").status, publish_status::busy);
  closer.kill();
  EXPECT_TRUE(becomes_dead("closer"));
  EXPECT_TRUE(eventually([&] { return to.publish("x").status == publish_status::ok; }));
  EXPECT_EQ(repaired(), 1u);
}

TEST_F(Liveness, ThreadsMayComeAndGo) {
  add_stream(overflow::block);
  child threads([&] {
    // these outlive the first thread
    auto* session = new auto(bus::open(place_.url("t", "&name=threads")));
    auto* made = new auto((*session)->subscribe("k.>"));
    auto* to = new auto((*session)->publisher("k.p"));
    if (!*made || !*to) return 10;
    for (int i = 0; i < 5; ++i)
      std::thread([&] {
        if ((*to)->publish("from a thread that ends")) words_->published.fetch_add(1);
      }).join();
    std::thread([this, made, to] {
      std::uint64_t got = 0;
      while (got < 5 && (*made)->next(5s)) ++got;
      if ((*made)->failure()) words_->status.store(static_cast<int>((*made)->failure()->code));
      words_->delivered.store(got);
      words_->ready.store(true);
      while (!words_->go.load()) ::usleep(100);
      follow(&*plan_);
      (void)(*to)->publish("never committed");
    }).detach();
    // The first thread ends, the process lives on; pthread_exit would unwind into the test.
    ::syscall(SYS_exit, 0);
    return 11;
  });
  ASSERT_TRUE(wait_for(words_->ready));
  EXPECT_EQ(words_->published.load(), 5u);
  EXPECT_EQ(words_->status.load(), 0) << "the subscriber's failure";
  EXPECT_EQ(words_->delivered.load(), 5u);
  EXPECT_TRUE(is_running("threads"));
  EXPECT_TRUE(bus::open(place_.url("t", "&name=joins")));
  EXPECT_TRUE(is_running("threads"));
  plan_->hold_at.store(failpoint::publish_payload);
  words_->go.store(true);
  ASSERT_TRUE(wait_for(plan_->held));
  auto to = publisher(100ms);
  EXPECT_EQ(to.publish("x").status, publish_status::busy)
      << "its first thread ended, the holder lives";
  threads.kill();
  EXPECT_TRUE(becomes_dead("threads"));
  EXPECT_TRUE(eventually([&] { return to.publish("x").status == publish_status::ok; }));
  EXPECT_EQ(repaired(), 1u);
}
