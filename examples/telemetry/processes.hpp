#pragma once
/// processes: what each process of the example does. Each is called in a forked process and opens a
/// session of its own.

#include <string>

#include "telemetry/run_state.hpp"

namespace telemetry {

/// Makes the stream, waits for the subscribers, publishes sweep after sweep until state.stop.
void run_publisher(const std::string& bus_name, run_state& state);

/// `host.cpu.>` and `host.mem.>` as they come; notes how long each message was under way.
void run_fast_subscriber(const std::string& bus_name, run_state& state);

/// `host.>` with a pause after each message: it loses most of them, and knows exactly how many.
void run_slow_subscriber(const std::string& bus_name, run_state& state);

/// The floors of this machine: half a round trip across a cache line, and of a futex wake.
void measure_floors(run_state& state);

/// Prints what happened. False: the figures contradict each other.
bool report(const std::string& bus_name, const run_state& state);

}  // namespace telemetry
