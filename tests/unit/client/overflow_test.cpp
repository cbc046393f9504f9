#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "support/buses.hpp"

namespace {

using namespace test;
using bus::overflow;
using bus::publish_status;

// A subscriber of another thread that does not read: it holds back the publishers of a gated
// ring.
class holder {
 public:
  explicit holder(bus::session& session, const std::string& pattern = "s.>",
                  bus::subscriber_options options = {}) {
    std::thread([&] {
      subscriber_.emplace(must(session.subscribe(pattern, std::move(options))));
    }).join();
  }
  bus::subscriber& operator*() { return *subscriber_; }

 private:
  std::optional<bus::subscriber> subscriber_;
};

class Overflow : public testing::TestWithParam<bus::publish_mode> {
 protected:
  bus::publisher publisher(overflow policy, std::chrono::nanoseconds send_timeout = 60s) {
    bus::stream_config config = small_stream("s", policy);
    config.send_timeout = send_timeout;
    must(session.add_stream(config));
    bus::publisher_options options;
    options.mode = GetParam();
    return must(session.publisher("s.a", options));
  }
  bus::lane_info lane() { return must(session.stream("s")).lanes.at(0); }

  test::scratch scratch;
  bus::session session = join(scratch, "&name=slowpoke");
};

INSTANTIATE_TEST_SUITE_P(Modes, Overflow,
                         testing::Values(bus::publish_mode::shared, bus::publish_mode::exclusive),
                         [](const auto& mode) {
                           return mode.param == bus::publish_mode::shared ? "Shared" : "Exclusive";
                         });

TEST_P(Overflow, RejectRefusesAtOnceAndLosesNothing) {
  auto p = publisher(overflow::reject);
  auto s = must(session.subscribe("s.>"));
  bus::published refusal;
  const std::size_t sent = fill(p, 100, &refusal);
  EXPECT_EQ(refusal.status, publish_status::rejected);
  EXPECT_EQ(refusal.sequence, 0u);
  EXPECT_EQ(p.last_error().code, bus::errc::no_space);
  EXPECT_NE(p.last_error().why.find("slowpoke (pid " + std::to_string(::getpid()) + ")"),
            std::string::npos);
  EXPECT_TRUE(p.would_block(100));
  EXPECT_GT(sent, 300u);
  EXPECT_EQ(lane().rejected, 1u);
  EXPECT_EQ(drain(s).size(), sent);
  EXPECT_FALSE(p.would_block(100));
  EXPECT_EQ(send(p, "goes on"), sent + 1);
  EXPECT_EQ(s.stats().lost, 0u);
}

TEST_P(Overflow, DropNewDiscardsAndCounts) {
  auto p = publisher(overflow::drop_new);
  auto s = must(session.subscribe("s.>"));
  bus::published refusal;
  const std::size_t sent = fill(p, 100, &refusal);
  EXPECT_EQ(refusal.status, publish_status::dropped);
  EXPECT_EQ(p.publish(std::string(100, 'x')).status, publish_status::dropped);
  EXPECT_EQ(lane().dropped, 2u);
  EXPECT_EQ(drain(s).size(), sent);
  EXPECT_EQ(send(p, "goes on"), sent + 1) << "what was dropped took no sequence";
  EXPECT_EQ(drain(s), texts{"goes on"});
}

TEST_P(Overflow, DropOldestNeverWaitsAndTellsTheExactGap) {
  auto p = publisher(overflow::drop_oldest);
  std::vector<bus::gap> gaps;
  std::uint64_t next = 1;
  bus::subscriber_options options;
  options.on_gap = [&](const bus::gap& g) {
    EXPECT_EQ(g.first, next) << "reported between the messages around it";
    EXPECT_EQ(g.stream, "s");
    next = g.first + g.count;
    gaps.push_back(g);
  };
  auto s = must(session.subscribe("s.>", options));
  const auto read = [&] {
    while (s.poll(100, [&](const bus::message& m) {
      EXPECT_EQ(m.sequence(), next);
      EXPECT_EQ(m.text(), std::to_string(m.sequence()));
      next = m.sequence() + 1;
    }) != 0) {
    }
  };
  std::uint64_t last = 0;
  for (const int burst : {10, 3000, 20, 0, 5000, 1}) {
    for (int i = 0; i < burst; ++i) {
      ++last;
      ASSERT_EQ(send(p, std::to_string(last)), last);
    }
    read();
    EXPECT_EQ(next, last + 1) << "everything was delivered or reported";
  }
  EXPECT_EQ(gaps.size(), 2u);
  EXPECT_EQ(s.stats().gaps, 2u);
  EXPECT_EQ(s.stats().delivered + s.stats().lost, last);
  EXPECT_FALSE(p.would_block(1000));
}

// The exception reaches the caller of poll() and costs no message.
TEST_P(Overflow, WhatOnGapThrowsIsThrownToWhoeverPolls) {
  auto p = publisher(overflow::drop_oldest);
  bus::subscriber_options options;
  options.on_gap = [](const bus::gap& g) {
    throw std::runtime_error("lost " + std::to_string(g.count));
  };
  auto s = must(session.subscribe("s.>", options));
  std::uint64_t last = 0;
  for (int i = 0; i < 3000; ++i) last = send(p, "m");
  std::size_t delivered = 0;
  int thrown = 0;
  for (int i = 0; i < 10'000 && delivered + s.stats().lost < last; ++i) {
    try {
      delivered += s.poll(100, [](const bus::message&) {});
    } catch (const std::runtime_error& error) {
      ++thrown;
      EXPECT_EQ(std::string(error.what()), "lost " + std::to_string(s.stats().lost));
    }
  }
  EXPECT_EQ(thrown, 1);
  EXPECT_EQ(delivered + s.stats().lost, last);
  EXPECT_FALSE(s.failure());
}

TEST_P(Overflow, BlockNamesTheReaderWhenTheTimeIsUp) {
  auto p = publisher(overflow::block, 30ms);
  holder slow(session);
  bus::published refusal;
  const std::size_t sent = fill(p, 100, &refusal);
  EXPECT_EQ(refusal.status, publish_status::timed_out);
  const bus::error why = p.last_error();
  EXPECT_EQ(why.code, bus::errc::timed_out);
  EXPECT_NE(why.message().find("slowpoke (pid " + std::to_string(::getpid()) + ")"),
            std::string::npos)
      << why.message();
  EXPECT_NE(why.message().find("lags by"), std::string::npos) << why.message();
  EXPECT_NE(why.message().find("'s'"), std::string::npos) << why.message();
  EXPECT_FALSE(why.fix.empty());
  EXPECT_GE(lane().blocked, 1u);
  EXPECT_EQ(drain(*slow).size(), sent);
  send(p, "goes on");
}

TEST_P(Overflow, BlockUsesThePublishersOwnTimeout) {
  publisher(overflow::block, 60s);
  holder slow(session);
  bus::publisher_options impatient;
  impatient.mode = GetParam();
  impatient.send_timeout = 0ns;
  auto p = must(session.publisher("s.b", impatient));
  bus::published refusal;
  fill(p, 100, &refusal);
  EXPECT_EQ(refusal.status, publish_status::timed_out);
}

TEST_P(Overflow, BlockGoesOnWhenTheReaderMakesRoom) {
  auto p = publisher(overflow::block);
  holder slow(session);
  std::atomic<std::uint64_t> sent{0};
  constexpr std::uint64_t total = 5000;
  std::jthread worker([&] {
    for (std::uint64_t i = 1; i <= total; ++i) {
      if (!p.publish(std::to_string(i))) return;
      sent = i;
    }
  });
  ASSERT_TRUE(eventually([&] { return lane().blocked > 0; }));
  EXPECT_LT(sent, total);
  std::uint64_t next = 1;
  ASSERT_TRUE(eventually([&] {
    (*slow).poll(50, [&](const bus::message& m) {
      EXPECT_EQ(m.sequence(), next);
      EXPECT_EQ(m.text(), std::to_string(next++));
    });
    return next > total;
  }));
  EXPECT_EQ((*slow).stats().lost, 0u);
}

TEST_P(Overflow, BlockEndsWhenTheReaderLeaves) {
  auto p = publisher(overflow::block);
  auto slow = std::make_unique<holder>(session);
  std::atomic<bool> done{false};
  std::jthread worker([&] {
    for (int i = 0; i < 3000; ++i)
      if (!p.publish(std::string(100, 'x'))) return;
    done = true;
  });
  ASSERT_TRUE(eventually([&] { return lane().blocked > 0; }));
  EXPECT_FALSE(done);
  slow.reset();
  EXPECT_TRUE(eventually([&] { return done.load(); }));
}

TEST_P(Overflow, WaitingForOneselfIsCalledADeadlock) {
  auto p = publisher(overflow::block);
  auto own = must(session.subscribe("s.>"));
  bus::published refusal;
  const std::size_t sent = fill(p, 100, &refusal);
  EXPECT_EQ(refusal.status, publish_status::would_deadlock);
  EXPECT_EQ(p.last_error().code, bus::errc::would_deadlock);
  EXPECT_EQ(drain(own).size(), sent);
  send(p, "goes on");
}

TEST_P(Overflow, ASubscriberThatMovedToAnotherThreadIsNoDeadlock) {
  auto p = publisher(overflow::block);
  auto moved = must(session.subscribe("s.>"));  // created here, read in another thread
  std::atomic<bool> reading{false};
  std::atomic<std::size_t> received{0};
  constexpr std::size_t total = 3000;
  std::jthread worker([&](const std::stop_token& stop) {
    while (received < total && !stop.stop_requested()) {
      received += moved.poll(100, [](const bus::message&) {});
      reading = true;
      std::this_thread::sleep_for(2ms);
    }
  });
  ASSERT_TRUE(eventually([&] { return reading.load(); }));
  for (std::size_t i = 0; i < total; ++i) {
    const auto done = p.publish(std::string(100, 'x'));
    ASSERT_EQ(done.status, publish_status::ok)
        << bus::publish_status_name(done.status) << ": " << p.last_error().message();
  }
  EXPECT_TRUE(eventually([&] { return received == total; }));
}

TEST_P(Overflow, SubscribersWithoutAGateHoldNobodyBack) {
  auto p = publisher(overflow::block, 30ms);
  bus::subscriber_options options;
  options.gate = false;
  holder slow(session, "s.>", options);
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(p.publish(std::string(100, 'x'))) << i;
  const std::size_t got = drain(*slow).size();
  EXPECT_GT((*slow).stats().lost, 0u);
  EXPECT_EQ(got + (*slow).stats().lost, 3000u);
}

TEST_P(Overflow, BatchesAreRefusedWhole) {
  auto p = publisher(overflow::reject);
  auto s = must(session.subscribe("s.>"));
  const std::string text(1000, 'b');
  const std::vector<std::span<const std::byte>> batch(10, std::as_bytes(std::span(text)));
  std::size_t sent = 0;
  while (p.publish_batch(batch)) ++sent;
  EXPECT_GT(sent, 3u);
  EXPECT_EQ(drain(s).size(), sent * 10);
}

TEST(PublishStatus, HasAName) {
  EXPECT_STREQ(bus::publish_status_name(publish_status::timed_out), "timed_out");
  EXPECT_STREQ(bus::publish_status_name(publish_status::would_deadlock), "would_deadlock");
  EXPECT_STREQ(bus::publish_status_name(static_cast<publish_status>(200)), "unknown");
}

}  // namespace
