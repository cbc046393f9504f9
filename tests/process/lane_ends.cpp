// The beginning and the end of a lane: what is published before a subscriber has come to it, and
// what is published while it is removed. The first test also seeds the mistake that it must
// catch.

#include <bus/bus.hpp>

#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "open_bus.hpp"
#include "sync/seeded_fault.hpp"

namespace {

using namespace std::chrono_literals;
using bus::sync::fault;
using test::open_bus;

bus::stream_config config_of(bus::lane_mode mode, bus::overflow policy = bus::overflow::block) {
  bus::stream_config config;
  config.name = "orders";
  config.subjects = {"orders.>"};
  config.overflow = policy;
  config.mode = mode;
  config.lanes = mode == bus::lane_mode::fixed ? 1 : 16;
  config.ring_bytes = 64 << 10;
  config.max_message_bytes = 4096;
  return config;
}

struct count_of {
  std::uint64_t messages = 0, lost = 0;
};

class LaneEnds : public ::testing::Test {
 protected:
  void SetUp() override { ::alarm(100); }
  void TearDown() override {
    ::alarm(0);
    bus::sync::seeded = fault::none;
  }

  // Publishes until it is refused, or about six rings. Returns how many messages went in.
  static std::uint64_t fill(bus::publisher& out, bus::published& last) {
    const std::string payload(100, 'x');
    for (std::uint64_t count = 0; count < 2048; ++count)
      if (!(last = out.publish(payload))) return count;
    return 2048;
  }
  bus::subscriber subscribe(bus::session& at, const char* pattern) {
    bus::subscriber_options options;
    options.on_gap = [this](const bus::gap& gap) { got_.lost += gap.count; };
    auto made = at.subscribe(pattern, std::move(options));
    if (!made) throw std::runtime_error(made.error().message());
    return std::move(*made);
  }
  count_of read(bus::subscriber& from) {
    while (from.poll(100, [&](const bus::message&) { ++got_.messages; }) != 0) {
    }
    return got_;
  }

  test::scratch place_;
  count_of got_;
};

// A subscriber that is slow to find a new lane gets all of it.
TEST_F(LaneEnds, ANewLaneIsNotOverwrittenBeforeItsSubscribersHaveCome) {
  for (const fault seeded : {fault::none, fault::newcomers_forgotten}) {
    bus::sync::seeded = seeded;
    for (const bool is_new_stream : {false, true}) {
      test::scratch place;
      got_ = {};
      auto session = open_bus(place), others = open_bus(place);
      const auto config = config_of(bus::lane_mode::per_publisher);
      if (!is_new_stream) {
        ASSERT_TRUE(session.add_stream(config));
      }
      auto in = subscribe(session, "orders.>");
      if (is_new_stream) {
        ASSERT_TRUE(session.add_stream(config));
      }
      std::uint64_t sent = 0;
      bus::published last;
      std::thread([&] {
        bus::publisher_options options;
        options.mode = bus::publish_mode::exclusive;
        options.send_timeout = 50ms;
        std::vector<bus::publisher> out;
        for (int lane = 0; lane < 2; ++lane) {
          out.push_back(std::move(*others.publisher("orders.x", options)));
          sent += fill(out.back(), last);
        }
      }).join();
      const auto got = read(in);
      EXPECT_EQ(got.messages + got.lost, sent);
      if (seeded == fault::none) {
        EXPECT_EQ(last.status, bus::publish_status::timed_out);
        EXPECT_EQ(got.lost, 0u) << (is_new_stream ? "new stream" : "new lane");
        EXPECT_GT(sent, 600u);
      } else {
        EXPECT_GT(got.lost, 0u) << "the test does not notice";
      }
    }
  }
}

TEST_F(LaneEnds, ANewLaneThatRejectsSaysWhoHasNotCome) {
  auto session = open_bus(place_), others = open_bus(place_);
  auto in = subscribe(session, "orders.>");
  ASSERT_TRUE(session.add_stream(config_of(bus::lane_mode::fixed, bus::overflow::reject)));
  auto out = others.publisher("orders.x");
  ASSERT_TRUE(out);
  bus::published last;
  const std::uint64_t sent = fill(*out, last);
  EXPECT_EQ(last.status, bus::publish_status::rejected);
  EXPECT_NE(out->last_error().message().find("has not attached to it yet"), std::string::npos)
      << out->last_error().message();
  EXPECT_EQ(read(in).messages, sent);
  EXPECT_TRUE(out->publish("goes on"));
}

TEST_F(LaneEnds, APublisherIsToldThatItWaitsForASubscriberOfItsOwnThread) {
  auto session = open_bus(place_);
  auto in = subscribe(session, "orders.>");
  ASSERT_TRUE(session.add_stream(config_of(bus::lane_mode::fixed)));
  auto out = session.publisher("orders.x");
  ASSERT_TRUE(out);
  bus::published last;
  (void)fill(*out, last);
  EXPECT_EQ(last.status, bus::publish_status::would_deadlock);
}

// Publishers wait neither for subscribers to other subjects or lanes nor for those that have
// left.
TEST_F(LaneEnds, OnlyThoseWhoAreInterestedAreWaitedFor) {
  auto session = open_bus(place_), others = open_bus(place_);
  auto elsewhere = subscribe(session, "prices.>");
  auto one_lane = session.subscribe("orders.>", [] {
    bus::subscriber_options options;
    options.lane = 7;
    return options;
  }());
  ASSERT_TRUE(one_lane);
  { auto gone = subscribe(session, "orders.>"); }
  ASSERT_TRUE(session.add_stream(config_of(bus::lane_mode::fixed)));
  auto out = others.publisher("orders.x");
  ASSERT_TRUE(out);
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(out->publish(std::string(100, 'x'))) << i;
}

// Every message that was published with ok arrives or is reported as lost.
TEST_F(LaneEnds, NothingIsLostUntoldWhenAStreamIsRemovedAndMadeAgain) {
  for (const auto mode : {bus::publish_mode::shared, bus::publish_mode::exclusive}) {
    test::scratch place;
    got_ = {};
    auto session = open_bus(place), others = open_bus(place), operators = open_bus(place);
    ASSERT_TRUE(session.add_stream(config_of(bus::lane_mode::fixed)));
    auto in = subscribe(session, "orders.>");
    std::atomic<bool> removing{true}, publishing{true};
    std::atomic<std::uint64_t> sent{0}, refused{0};
    std::thread writer([&] {
      bus::publisher_options options;
      options.mode = mode;
      options.send_timeout = 5s;
      auto out = others.publisher("orders.x", options);
      const std::string payload(100, 'x');
      while (removing) {
        if (!out) {
          out = others.publisher("orders.x", options);
          continue;
        }
        ++(out->publish(payload) ? sent : refused);
      }
      publishing = false;
    });
    std::thread keeper([&] {
      for (int round = 0; round < 150; ++round) {
        EXPECT_TRUE(operators.remove_stream("orders"));
        // other processes need the lock of changes, too
        if (round % 2 == 0) std::this_thread::sleep_for(300us);
        auto added = operators.add_stream(config_of(bus::lane_mode::fixed));
        EXPECT_TRUE(added) << added.error().message();
      }
      removing = false;
    });
    while (publishing) (void)read(in);
    keeper.join();
    writer.join();
    const auto got = read(in);
    EXPECT_EQ(got.messages + got.lost, sent.load()) << refused.load() << " were refused";
    EXPECT_GT(sent.load(), 100u);
  }
}

}  // namespace
