#pragma once
/// processes: the work of each process of the example. run_* are called in a forked process, and
/// open their own session.

#include <string>

#include "telemetry/run_state.hpp"

namespace telemetry {

/// Creates the stream, waits for the subscribers, publishes sweep after sweep until state.stop.
void run_publisher(const std::string& bus_name, run_state& state);

/// Reads `host.cpu.>` and `host.mem.>` at full speed; records the latency of each message.
void run_fast_subscriber(const std::string& bus_name, run_state& state);

/// Reads `host.>` with a pause after each message. Loses most of them, and knows exactly how many.
void run_slow_subscriber(const std::string& bus_name, run_state& state);

/// Measures the floors of this machine: half a round trip by cache line, and by futex wake.
void measure_floors(run_state& state);

/// Prints the report. False: the figures contradict each other.
bool report(const std::string& bus_name, const run_state& state);

}  // namespace telemetry
