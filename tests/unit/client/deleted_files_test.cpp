// Files of a bus that are deleted while processes use it: no process keeps working without the
// others. Each user gets an error at its next call, a few seconds later at the latest.

#include <filesystem>

#include "support/buses.hpp"

using namespace test;

namespace {

bool says(const std::optional<bus::error>& failure, const std::string& word) {
  return failure && failure->code == bus::errc::closed &&
         failure->why.find(word) != std::string::npos && !failure->fix.empty();
}

/// One user of each kind, on streams s, e and t.
struct users {
  scratch place;
  bus::session session = join(place);
  std::optional<bus::publisher> p, owner, other;
  std::optional<bus::subscriber> s, rest;
  std::optional<bus::consumer> worker;

  users() {
    must(session.add_stream(stream_of("s", {"s.>"})));
    must(session.add_stream(stream_of("e", {"e.>"})));
    must(session.add_stream(stream_of("t", {"t.>"})));
    bus::publisher_options exclusive;
    exclusive.mode = bus::publish_mode::exclusive;
    bus::consumer_options group;
    group.group = "g";
    group.stream = "s";
    p = must(session.publisher("s.a"));
    owner = must(session.publisher("e.a", exclusive));
    other = must(session.publisher("t.a"));
    s = must(session.subscribe("s.>"));
    rest = must(session.subscribe("t.>"));
    worker = must(session.consume("", group));
    send(*p, "before");
  }
  void remove(const std::string& what) { std::filesystem::remove_all(place.directory() + what); }
  static bool is_told(bus::publisher& who) {
    return eventually([&] { return who.publish("lost").status == bus::publish_status::closed; }) &&
           says(who.last_error(), "deleted");
  }
  bool is_working() {
    (void)drain(*rest);
    return bool(other->publish("alive")) && drain(*rest) == texts{"alive"};
  }
};

}  // namespace

TEST(DeletedFiles, OfAWholeBusAreToldToAll) {
  users all;
  all.remove("");
  for (auto* who : {&*all.p, &*all.owner, &*all.other})
    EXPECT_TRUE(users::is_told(*who)) << who->last_error().message();
  (void)drain(*all.s);
  EXPECT_FALSE(all.s->next(10s)) << "nothing will ever come: it does not wait";
  EXPECT_TRUE(says(all.s->failure(), "deleted"));
  EXPECT_FALSE(all.worker->next(10s));
  EXPECT_TRUE(says(all.worker->failure(), "deleted"));
  EXPECT_EQ(all.session.publisher("s.b").error().code, bus::errc::closed);
  EXPECT_EQ(all.session.subscribe("s.>").error().code, bus::errc::closed);
  EXPECT_EQ(all.session.streams().error().code, bus::errc::closed);
  auto anew = join(all.place);
  EXPECT_TRUE(must(anew.streams()).empty());
  { const bus::session old = std::move(all.session); }
  EXPECT_EQ(must(join(all.place).processes()).size(), 2u)
      << "the old session takes nothing of the new bus along";
}

TEST(DeletedFiles, ReplacedByAnotherBusAreToldToo) {
  users all;
  all.remove("");
  auto anew = join(all.place);
  must(anew.add_stream(stream_of("s", {"s.>"})));
  EXPECT_TRUE(users::is_told(*all.p));
  bus::subscriber_options from_the_start;
  from_the_start.start = bus::start::all();
  auto reader = must(anew.subscribe("s.>", from_the_start));
  EXPECT_EQ(drain(reader), texts{});
}

TEST(DeletedFiles, ASleepingSubscriberIsToldWithoutAnyPublisher) {
  users all;
  (void)drain(*all.s);
  all.remove("");
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(all.s->next(60s));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
  EXPECT_TRUE(says(all.s->failure(), "deleted"));
}

TEST(DeletedFiles, OfAStreamCloseThatStreamOnly) {
  for (const char* what : {"/streams/s", "/streams/s/lane-0", "/streams/s/lane-0.readers",
                           "/streams/s/subjects", "/streams/s/stream"}) {
    users all;
    all.remove(what);
    EXPECT_TRUE(users::is_told(*all.p)) << what << ": " << all.p->last_error().message();
    EXPECT_TRUE(eventually([&] {
      return drain(*all.s).empty() && says(all.s->failure(), "deleted");
    })) << what;
    EXPECT_FALSE(all.worker->next(10s)) << what;
    EXPECT_TRUE(all.worker->failure()) << what;
    EXPECT_TRUE(all.is_working()) << what;
    if (std::filesystem::exists(all.place.stream("s") + "/stream")) {
      auto later = join(all.place);
      EXPECT_FALSE(later.publisher("s.b")) << what;
      EXPECT_FALSE(later.subscribe("s.>")) << what << ": it would read nothing, for ever";
      must(later.remove_stream("s"));
    }
  }
}

TEST(DeletedFiles, OfAGroupCloseThatGroupOnly) {
  users all;
  all.remove("/streams/s/groups/g");
  EXPECT_TRUE(eventually([&] {
    (void)all.worker->next(10ms);
    return all.worker->failure().has_value();
  }));
  EXPECT_EQ(all.worker->failure()->code, bus::errc::closed);
  EXPECT_TRUE(all.p->publish("on"));
}

TEST(DeletedFiles, OfTheProcessItselfCloseItsSession) {
  for (const bool all_of_them : {false, true}) {
    users all;
    const auto id = must(all.session.processes()).front().id;
    all.remove(all_of_them ? "/processes" : "/processes/" + std::to_string(id));
    EXPECT_TRUE(users::is_told(*all.p));
    EXPECT_TRUE(users::is_told(*all.other));
    auto again = join(all.place);
    EXPECT_TRUE(again.publisher("s.b"));
  }
}

TEST(DeletedFiles, ThatAreStillThereCloseNothing) {
  users all;
  // An orderly removal is not mistaken for a deletion.
  must(all.session.remove_stream("s"));
  std::this_thread::sleep_for(2500ms);
  EXPECT_TRUE(all.is_working());
  EXPECT_TRUE(all.p->publish("to the default stream")) << all.p->last_error().message();
  EXPECT_FALSE(all.rest->failure());
}
