#include <bus/replay.hpp>

#include <gtest/gtest.h>

#include <thread>

#include "support/buses.hpp"

namespace bus {
namespace {

using namespace std::chrono_literals;

stream_config stream_named(const std::string& name) {
  stream_config config;
  config.name = name;
  config.subjects = {name + ".>"};
  config.ring_bytes = 64 << 10;
  config.max_message_bytes = 4096;
  config.overflow = overflow::drop_oldest;
  return config;
}

TEST(Replay, MergesStreamsInTheOrderOfTime) {
  ::test::scratch here;
  auto session = bus::open(here.url("t", ""));
  ASSERT_TRUE(session);
  for (const char* name : {"one", "two", "three"})
    ASSERT_TRUE(session->add_stream(stream_named(name)));
  auto one = session->publisher("one.x"), two = session->publisher("two.x"),
       three = session->publisher("three.x");
  ASSERT_TRUE(one && two && three);
  std::string expected;
  for (int i = 0; i < 60; ++i) {
    publisher& out = i % 3 == 0 ? *one : i % 7 == 0 ? *two : *three;
    ASSERT_TRUE(out.publish(std::to_string(i)));
    expected += std::to_string(i) + " ";
    std::this_thread::sleep_for(200us);  // so that stamps differ, whatever the counter's step
  }
  auto all = replay::open(*session, {});
  ASSERT_TRUE(all) << all.error().message();
  ASSERT_TRUE(one->publish("after the opening"));
  std::string got;
  while (auto m = all->next()) got += std::string(m->text()) + " ";
  EXPECT_EQ(got, expected);

  replay_options only;
  only.streams = {"two"};
  auto some = replay::open(*session, only);
  ASSERT_TRUE(some);
  while (auto m = some->next()) EXPECT_EQ(m->stream(), "two");
}

TEST(Replay, KeepsTheDistancesOfTime) {
  ::test::scratch here;
  auto session = bus::open(here.url("t", ""));
  ASSERT_TRUE(session);
  ASSERT_TRUE(session->add_stream(stream_named("s")));
  auto out = session->publisher("s.x");
  ASSERT_TRUE(out);
  const auto first = std::chrono::steady_clock::now();
  ASSERT_TRUE(out->publish("1"));
  std::this_thread::sleep_for(60ms);
  ASSERT_TRUE(out->publish("2"));
  const auto apart = std::chrono::steady_clock::now() - first;
  replay_options how;
  how.speed = 2;
  auto again = replay::open(*session, how);
  ASSERT_TRUE(again);
  ASSERT_TRUE(again->next());
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(again->next());
  EXPECT_GE(std::chrono::steady_clock::now() - begin,
            std::min<std::chrono::nanoseconds>(apart, 60ms) / 2 - 5ms);
  EXPECT_FALSE(again->next());
}

TEST(Replay, RefusesWhatCannotBeMeant) {
  ::test::scratch here;
  auto session = bus::open(here.url("t", ""));
  ASSERT_TRUE(session);
  replay_options how;
  how.streams = {"none"};
  EXPECT_EQ(replay::open(*session, how).error().code, errc::not_found);
  how = {};
  how.speed = -1;
  EXPECT_EQ(replay::open(*session, how).error().code, errc::invalid_argument);
  how = {};
  how.longest_pause = -1ns;
  EXPECT_EQ(replay::open(*session, how).error().code, errc::invalid_argument);
}

TEST(Replay, PausesNoLongerThanItIsToldTo) {
  ::test::scratch here;
  auto session = bus::open(here.url("t", ""));
  ASSERT_TRUE(session);
  ASSERT_TRUE(session->add_stream(stream_named("s")));
  auto out = session->publisher("s.x");
  ASSERT_TRUE(out);
  ASSERT_TRUE(out->publish("1"));
  std::this_thread::sleep_for(50ms);
  ASSERT_TRUE(out->publish("2"));
  replay_options how;
  how.longest_pause = 20ms;
  for (const double speed : {1e-300, 1e-6}) {
    how.speed = speed;
    auto again = replay::open(*session, how);
    ASSERT_TRUE(again);
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(again->next());
    ASSERT_TRUE(again->next());
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 15ms);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
    EXPECT_FALSE(again->next());
  }
}

}  // namespace
}  // namespace bus
