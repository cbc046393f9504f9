#pragma once
/// event_set: a timer and an epoll descriptor, so that one descriptor stands for a doorbell with a
/// bounded wait.

#include <chrono>

#include <bus/error.hpp>

#include "os/fd.hpp"

namespace bus::os {

result<fd> make_timer();
/// Once, after `after`; 0 disarms.
void set_timer(int timer, std::chrono::nanoseconds after) noexcept;
/// Readable when one of both is.
/// Errors: no_space, system
result<fd> make_event_set(int first, int second);

}  // namespace bus::os
