#pragma once
/// event_set: a timer and an epoll descriptor, so that one descriptor represents a doorbell with a
/// bounded wait.

#include <chrono>

#include <bus/error.hpp>

#include "os/fd.hpp"

namespace bus::os {

result<fd> make_timer();
/// The timer expires once, after `after`; 0 disarms it.
void set_timer(int timer, std::chrono::nanoseconds after) noexcept;
/// An epoll descriptor that is readable when either of the two is.
/// Errors: no_space, system
result<fd> make_event_set(int first, int second);

}  // namespace bus::os
