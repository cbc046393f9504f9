#pragma once
/// bus_of_this_run: a bus for this process only, removed with everything in it at the end.

#include <unistd.h>

#include <bus/bus.hpp>

#include <string>

namespace bench {

struct bus_of_this_run {
  std::string url = "bus:///bench-" + std::to_string(getpid());
  bus_of_this_run() = default;
  bus_of_this_run(const bus_of_this_run&) = delete;
  bus_of_this_run& operator=(const bus_of_this_run&) = delete;
  ~bus_of_this_run() { (void)bus::remove_bus(url, true); }
};

}  // namespace bench
