#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <set>
#include <thread>

#include "support/buses.hpp"

namespace {

using namespace test;
using bus::publish_status;

class Streams : public testing::Test {
 protected:
  test::scratch scratch;
  bus::session session = join(scratch);
};

TEST_F(Streams, TheDefaultOneIsMadeOnFirstUse) {
  EXPECT_TRUE(must(session.streams()).empty());
  auto p = must(session.publisher("anything.at.all"));
  const auto all = must(session.streams());
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].config.name, "default");
  EXPECT_EQ(all[0].config.overflow, bus::overflow::drop_oldest);
  EXPECT_EQ(p.stream(), "default");
}

TEST_F(Streams, OneDeclaredLaterTakesItsSubjectsOver) {
  auto s = must(session.subscribe("a.>"));
  auto p = must(session.publisher("a.b"));
  auto other = must(session.publisher("c.d"));
  send(p, "one");
  must(session.add_stream(stream_of("a", {"a.>"})));
  send(p, "two");
  send(other, "elsewhere");
  EXPECT_EQ(p.stream(), "a");
  EXPECT_EQ(other.stream(), "default");
  texts seen = drain(s);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (texts{"one", "two"}));
  EXPECT_EQ(other.publish_to("a.b", "x").status, publish_status::invalid)
      << "it is not the default stream's any more";
}

TEST_F(Streams, MadeLaterAreReadFromTheirBeginning) {
  const std::array<std::string_view, 2> patterns{"x.*", "y.#"};
  auto s = must(session.subscribe(patterns));
  auto second = join(scratch);
  must(second.add_stream(stream_of("x", {"x.>"})));
  auto p = must(second.publisher("x.1"));
  send(p, "before it noticed");
  send_to(p, "x.1.2", "does not match");
  EXPECT_EQ(drain(s), texts{"before it noticed"});
  must(second.add_stream(stream_of("y", {"y.>", "y"})));
  auto q = must(second.publisher("y"));
  send(q, "y");
  EXPECT_EQ(drain(s), texts{"y"});
  EXPECT_EQ(s.stats().lanes, 2u);
}

TEST_F(Streams, RemovedInUseAreDrainedAndThenGone) {
  must(session.add_stream(stream_of("a", {"a.>"})));
  auto p = must(session.publisher("a.b"));
  auto s = must(session.subscribe("a.>"));
  for (int i = 0; i < 10; ++i) send(p, std::to_string(i));
  must(session.remove_stream("a"));
  EXPECT_EQ(session.stream("a").error().code, bus::errc::not_found);
  send(p, "to the default stream");
  EXPECT_EQ(p.stream(), "default");
  texts seen = drain(s);
  EXPECT_EQ(seen.size(), 11u);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), "to the default stream"), 1);
  EXPECT_EQ(s.stats().delivered, 11u);
  EXPECT_EQ(s.stats().lanes, 1u);
  EXPECT_FALSE(s.failure());
  EXPECT_EQ(session.remove_stream("a").error().code, bus::errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(scratch.stream("a")));
}

TEST_F(Streams, MadeAnewUnderTheSameNameAreOtherStreams) {
  must(session.add_stream(stream_of("a", {"a.>"})));
  const auto before = must(session.stream("a")).stream_id;
  auto p = must(session.publisher("a.b"));
  auto s = must(session.subscribe("a.>"));
  send(p, "old");
  must(session.remove_stream("a"));
  must(session.add_stream(stream_of("a", {"a.>"}, bus::overflow::drop_oldest)));
  EXPECT_NE(must(session.stream("a")).stream_id, before);
  EXPECT_EQ(send(p, "new"), 1u);
  texts seen = drain(s);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (texts{"new", "old"}));
}

// More than a process has slots at first, and far more than it may open descriptors.
TEST_F(Streams, ASubscriberReadsAsManyAsThereAre) {
  constexpr int count = 1200;
  for (int i = 0; i < count; ++i) {
    bus::stream_config config =
        stream_of("s" + std::to_string(i), {"s" + std::to_string(i) + ".>"});
    config.max_subjects = 8;
    config.max_readers = 8;
    must(session.add_stream(config));
  }
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{64, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &few);
  std::set<std::string> seen;
  std::size_t messages = 0;
  bus::subscriber_stats stats;
  {
    auto reader = join(scratch), writer = join(scratch);
    auto s = must(reader.subscribe(">"));
    auto p = must(writer.publisher("s0.x"));
    for (int i = 0; i < count; i += 7) {
      auto one = must(writer.publisher("s" + std::to_string(i) + ".x"));
      send(one, "m");
    }
    while (s.poll(1000, [&](const bus::message& m) { seen.emplace(m.subject()), ++messages; }) !=
           0) {
    }
    stats = s.stats();
    // A publisher sees a reader whose slot was added when its process file grew: it overwrites
    // nothing.
    const std::string last = "s" + std::to_string(count - 1) + ".x";
    auto one = must(writer.publisher(last, {.send_timeout = 0ns}));
    const std::size_t held = fill(one, 100);
    EXPECT_LT(held, 64 * 1024 / 128);
    std::size_t got = 0;
    while (s.poll(1000, [&](const bus::message& m) { got += m.subject() == last ? 1 : 0; }) != 0) {
    }
    EXPECT_EQ(got, held);
    EXPECT_TRUE(one.publish("again")) << one.last_error().message();
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(stats.lanes, static_cast<std::size_t>(count));
  EXPECT_EQ(stats.lost, 0u);
  EXPECT_EQ(messages, (count + 6) / 7u);
  EXPECT_EQ(seen.size(), messages);
}

TEST_F(Streams, RemovingOneFreesAPublisherThatWaits) {
  bus::stream_config config = stream_of("a", {"a.>"});
  config.send_timeout = 1h;
  must(session.add_stream(config));
  auto p = must(session.publisher("a.b"));
  auto slow = must(session.subscribe("a.>"));
  std::atomic<int> status{-1};
  std::jthread waiter([&] {
    bus::published refusal;
    fill(p, 1000, &refusal);
    status = static_cast<int>(refusal.status);
  });
  ASSERT_TRUE(eventually([&] { return must(session.stream("a")).lanes.at(0).blocked > 0; }));
  must(session.remove_stream("a"));
  ASSERT_TRUE(eventually([&] { return status != -1; }));
  EXPECT_EQ(status, static_cast<int>(publish_status::closed));
  EXPECT_TRUE(p.publish("goes on elsewhere"));
}

TEST_F(Streams, EphemeralOnesGoWithTheLastSession) {
  bus::stream_config config = stream_of("gone", {"gone.>"});
  config.ephemeral = true;
  must(session.add_stream(config));
  must(session.add_stream(stream_of("kept", {"kept.>"})));
  {
    auto second = join(scratch);
    EXPECT_EQ(must(second.streams()).size(), 2u);
  }
  EXPECT_EQ(must(session.streams()).size(), 2u) << "somebody is still there";
  { const bus::session last = std::move(session); }
  session = join(scratch);
  const auto all = must(session.streams());
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].config.name, "kept");
}

TEST_F(Streams, KeepTheirMessagesWithoutAnySession) {
  {
    auto p = must(session.publisher("a"));
    send(p, "kept");
  }
  { const bus::session last = std::move(session); }
  session = join(scratch);
  bus::subscriber_options all;
  all.start = bus::start::all();
  auto s = must(session.subscribe("a", all));
  EXPECT_EQ(drain(s), texts{"kept"});
  auto p = must(session.publisher("a"));
  EXPECT_EQ(send(p, "next"), 2u) << "sequences are never used twice";
}

TEST_F(Streams, NamesThatCannotBeAreNotFound) {
  for (const char* name : {"", "..", "../x", "none", "a/b"}) {
    EXPECT_EQ(session.remove_stream(name).error().code, bus::errc::not_found) << name;
    EXPECT_EQ(session.stream(name).error().code, bus::errc::not_found) << name;
  }
}

// Takes all descriptors of the process and lowers its limit for good: for children only.
class no_descriptors {
 public:
  no_descriptors() {
    const rlimit few{128, 128};
    ::setrlimit(RLIMIT_NOFILE, &few);
    for (int file; (file = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken_.push_back(file);
  }
  ~no_descriptors() {
    for (const int file : taken_) ::close(file);
  }

 private:
  std::vector<int> taken_;
};

// A change that cannot be read now is not forgotten, be it a removal or a new stream.
TEST_F(Streams, ChangesMetWithoutDescriptorsAreLookedAtAgain) {
  const std::string url = scratch.url();
  child poor([&] {
    ::alarm(60);
    // This session must find the other session's changes by itself.
    auto own = must(bus::session::open(url)), other = must(bus::session::open(url));
    must(own.add_stream(stream_of("goes", {"x"})));
    auto p = must(own.publisher("x"));
    auto s = must(own.subscribe(">"));
    send(p, "before");
    if (drain(s) != texts{"before"}) return 1;
    must(other.remove_stream("goes"));
    must(other.add_stream(stream_of("comes", {"y"})));
    auto q = must(other.publisher("y"));
    send(q, "new");
    {
      const no_descriptors taken;
      if (p.publish("to nobody").status != publish_status::closed) return 2;
      if (p.last_error().message().find("removed") == std::string::npos) return 3;
      (void)drain(s);
    }
    if (drain(s) != texts{"new"}) return 4;
    if (!p.publish("after")) return 5;
    return drain(s) == texts{"after"} ? 0 : 6;
  });
  const int status = poor.wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "the step that failed";
}

TEST_F(Streams, OneThatComesWithoutDescriptorsIsReadAfterwards) {
  const std::string url = scratch.url();
  child poor([&] {
    ::alarm(60);
    // Each in its own session: the handles of one session share what it knows.
    auto own = must(bus::session::open(url)), other = must(bus::session::open(url)),
         third = must(bus::session::open(url));
    auto s = must(own.subscribe(">"));
    auto free = must(third.publisher("y"));  // in the default stream
    must(other.add_stream(stream_of("comes", {"y"})));
    auto q = must(other.publisher("y"));
    send(q, "new");
    {
      const no_descriptors taken;
      if (!drain(s).empty()) return 1;
      if (free.publish("a guess")) return 2;
    }
    if (drain(s) != texts{"new"}) return 3;
    if (!free.publish("after") || free.stream() != "comes") return 4;
    return drain(s) == texts{"after"} ? 0 : 5;
  });
  const int status = poor.wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "the step that failed";
}

TEST(Buses, AreMadeListedAndRemoved) {
  scratch scratch;
  EXPECT_TRUE(bus::list_buses(scratch.root()).empty());
  bus::session_options only_existing;
  only_existing.url = scratch.url("b");
  only_existing.create = false;
  EXPECT_EQ(bus::session::open(only_existing).error().code, bus::errc::not_found);
  EXPECT_TRUE(bus::list_buses(scratch.root()).empty());
  {
    auto b = must(bus::session::open(scratch.url("b"))),
         a = must(bus::session::open(scratch.url("a")));
    EXPECT_EQ(b.name(), "b");
    EXPECT_EQ(b.directory(), scratch.directory("b"));
    EXPECT_TRUE(bus::session::open(only_existing));
    EXPECT_EQ(bus::list_buses(scratch.root()), (texts{"a", "b"}));
    const auto busy = bus::remove_bus(scratch.url("b"));
    ASSERT_FALSE(busy);
    EXPECT_EQ(busy.error().code, bus::errc::busy);
    EXPECT_NE(busy.error().why.find("pid " + std::to_string(::getpid())), std::string::npos)
        << busy.error().why;
  }
  must(bus::remove_bus(scratch.url("b")));
  EXPECT_EQ(bus::list_buses(scratch.root()), texts{"a"});
  EXPECT_EQ(bus::remove_bus(scratch.url("b")).error().code, bus::errc::not_found);
  EXPECT_EQ(bus::remove_bus("not a name").error().code, bus::errc::invalid_argument);
}

TEST(Buses, RemovedByForceTellTheirUsers) {
  scratch scratch;
  auto session = join(scratch);
  bus::publisher_options exclusive;
  exclusive.mode = bus::publish_mode::exclusive;
  must(session.add_stream(stream_of("owned", {"b"})));
  auto p = must(session.publisher("a")), owner = must(session.publisher("b", exclusive));
  auto s = must(session.subscribe(">"));
  send(p, "last words");
  must(bus::remove_bus(scratch.url(), true));
  EXPECT_TRUE(bus::list_buses(scratch.root()).empty());
  // Publishers must not publish to files that no other process can find.
  for (bus::publisher* publisher : {&p, &owner}) {
    EXPECT_EQ(publisher->publish("lost").status, bus::publish_status::closed);
    EXPECT_EQ(publisher->last_error().code, bus::errc::closed);
    EXPECT_NE(publisher->last_error().why.find("removed"), std::string::npos)
        << publisher->last_error().why;
  }
  EXPECT_EQ(session.publisher("c").error().code, bus::errc::closed);
  EXPECT_EQ(session.add_stream(stream_of("late", {"c"})).error().code, bus::errc::closed);
  EXPECT_EQ(drain(s), texts{"last words"});
  ASSERT_TRUE(s.failure());
  EXPECT_EQ(s.failure()->code, bus::errc::closed);
  auto anew = join(scratch);
  EXPECT_TRUE(must(anew.streams()).empty()) << "a bus of that name is another bus";
  EXPECT_EQ(p.publish("still lost").status, bus::publish_status::closed)
      << "and not for handles of the old one";
  EXPECT_FALSE(s.next(10s)) << "nothing will ever come: it does not wait";
  // The old session ends and touches nothing of the new bus.
  auto lives_on = must(anew.publisher("a"));
  { const bus::session old = std::move(session); }
  auto other = join(scratch);
  EXPECT_EQ(must(other.processes()).size(), 2u);
}

TEST(Buses, RemovedByForceTakeNobodyAlongWhenMadeAgain) {
  scratch scratch;
  bus::known_subject kept("b.x");
  std::optional<bus::session> first = join(scratch);
  {
    auto p = must(first->publisher("a"));
    ASSERT_TRUE(p.publish_to(kept, "x"));
  }
  must(bus::remove_bus(scratch.url(), true));
  auto second = join(scratch);
  first.reset();
  auto third = join(scratch);
  EXPECT_EQ(must(third.processes()).size(), 2u)
      << "the end of the first session is not the second's";
  auto s = must(third.subscribe(">"));
  auto p = must(second.publisher("c"));
  ASSERT_TRUE(p.publish_to(kept, "y"));
  const auto m = s.next(10s);
  ASSERT_TRUE(m);
  EXPECT_EQ(m->subject(), "b.x");
}

// Ids of publishers and subjects belong to one bus: what a handle knows of one does not hold on
// another.
TEST(Buses, KnownSubjectsAreNotMixedUp) {
  scratch scratch;
  auto one = must(bus::session::open(scratch.url("one"))),
       two = must(bus::session::open(scratch.url("two")));
  bus::publisher_options exclusive;  // shared publishers look subjects up each time
  exclusive.mode = bus::publish_mode::exclusive;
  auto p = must(one.publisher("a", exclusive)), q = must(two.publisher("b", exclusive));
  auto s = must(two.subscribe(">"));
  bus::known_subject x("x"), y("y");
  ASSERT_TRUE(p.publish_to(y, "1"));
  ASSERT_TRUE(p.publish_to(x, "1"));
  ASSERT_TRUE(q.publish_to(x, "2"));
  ASSERT_TRUE(q.publish_to(y, "2"));
  texts subjects;
  while (s.poll(10, [&](const bus::message& m) { subjects.emplace_back(m.subject()); }) != 0) {
  }
  EXPECT_EQ(subjects, (texts{"x", "y"}));
}

TEST(Buses, AreApart) {
  scratch scratch;
  auto one = must(bus::session::open(scratch.url("one"))),
       two = must(bus::session::open(scratch.url("two")));
  auto p = must(one.publisher("a"));
  auto s = must(two.subscribe("a"));
  send(p, "x");
  EXPECT_TRUE(drain(s).empty());
}

}  // namespace
