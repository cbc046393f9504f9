#include "os/event_set.hpp"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <cerrno>

#include "os/failure.hpp"

namespace bus::os {

result<fd> make_timer() {
  fd made(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!made) return failure(errno, "cannot create a timer");
  return made;
}

void set_timer(int timer, std::chrono::nanoseconds after) noexcept {
  itimerspec when{};
  when.it_value.tv_sec = static_cast<time_t>(after.count() / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(after.count() % 1'000'000'000);
  ::timerfd_settime(timer, 0, &when, nullptr);
}

result<fd> make_event_set(int first, int second) {
  fd made(::epoll_create1(EPOLL_CLOEXEC));
  if (!made) return failure(errno, "cannot create an event descriptor");
  for (const int member : {first, second}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = member;
    if (::epoll_ctl(made.get(), EPOLL_CTL_ADD, member, &event) != 0)
      return failure(errno, "cannot watch a descriptor");
  }
  return made;
}

}  // namespace bus::os
