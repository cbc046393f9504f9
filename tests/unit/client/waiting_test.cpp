#include <gtest/gtest.h>

#include <poll.h>
#include <sys/epoll.h>

#include <atomic>
#include <thread>

#include "support/buses.hpp"

namespace {

using namespace test;

class Waiting : public testing::TestWithParam<bus::wait_strategy> {
 protected:
  bus::subscriber subscribe(std::string_view pattern = "a") {
    bus::subscriber_options options;
    options.wait = GetParam();
    return must(session.subscribe(pattern, options));
  }
  test::scratch scratch;
  bus::session session = join(scratch);
};

std::string strategy_name(const testing::TestParamInfo<bus::wait_strategy>& strategy) {
  switch (strategy.param) {
    case bus::wait_strategy::busy_spin: return "BusySpin";
    case bus::wait_strategy::spin_pause: return "SpinPause";
    case bus::wait_strategy::adaptive: return "Adaptive";
    default: return "Block";
  }
}

INSTANTIATE_TEST_SUITE_P(Strategies, Waiting,
                         testing::Values(bus::wait_strategy::busy_spin,
                                         bus::wait_strategy::spin_pause,
                                         bus::wait_strategy::adaptive, bus::wait_strategy::block),
                         strategy_name);

TEST_P(Waiting, EndsWithTheMessage) {
  auto p = must(session.publisher("a"));
  auto s = subscribe();
  std::jthread writer([&] {
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(2ms);
      send(p, std::to_string(i));
    }
  });
  for (int i = 0; i < 20; ++i) {
    const auto m = s.next(30s);
    ASSERT_TRUE(m);
    EXPECT_EQ(m->text(), std::to_string(i));
  }
}

TEST_P(Waiting, EndsAtItsDeadline) {
  auto s = subscribe();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(s.next(20ms));
  EXPECT_FALSE(s.wait(20ms));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 40ms);
  EXPECT_FALSE(s.next(0ns));
  EXPECT_FALSE(s.next(-1s));
}

TEST_P(Waiting, EndsWithStopFromAnotherThread) {
  auto s = subscribe();
  std::jthread stopper([&] {
    std::this_thread::sleep_for(20ms);
    s.stop();
  });
  EXPECT_FALSE(s.next(1h));
  EXPECT_TRUE(s.stopped());
}

TEST_P(Waiting, WakesForAStreamThatIsMadeMeanwhile) {
  auto s = subscribe("later.>");
  std::jthread maker([&] {
    std::this_thread::sleep_for(20ms);
    must(session.add_stream(stream_of("later", {"later.>"})));
    auto p = must(session.publisher("later.a"));
    send(p, "made later");
  });
  const auto m = s.next(30s);
  ASSERT_TRUE(m);
  EXPECT_EQ(m->text(), "made later");
  EXPECT_EQ(m->stream(), "later");
}

TEST_P(Waiting, WatchesSeveralStreamsAtOnce) {
  must(session.add_stream(stream_of("x", {"x.>"})));
  must(session.add_stream(stream_of("y", {"y.>"})));
  auto s = subscribe("*.a");
  auto x = must(session.publisher("x.a")), y = must(session.publisher("y.a"));
  for (int i = 0; i < 10; ++i) {
    std::jthread writer([&] {
      std::this_thread::sleep_for(1ms);
      send(i % 2 == 0 ? x : y, std::to_string(i));
    });
    const auto m = s.next(30s);
    ASSERT_TRUE(m);
    EXPECT_EQ(m->text(), std::to_string(i));
  }
}

class Descriptor : public testing::Test {
 protected:
  bool readable(int fd, int wait_ms) {
    pollfd watched{fd, POLLIN, 0};
    return ::poll(&watched, 1, wait_ms) == 1;
  }
  test::scratch scratch;
  bus::session session = join(scratch);
};

TEST_F(Descriptor, ArmsOnlyWhenThereIsNothingToRead) {
  auto p = must(session.publisher("a"));
  auto s = must(session.subscribe("a"));
  EXPECT_FALSE(s.arm()) << "there is no descriptor yet";
  const int fd = must(s.fd());
  EXPECT_EQ(must(s.fd()), fd) << "always the same";
  EXPECT_TRUE(s.arm());
  s.drain();
  send(p, "x");
  EXPECT_FALSE(s.arm()) << "a message is there: poll first";
  EXPECT_EQ(drain(s), texts{"x"});
  EXPECT_TRUE(s.arm());
}

TEST_F(Descriptor, BecomesReadableByAMessage) {
  auto p = must(session.publisher("a"));
  auto s = must(session.subscribe("a"));
  const int fd = must(s.fd());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(s.arm());
    send(p, std::to_string(i));
    ASSERT_TRUE(readable(fd, 30'000)) << i;
    s.drain();
    ASSERT_EQ(drain(s), texts{std::to_string(i)});
  }
}

TEST_F(Descriptor, BecomesReadableBySoonWithoutAnyMessage) {
  auto s = must(session.subscribe("a"));
  const int fd = must(s.fd());
  ASSERT_TRUE(s.arm());
  EXPECT_TRUE(readable(fd, 30'000)) << "a lost wake-up is a delay, never a hang";
  s.drain();
  EXPECT_FALSE(readable(fd, 0)) << "drained";
}

TEST_F(Descriptor, DrivesAnEpollLoopOverSeveralSubscribers) {
  must(session.add_stream(stream_of("x", {"x.>"})));
  auto one = must(session.subscribe("x.>")), two = must(session.subscribe("y.>"));
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  ASSERT_GE(epoll, 0);
  for (auto* s : {&one, &two}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = s;
    ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, must(s->fd()), &event), 0);
  }
  constexpr std::size_t total = 500;
  std::jthread writer([&] {
    auto x = must(session.publisher("x.a")), y = must(session.publisher("y.a"));
    for (std::size_t i = 0; i < total; ++i) {
      send(i % 3 == 0 ? y : x, "m");
      if (i % 16 == 0) std::this_thread::sleep_for(1ms);
    }
  });
  std::size_t received = 0;
  const auto empty = [&](bus::subscriber& s) {
    do {
      received += drain(s).size();
    } while (!s.arm());
  };
  empty(one);
  empty(two);
  while (received < total) {
    epoll_event events[4];
    const int count = ::epoll_wait(epoll, events, 4, 30'000);
    ASSERT_GT(count, 0);
    for (int i = 0; i < count; ++i) {
      auto& s = *static_cast<bus::subscriber*>(events[i].data.ptr);
      s.drain();
      empty(s);
    }
  }
  EXPECT_EQ(received, total);
  ::close(epoll);
}

TEST_F(Descriptor, LeavesNoDoorbellBehind) {
  const std::string processes = scratch.directory() + "/processes";
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator(processes), {});
  };
  const auto before = files();
  {
    auto s = must(session.subscribe("a"));
    must(s.fd());
    EXPECT_EQ(files(), before + 1);
  }
  EXPECT_EQ(files(), before);
}

class ManySleepers : public testing::Test {
 protected:
  test::scratch scratch;
  bus::session session = join(scratch);
};

// More sleepers than one publisher wakes: those that it wakes wake the others, long before each
// of them polls by itself.
TEST_F(ManySleepers, AreAllWoken) {
  constexpr int readers = 40, rounds = 30;
  auto p = must(session.publisher("a"));
  std::atomic<int> ready{0}, got{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < readers; ++i)
    threads.emplace_back([&] {
      bus::subscriber_options options;
      options.wait = bus::wait_strategy::block;
      auto s = must(session.subscribe("a", options));
      ++ready;
      for (int round = 0; round < rounds; ++round)
        if (s.next(30s)) ++got;
    });
  while (ready != readers) std::this_thread::sleep_for(1ms);
  for (int round = 1; round <= rounds; ++round) {
    std::this_thread::sleep_for(3ms);  // they sleep again
    send(p, "m");
  }
  threads.clear();
  EXPECT_EQ(got, readers * rounds);
}

}  // namespace
