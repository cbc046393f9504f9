// Kills a process at every failpoint of the library, at the first, some middle and a late hit.
// Meanwhile another process publishes to the same stream, and this one subscribes to it and
// judges.

#include <gtest/gtest.h>

#include <sys/mman.h>

#include <algorithm>
#include <functional>

#include "failpoint_plan.hpp"
#include "stage.hpp"

namespace {

using namespace test;
using bus::overflow;

// The sum over all scenarios, for the last test.
struct tally : failpoint_tally {
  times continued;
  std::size_t scenarios = 0;
} all;

constexpr std::size_t scenario_count = 14;

std::string name_of(failpoint at) { return bus::sync::failpoint_name(at); }

class scenario {
 public:
  using work = std::function<int(std::uint32_t life)>;

  scenario(std::string name, stage::options on, std::vector<failpoint> must)
      : name_(std::move(name)),
        must_(std::move(must)),
        watchdog_(100),
        stage_(prepared(std::move(on))) {}

  stage& on() noexcept { return stage_; }
  failpoint_plan& plan() noexcept { return *plan_; }
  failpoint_plan& survivor_plan() noexcept { return *survivor_plan_; }

  /// Runs `victim` once to see what it reaches, then once for each place to die.
  void run(const work& victim) {
    const auto seen = one(victim, failpoint::count, 0);
    for (std::size_t i = 0; i < failpoints; ++i) {
      const std::uint64_t hits = seen[i];
      all.hits[i] += hits;
      if (hits == 0) continue;
      const auto at = static_cast<failpoint>(i);
      std::size_t died = 0;
      for (const std::uint64_t hit : hits_to_die_at(hits)) {
        one(victim, at, hit);
        if (plan_->killed_ns.load(std::memory_order_acquire) != 0) ++died, ++all.kills[i], ++kills_;
      }
      // Failpoints of waiting are reached by chance where the scenario does not force them.
      const bool forced = std::find(must_.begin(), must_.end(), at) != must_.end();
      EXPECT_TRUE(died != 0 || !forced) << name_ << ": it was never killed at " << name_of(at);
      if (!stage_.checker().complaints().empty()) break;
    }
    for (const failpoint at : must_)
      EXPECT_NE(seen[static_cast<std::size_t>(at)], 0u)
          << name_ << " does not reach " << name_of(at);
    EXPECT_EQ(stage_.leftovers(), "") << name_;
    stage_.finish();
    EXPECT_TRUE(stage_.checker().complaints().empty()) << name_ << stage_.checker().report();
    std::printf("%-24s %zu kills, %llu messages judged, %llu gaps; survivor went on, %s\n",
                name_.c_str(), kills_, static_cast<unsigned long long>(stage_.checker().messages()),
                static_cast<unsigned long long>(stage_.checker().gaps()),
                continued_.line().c_str());
    ++all.scenarios;
  }

  std::function<void()> before = [] {};                ///< before a victim starts
  std::function<void(child&)> beside = [](child&) {};  ///< while it runs
  std::function<void()> after = [] {};                 ///< when it is dead, before recover()

  /// Waits until `who` has died or `enough`, without judging.
  static void wait_beside(child& who, const std::function<bool()>& enough) {
    eventually(
        [&] {
          siginfo_t info{};
          ::waitid(P_PID, static_cast<id_t>(who.pid()), &info, WEXITED | WNOHANG | WNOWAIT);
          return info.si_pid != 0 || enough();
        },
        3s);
  }

 private:
  stage::options prepared(stage::options on) {
    on.killed_ns = &plan_->killed_ns;
    on.in_survivor = [this] { follow(&*survivor_plan_); };
    return on;
  }

  std::array<std::uint64_t, failpoints> one(const work& victim, failpoint at, std::uint64_t hit) {
    plan_->reset();
    stage_.forget_kill();
    plan_->kill_at_hit.store(hit);
    plan_->kill_at.store(at, std::memory_order_release);
    before();
    const std::uint32_t life = stage_.new_life();
    child who([&] {
      follow(&*plan_);
      return victim(life);
    });
    beside(who);
    const int status = stage_.pump_until_ended(who);
    const bool killed = was_killed(status);
    const std::string where =
        at == failpoint::count ? "nowhere" : name_of(at) + " hit " + std::to_string(hit);
    if (status != 0 && !killed)
      stage_.checker().complain(complaint_kind::other, "victim of " + where + " ended with " +
                                                           std::to_string(status) + ": " +
                                                           stage_.why().text);
    after();
    const std::size_t complaints = stage_.checker().complaints().size();
    const std::int64_t took = stage_.recover(life);
    continued_.add(took);
    all.continued.add(took);
    EXPECT_EQ(stage_.checker().complaints().size(), complaints) << name_ << ", killed at " << where;
    std::array<std::uint64_t, failpoints> seen{};
    for (std::size_t i = 0; i < failpoints; ++i)
      seen[i] = plan_->hits_of(static_cast<failpoint>(i));
    return seen;
  }

  std::string name_;
  std::vector<failpoint> must_;
  alarm_guard watchdog_;
  shared_value<failpoint_plan> plan_, survivor_plan_;
  stage stage_;
  times continued_;
  std::size_t kills_ = 0;
};

stage::options on_stream(overflow policy) {
  stage::options on;
  on.config = small_stream("k", policy);
  return on;
}

// Opens its own session, publishes `steps` messages or batches of every kind, leaves. 0: success.
int publish_in_every_way(stage& on, std::uint32_t life, int steps,
                         mixed_publisher::options how = {}) {
  auto session = bus::open(on.place().url("t", "&name=victim"));
  if (!session) return on.why().say(session.error().message()), 10;
  std::mt19937_64 random(7);
  // An exclusive publisher may find the lease of one that has just died, and waits by itself. A
  // live owner is a conflict.
  auto made = mixed_publisher::open(*session, on.lives(), life, on.stream(), how);
  if (!made) return on.why().say(made.error().message()), 11;
  for (int i = 0; i < steps; ++i) {
    const bus::publish_status status = made->step(random);
    if (status == bus::publish_status::rejected || status == bus::publish_status::dropped)
      ::usleep(100);
    else if (status != bus::publish_status::ok)
      return on.why().say(std::string(bus::publish_status_name(status)) + ": " +
                          made->last_error().message()),
             12;
  }
  return 0;
}

int subscribe_in_every_way(stage& on, std::uint32_t life, int rounds) {
  auto session = bus::open(on.place().url("t", "&name=victim"));
  if (!session) return on.why().say(session.error().message()), 10;
  std::mt19937_64 random(life % 2 + 5);
  return consume_in_every_way(*session, on.stream(), random, rounds, on.why());
}

using enum failpoint;

const std::vector<failpoint> shared_steps = {
    publish_begin,         publish_reserved,     publish_header,      publish_payload,
    publish_before_commit, publish_committed,    publish_zeroed,      publish_waypoint_open,
    publish_waypoint,      publish_state_stored, publish_unlocked,    publish_woken,
    reserve_done,          batch_record,         intern_locked,       intern_written,
    intern_committed,      create_process_built, create_process_named};

void publish_shared(const std::string& name, overflow policy, bool gated) {
  auto must = shared_steps;
  if (gated) must.insert(must.end(), {reserve_candidate, reserve_scanned});
  scenario s(name, on_stream(policy), must);
  s.run([&](std::uint32_t life) { return publish_in_every_way(s.on(), life, 100); });
}

}  // namespace

TEST(KillAtFailpoints, SharedPublisherOnBlock) {
  publish_shared("shared, block", overflow::block, true);
}
TEST(KillAtFailpoints, SharedPublisherOnDropOldest) {
  publish_shared("shared, drop_oldest", overflow::drop_oldest, false);
}
TEST(KillAtFailpoints, SharedPublisherOnReject) {
  publish_shared("shared, reject", overflow::reject, true);
}
TEST(KillAtFailpoints, SharedPublisherOnDropNew) {
  publish_shared("shared, drop_new", overflow::drop_new, true);
}

TEST(KillAtFailpoints, SharedPublisherWithSubjectsInline) {
  auto on = on_stream(overflow::block);
  on.config.max_subjects = 2;  // nearly every record carries its subject
  scenario s("shared, inline subjects", on, {publish_header, publish_payload, publish_committed});
  s.run([&](std::uint32_t life) { return publish_in_every_way(s.on(), life, 60); });
}

TEST(KillAtFailpoints, ExclusivePublisherWithEarlyMessages) {
  scenario s("exclusive", on_stream(overflow::block),
             {publish_locked, lease_taken, lease_returned, open_record, open_progress, open_closing,
              publish_committed, publish_waypoint, reserve_candidate, reserve_done, batch_record});
  s.run([&](std::uint32_t life) {
    return publish_in_every_way(s.on(), life, 100,
                                {.mode = bus::publish_mode::exclusive, .early_bytes = 1024});
  });
}

TEST(KillAtFailpoints, ExclusivePublisherReadEarly) {
  auto on = on_stream(overflow::block);
  on.early = true;
  on.config.ring_bytes = 1 << 20;
  on.config.max_message_bytes = 100 * 1024;
  scenario s("exclusive, read early", on, {open_record, open_progress, open_closing});
  s.run([&](std::uint32_t life) {
    auto session = bus::open(s.on().place().url());
    if (!session) return 10;
    auto made = mixed_publisher::open(*session, s.on().lives(), life, s.on().stream(),
                                      {.mode = bus::publish_mode::exclusive, .early_bytes = 1024});
    if (!made) return s.on().why().say(made.error().message()), 11;
    for (int i = 0; i < 12; ++i)
      if (made->one(i % 3 == 0 ? 200 : 90'000) != bus::publish_status::ok) return 12;
    return 0;
  });
}

TEST(KillAtFailpoints, ExclusivePublisherOnDropOldest) {
  scenario s("exclusive, drop_oldest", on_stream(overflow::drop_oldest),
             {lease_taken, lease_returned, open_closing});
  s.run([&](std::uint32_t life) {
    return publish_in_every_way(s.on(), life, 100,
                                {.mode = bus::publish_mode::exclusive, .early_bytes = 1024});
  });
}

TEST(KillAtFailpoints, SubscriberOnBlock) {
  scenario s("subscriber, block", on_stream(overflow::block),
             {attach_announced, attach_pinned, attach_checked, attach_walked, detach_begin,
              detach_end, consume_found, consume_copied, consume_checked, consume_released,
              consume_tick, sleep_armed, sleep_woken});
  s.run([&](std::uint32_t life) { return subscribe_in_every_way(s.on(), life, 5); });
}

TEST(KillAtFailpoints, SubscriberOnDropOldest) {
  scenario s("subscriber, drop_oldest", on_stream(overflow::drop_oldest),
             {attach_announced, attach_pinned, attach_walked, detach_begin, detach_end,
              consume_found, consume_copied, consume_checked, sleep_armed, sleep_woken});
  s.run([&](std::uint32_t life) { return subscribe_in_every_way(s.on(), life, 5); });
}

TEST(KillAtFailpoints, PublisherBlockedOnAFullRing) {
  scenario s("blocked on a full ring", on_stream(overflow::block), {full_waiting, full_slept});
  s.beside = [&](child& who) {  // nothing is polled meanwhile, so the ring fills
    scenario::wait_beside(who, [&] { return s.plan().hits_of(full_slept) >= 6; });
  };
  s.run([&](std::uint32_t life) { return publish_in_every_way(s.on(), life, 150); });
}

TEST(KillAtFailpoints, PublisherWaitingForTheLock) {
  scenario s("waiting for the lock", on_stream(overflow::block), {lock_waiting});
  s.before = [&] {  // the survivor has the lock and keeps it
    s.survivor_plan().hold_at.store(publish_begin, std::memory_order_release);
    EXPECT_TRUE(s.on().pump_until([&] { return s.survivor_plan().held.load(); }));
  };
  s.beside = [&](child& who) {
    scenario::wait_beside(who, [&] { return s.plan().hits_of(lock_waiting) >= 3; });
    s.survivor_plan().hold_at.store(failpoint::count, std::memory_order_release);
  };
  s.run([&](std::uint32_t life) { return publish_in_every_way(s.on(), life, 30); });
}

// One publisher dies with the lock, the next during its repair; the survivor repairs again.
TEST(KillAtFailpoints, PublisherThatTakesOverAndRepairs) {
  scenario s("take-over and repair", on_stream(overflow::block),
             {lock_taken_over, repair_begin, repair_walked, repair_waypoint, repair_end});
  shared_value<failpoint_plan> first_plan;
  static constexpr failpoint first_ends[] = {
      publish_waypoint_open, publish_committed,     publish_zeroed, publish_begin,
      publish_payload,       publish_before_commit, batch_record,   publish_waypoint};
  std::size_t turn = 0;
  std::uint32_t first_life = 0;
  s.before = [&] {
    s.on().pause_survivor();
    first_plan->reset();
    // A repair writes a waypoint only if the dead publisher had not.
    const bool in_waypoint = s.plan().kill_at.load() == repair_waypoint;
    const failpoint end = first_ends[in_waypoint ? 0 : turn++ % std::size(first_ends)];
    first_plan->kill_at_hit.store(end == publish_waypoint_open || end == batch_record ? 2 : 20);
    first_plan->kill_at.store(end);
    first_life = s.on().new_life();
    child first([&] {
      follow(&*first_plan);
      return publish_in_every_way(s.on(), first_life, 100);
    });
    (void)s.on().pump_until_ended(first);
    EXPECT_NE(first_plan->killed_ns.load(), 0);
  };
  s.after = [&] {
    s.on().resume_survivor();
    (void)s.on().recover(first_life);
  };
  s.run([&](std::uint32_t life) { return publish_in_every_way(s.on(), life, 30); });
}

// Streams are created and removed next to the judged one, and the process doing that dies.
TEST(KillAtFailpoints, CreatorAndRemoverOfAStream) {
  scenario s("create and remove", on_stream(overflow::block),
             {create_stream_built, create_stream_named, create_process_built, create_process_named,
              remove_stream_renamed});
  const auto work = [&](bus::session& session) -> int {
    if (auto made = session.add_stream(small_stream("x", overflow::block)); !made)
      return s.on().why().say(made.error().message()), 11;
    {
      auto publisher = session.publisher("x.y");
      if (!publisher) return s.on().why().say(publisher.error().message()), 12;
      if (!publisher->publish("hello"))
        return s.on().why().say(publisher->last_error().message()), 13;
    }
    if (auto removed = session.remove_stream("x"); !removed)
      return s.on().why().say(removed.error().message()), 14;
    return 0;
  };
  const auto victim = [&](std::uint32_t) {
    auto session = bus::open(s.on().url());
    if (!session) return s.on().why().say(session.error().message()), 10;
    return work(*session);
  };
  s.after = [&] {
    child next([&] { return victim(0); });
    const int status = s.on().pump_until_ended(next);
    if (status != 0)
      s.on().checker().complain(complaint_kind::other,
                                std::string("the next process cannot work: ") + s.on().why().text);
    EXPECT_EQ(s.on().leftovers(), "");
    EXPECT_EQ(names_in(s.on().place().directory() + "/streams"), std::vector<std::string>{"k"});
  };
  s.run(victim);
}

// A reading session, a publishing session, and a stream "l" with a lane per publisher. Then a
// process dies at `at`, and the sessions see no other change.
struct untold {
  shared_value<failpoint_plan> plan;
  const scratch place;
  bus::session reading = std::move(*bus::open(place.url("t", "&name=reading")));
  bus::session publishing = std::move(*bus::open(place.url("t", "&name=publishing")));
  bus::stream_config lanes = small_stream("l", overflow::block);
  std::optional<bus::publisher> first, elsewhere;
  std::optional<bus::subscriber> subscriber;

  untold() {
    lanes.mode = bus::lane_mode::per_publisher;
    lanes.lanes = 3;
    EXPECT_TRUE(reading.add_stream(lanes));
    EXPECT_TRUE(reading.add_stream(small_stream("old", overflow::block)));
    first = std::move(*reading.publisher("l.first"));
    elsewhere = std::move(*publishing.publisher("x.y"));  // in the default stream, so far
    subscriber = std::move(*reading.subscribe(">"));
    EXPECT_FALSE(subscriber->next(0s));
    EXPECT_TRUE(elsewhere->publish("knows what there is") && subscriber->next(1s));
    plan->reset();
  }
  template <class Work>
  void dies_at(failpoint at, Work&& work) {
    plan->kill_at_hit.store(1);
    plan->kill_at.store(at);
    child victim([&] {
      auto session = bus::open(place.url());
      follow(&*plan);
      if (session) work(*session);
      return 10;
    });
    EXPECT_TRUE(was_killed(victim.wait())) << name_of(at);
    for (std::size_t i = 0; i < failpoints; ++i) all.hits[i] += plan->hits[i].load();
    ++all.kills[static_cast<std::size_t>(at)];
  }
  bool arrives(bus::publisher& by) {
    if (!by.publish("hello")) return false;
    const auto m = subscriber->next(5s);
    return m && m->subject() == by.subject();
  }
  bool arrives(const char* subject) {
    auto publisher = publishing.publisher(subject);
    return publisher && arrives(*publisher);
  }
};
void add_x(bus::session& by) { (void)by.add_stream(small_stream("x", overflow::block)); }

// The creator of a stream or lane may die before it announces it. The next publisher announces
// it, and no earlier session misses a message.
TEST(KillAtFailpoints, CreatorOfALaneThatNobodyWasToldOf) {
  const alarm_guard watchdog(60);
  for (const failpoint at : {create_lane_named, create_lane_announced}) {
    untold s;
    s.dies_at(at, [](bus::session& by) { (void)by.publisher("l.victim"); });
    EXPECT_TRUE(s.arrives("l.second")) << name_of(at);
  }
}

TEST(KillAtFailpoints, CreatorOfAStreamThatNobodyWasToldOf) {
  const alarm_guard watchdog(60);
  const std::function<void(untold&)> looks[] = {
      [](untold& s) { EXPECT_TRUE(s.arrives("x.y")) << "by a new publisher"; },
      [](untold& s) { EXPECT_TRUE(s.publishing.stream("x")) << "by name"; },
      [](untold& s) {
        auto worker = s.publishing.consume("x.*", {.group = "workers"});
        EXPECT_TRUE(worker && s.publishing.group("x", "workers")) << "by a consumer";
      },
      [](untold& s) {
        EXPECT_TRUE(s.reading.add_stream(small_stream("x", overflow::block)))
            << "it is there, and the same";
        EXPECT_TRUE(s.elsewhere->publish("goes over to it"));
        EXPECT_EQ(s.reading.stream("x")->lanes.at(0).last_sequence, 1u);
      }};
  for (std::size_t i = 0; i < std::size(looks); ++i) {
    SCOPED_TRACE(i);
    untold s;
    s.dies_at(create_stream_named, add_x);
    looks[i](s);
  }
}

// A publisher of the removed stream moves to another one.
TEST(KillAtFailpoints, RemoverOfAStreamThatNobodyWasToldOf) {
  const alarm_guard watchdog(60);
  untold s;
  auto bound = s.publishing.publisher("old.one");
  ASSERT_TRUE(bound && s.arrives(*bound));
  s.dies_at(remove_stream_renamed, [](bus::session& by) { (void)by.remove_stream("old"); });
  EXPECT_TRUE(s.reading.add_stream(s.lanes))
      << "it is there; who looks finds the remains of the other";
  EXPECT_TRUE(s.arrives(*bound));
  EXPECT_TRUE(s.publishing.stream(std::string(bus::default_stream)));
}

// The creator may also be stopped while it has the lock of changes.
TEST(KillAtFailpoints, CreatorOfALaneThatIsStopped) {
  const alarm_guard watchdog(60);
  untold s;
  s.plan->hold_at.store(create_lane_named);
  child stopped([&] {
    auto session = bus::open(s.place.url());
    follow(&*s.plan);
    return session->publisher("l.stopped") ? 0 : 10;
  });
  ASSERT_TRUE(eventually([&] { return s.plan->held.load(); }));
  EXPECT_TRUE(s.arrives("l.second"));
}

// A process may die while it cleans up after a dead one. The next one finishes that.
TEST(KillAtFailpoints, WhoClearsUpAfterTheDead) {
  const alarm_guard watchdog(60);
  shared_value<failpoint_plan> plan;
  const scratch place;
  auto session = bus::open(place.url());
  ASSERT_TRUE(session && session->add_stream(small_stream("k", overflow::drop_oldest)));
  child killed([&] {
    auto own = bus::open(place.url());
    auto subscriber = own->subscribe("k.>");
    return ::kill(::getpid(), SIGKILL);
  });
  ASSERT_TRUE(was_killed(killed.wait()));
  ASSERT_EQ(readers_in_table(place, "k").size(), 1u);
  plan->reset();
  plan->kill_at_hit.store(1);
  plan->kill_at.store(dead_cleared);
  child clearing([&] {
    follow(&*plan);
    return bus::open(place.url()) ? 10 : 11;
  });
  EXPECT_TRUE(was_killed(clearing.wait()));
  for (std::size_t i = 0; i < failpoints; ++i) all.hits[i] += plan->hits[i].load();
  ++all.kills[static_cast<std::size_t>(dead_cleared)];
  EXPECT_EQ(names_in(place.directory() + "/processes").size(), 9u) << "both dead are there still";
  EXPECT_TRUE(bus::open(place.url()));
  EXPECT_TRUE(readers_in_table(place, "k").empty());
  EXPECT_EQ(names_in(place.directory() + "/processes").size(), 3u);
}

// The same by a process alone on the bus, with a stream that is removed with the last process.
TEST(KillAtFailpoints, AloneOnTheBus) {
  const alarm_guard watchdog(60);
  shared_value<failpoint_plan> plan;
  shared_value<remark> why;
  const auto work = [&](const std::string& url) -> int {
    auto session = bus::open(url);
    if (!session) return why->say(session.error().message()), 10;
    auto config = small_stream("x", overflow::block);
    config.ephemeral = true;
    if (auto made = session->add_stream(config); !made) return why->say(made.error().message()), 11;
    auto subscriber = session->subscribe("x.>");
    auto publisher = session->publisher("x.y");
    if (!subscriber || !publisher) return why->say("cannot attach"), 12;
    if (!subscriber->fd()) return why->say("no descriptor"), 13;
    for (int i = 0; i < 40; ++i) {
      if (!publisher->publish(std::string(700, 'a')))
        return why->say(publisher->last_error().message()), 14;
      const auto m = subscriber->next(1s);
      if (!m || m->size() != 700) return why->say("no message"), 15;
    }
    if (auto other = session->add_stream(small_stream("z", overflow::reject)); !other)
      return why->say("z"), 16;
    if (auto removed = session->remove_stream("z"); !removed)
      return why->say(removed.error().message()), 17;
    return 0;
  };
  const auto start = [&](const std::string& url) {
    child who([&] {
      follow(&*plan);
      return work(url);
    });
    return who.wait();
  };
  plan->reset();
  {
    const scratch fresh;
    ASSERT_EQ(start(fresh.url()), 0) << why->text;
  }
  std::array<std::uint64_t, failpoints> seen{};
  for (std::size_t i = 0; i < failpoints; ++i) seen[i] = plan->hits[i].load();
  for (std::size_t i = 0; i < failpoints; ++i) {
    all.hits[i] += seen[i];
    for (const std::uint64_t hit : std::set<std::uint64_t>{1, seen[i]}) {
      if (hit == 0 || seen[i] == 0) continue;
      const scratch fresh;
      plan->reset();
      plan->kill_at_hit.store(hit);
      plan->kill_at.store(static_cast<failpoint>(i));
      const int status = start(fresh.url());
      const std::string where = name_of(static_cast<failpoint>(i)) + " hit " + std::to_string(hit);
      if (WIFSIGNALED(status)) ++all.kills[i];
      plan->reset();
      child looker([&] {
        auto session = bus::open(fresh.url());
        if (!session) return why->say(session.error().message()), 20;
        const auto streams = session->streams();
        if (!streams) return why->say(streams.error().message()), 21;
        for (const auto& stream : *streams)
          if (stream.config.ephemeral) return why->say("the ephemeral stream is still there"), 22;
        return 0;
      });
      EXPECT_EQ(looker.wait(), 0) << "after a kill at " << where << ": " << why->text;
      child next([&] { return work(fresh.url()); });
      EXPECT_EQ(next.wait(), 0) << "after a kill at " << where << ": " << why->text;
      EXPECT_TRUE(names_in(fresh.directory() + "/processes").empty()) << where;
      for (const std::string& name : names_in(fresh.directory() + "/streams"))
        EXPECT_EQ(name, "z") << "left at " << where;
    }
  }
}

// Freeing the victim's memory takes tens of milliseconds; the lane must not wait for that.
TEST(KillAtFailpoints, HolderOfTheLockWithMuchMemory) {
  scenario s("holder with 512 MiB", on_stream(overflow::block), {});
  const alarm_guard watchdog(60);
  times took;
  for (const failpoint at : {publish_begin, publish_payload, publish_before_commit,
                             publish_committed, publish_state_stored}) {
    s.plan().reset();
    s.on().forget_kill();
    s.plan().kill_at_hit.store(5);
    s.plan().kill_at.store(at);
    const std::uint32_t life = s.on().new_life();
    child who([&] {
      constexpr std::size_t bytes = 512ull << 20;
      void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      if (memory == MAP_FAILED) return 20;
      follow(&s.plan());
      return publish_in_every_way(s.on(), life, 60);
    });
    const int status = s.on().pump_until_ended(who);
    EXPECT_TRUE(WIFSIGNALED(status)) << status << s.on().why().text;
    took.add(s.on().recover(life));
  }
  s.on().finish();
  EXPECT_TRUE(s.on().checker().complaints().empty()) << s.on().checker().report();
  EXPECT_EQ(took.all.size(), 5u);
  std::printf("holder with 512 MiB: survivor went on, %s\n", took.line().c_str());
}

TEST(KillAtFailpoints, ZZEveryNamedStepWasReached) {
  if (all.scenarios != scenario_count)
    GTEST_FAIL() << "this test judges a run of all the others: " << all.scenarios;
  const std::string missing = all.print([](failpoint at) { return !is_of_groups(at); });
  EXPECT_EQ(missing, "") << "no process was killed there";
  std::printf("survivors went on, %s\n", all.continued.line().c_str());
}
