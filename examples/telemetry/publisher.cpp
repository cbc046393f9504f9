#include <algorithm>
#include <chrono>
#include <string_view>
#include <thread>

#include "example.hpp"
#include "telemetry/kernel_figures.hpp"
#include "telemetry/processes.hpp"

namespace telemetry {

using example::must;

void run_publisher(const std::string& bus_name, run_state& state) {
  bus::session session = must(bus::open(bus_name));
  bus::stream_config config;
  config.name = stream_name;
  config.subjects = {"host.>"};
  // no subscriber, however slow, holds the publisher back
  config.overflow = bus::overflow::drop_oldest;
  config.ring_bytes = ring_bytes;
  config.max_message_bytes = 4096;
  must(session.add_stream(config));
  state.stream_ready = true;

  bus::publisher_options options;
  options.mode = bus::publish_mode::exclusive;  // the only publisher of this stream: no lock
  options.name = "figures of the kernel";
  bus::publisher publisher = must(session.publisher(end_subject, options));

  kernel_figures figures;
  const kernel_figures::sink publish = [&](std::string_view subject, std::string_view value) {
    must(publisher.publish_to(subject, value), publisher);
    ++state.published;
    state.published_cpu_mem += subject.starts_with("host.cpu.") || subject.starts_with("host.mem.");
  };

  if (!wait_for(state, [&] { return state.subscribed.load() == subscribers_total; })) return;
  // A new bus measures the rate of its clock in its first 10 ms; message::age() waits for that.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto begin = std::chrono::steady_clock::now();
  auto next = begin;
  while (state.stop.load() == 0) {
    figures.sweep(publish);
    ++state.sweeps;
    next = std::max(next + sweep_period, std::chrono::steady_clock::now());
    std::this_thread::sleep_until(next);
  }
  state.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  must(publisher.publish("that was all"), publisher);
  ++state.published;
  state.all_published = true;
}

}  // namespace telemetry
