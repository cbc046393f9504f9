// A reader that its publisher cannot see, because no descriptors are left: publish() keeps its
// deadline, and succeeds again when the reader has exited.

#include <bus/bus.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "scratch.hpp"

namespace {

using namespace std::chrono_literals;

class UnseenReader : public ::testing::TestWithParam<bus::publish_mode> {};

INSTANTIATE_TEST_SUITE_P(Modes, UnseenReader,
                         ::testing::Values(bus::publish_mode::shared, bus::publish_mode::exclusive),
                         [](const auto& with) {
                           return with.param == bus::publish_mode::shared ? std::string("Shared")
                                                                          : "Exclusive";
                         });

TEST_P(UnseenReader, DoesNotHoldAPublisherBeyondItsDeadline) {
  const test::scratch place;
  auto session = bus::open(place.url());
  bus::stream_config config;
  config.name = "s";
  config.subjects = {"s.>"};
  config.overflow = bus::overflow::block;
  config.ring_bytes = 64 << 10;
  config.max_message_bytes = 1024;
  ASSERT_TRUE(session && session->add_stream(config));
  struct steps {
    std::atomic<int> ready{0}, attached{0}, gone{0};
  };
  test::shared_value<steps> at;
  enum : int { ok, no_publisher = 10, did_not_fill, wrong_status, late, does_not_go_on };
  test::child publishing([&]() -> int {
    ::alarm(60);  // if it never returns, this signal reports it
    auto own = bus::open(place.url());
    bus::publisher_options options;
    options.mode = GetParam();
    options.send_timeout = 200ms;
    auto p = own->publisher("s.a", options);
    if (!p || !p->publish("first")) return no_publisher;
    ::rlimit limit{64, 64};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    std::vector<int> files;
    for (int file; (file = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) files.push_back(file);
    at->ready = 1;
    while (at->attached == 0) ::usleep(1000);
    bus::published last;
    std::chrono::nanoseconds took{};
    for (int i = 0; i < 5000; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      last = p->publish(std::string(500, 'x'));
      took = std::chrono::steady_clock::now() - begin;
      if (!last) break;
    }
    if (last) return did_not_fill;
    if (last.status != bus::publish_status::timed_out) return wrong_status;
    if (took > 5s) return late;
    at->ready = 2;
    while (at->gone == 0) ::usleep(1000);
    for (int i = 0; i < 100; ++i)  // the dead reader is removed though its file cannot be opened
      if (p->publish(std::string(500, 'y'))) return ok;
    return does_not_go_on;
  });
  while (at->ready < 1) std::this_thread::sleep_for(1ms);
  {
    test::child reading([&] {
      auto own = bus::open(place.url());
      auto subscriber = own->subscribe("s.>");  // it never polls
      at->attached = subscriber ? 1 : 0;
      ::pause();
      return 0;
    });
    while (at->ready < 2) {
      std::this_thread::sleep_for(5ms);
      ::siginfo_t ended{};  // or the publisher ended early
      if (::waitid(P_PID, static_cast<id_t>(publishing.pid()), &ended,
                   WEXITED | WNOHANG | WNOWAIT) != 0 ||
          ended.si_pid != 0)
        break;
    }
    reading.kill();
    (void)reading.wait();
  }
  at->gone = 1;
  const int status = publishing.wait();
  ASSERT_TRUE(WIFEXITED(status)) << "ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), ok);
}

}  // namespace
