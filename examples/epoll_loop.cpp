/// epoll_loop: two subscribers and a timer in one epoll loop, in one thread, without busy polling.
///
/// The protocol: take all messages; arm() each subscriber; sleep in epoll_wait() only if every
/// arm() returned true; drain() each subscriber whose descriptor is readable; repeat.

#include "example.hpp"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <thread>

namespace {

using namespace std::chrono_literals;
using example::must;

constexpr int prices_total = 3000;
constexpr int orders_total = 300;
constexpr auto tick = 100ms;

/// The other process: publishes prices, and an order after every tenth price.
void publish(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  bus::publisher prices = must(session.publisher("prices.EURUSD"));
  bus::publisher orders = must(session.publisher("orders.new"));
  for (int i = 1; i <= prices_total; ++i) {
    must(prices.publish("1.0" + std::to_string(1000 + i % 100)), prices);
    if (i % (prices_total / orders_total) == 0) {
      must(orders.publish("buy " + std::to_string(i)), orders);
      std::this_thread::sleep_for(1ms);
    }
  }
}

class file_descriptor {
 public:
  file_descriptor(int number, const char* what) : number_(number) {
    if (number < 0) throw std::runtime_error(std::string("cannot create ") + what);
  }
  file_descriptor(const file_descriptor&) = delete;
  file_descriptor& operator=(const file_descriptor&) = delete;
  ~file_descriptor() { ::close(number_); }
  int number() const { return number_; }

 private:
  int number_;
};

void watch(int epoll, int descriptor, bus::subscriber* whose) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = whose;  // null: the timer
  if (::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) != 0)
    throw std::runtime_error("epoll_ctl failed");
}

void set_timer(int timer, std::chrono::nanoseconds every) {
  itimerspec times{};
  times.it_value.tv_nsec = times.it_interval.tv_nsec = every.count();
  ::timerfd_settime(timer, 0, &times, nullptr);
}

void loop(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  bus::subscriber_options options;
  options.start = bus::start::all();  // the publisher may have begun already
  std::array subscribers = {must(session.subscribe("prices.>", options)),
                            must(session.subscribe("orders.>", options))};
  std::array<int, 2> received = {0, 0};

  const file_descriptor epoll(::epoll_create1(EPOLL_CLOEXEC), "an epoll descriptor");
  const file_descriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
                              "a timer");
  set_timer(timer.number(), tick);
  watch(epoll.number(), timer.number(), nullptr);
  for (auto& subscriber : subscribers) watch(epoll.number(), must(subscriber.fd()), &subscriber);

  std::uint64_t ticks = 0, sleeps = 0, quiet_ticks = 0;
  while (received[0] < prices_total || received[1] < orders_total) {
    std::size_t taken = 0;
    for (std::size_t i = 0; i < subscribers.size(); ++i)
      taken += subscribers[i].poll(256, [&](const bus::message&) { ++received[i]; });
    if (taken != 0) {
      quiet_ticks = 0;
      continue;  // there may be more
    }
    bool may_sleep = true;
    for (auto& subscriber : subscribers) may_sleep &= subscriber.arm();
    if (may_sleep) ++sleeps;
    std::array<epoll_event, 3> events;
    const int ready =
        ::epoll_wait(epoll.number(), events.data(), events.size(), may_sleep ? -1 : 0);
    for (int i = 0; i < ready; ++i) {
      if (auto* subscriber = static_cast<bus::subscriber*>(events[i].data.ptr)) {
        subscriber->drain();
        continue;
      }
      std::uint64_t expired = 0;
      if (::read(timer.number(), &expired, sizeof(expired)) != sizeof(expired)) continue;
      ticks += expired;
      quiet_ticks += expired;
      std::printf("after %4llu ms: %d prices, %d orders\n",
                  static_cast<unsigned long long>(ticks * (tick / 1ms)), received[0], received[1]);
      if (quiet_ticks > 100) throw std::runtime_error("no message for 10 seconds");
    }
  }
  std::printf("received %d prices and %d orders; slept %llu times\n", received[0], received[1],
              static_cast<unsigned long long>(sleeps));
}

void epoll_loop() {
  const example::bus_of_this_run bus("epoll_loop");
  example::process publisher([&] { publish(bus.name()); });
  loop(bus.name());
  publisher.join("publisher");
}

}  // namespace

int main() { return example::run(epoll_loop); }
