// hot_path: publishes or delivers a given number of 64-byte messages in one process, for measuring
// with an instruction counter. Two runs with different counts give the instructions per message.
//
//   hot_path publish|publish_to|publish_known|batch|poll_one|empty|deliver COUNT
//            [SUBJECTS [durable]]
//
// With `durable` the stream has a log: the bus of BUS_URL is used, and a busd must keep it.

#include <bus/bus.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

bus::stream_config hot_stream(bool durable) {
  bus::stream_config config;
  config.name = "hot";
  config.subjects = {"hot.>"};
  config.overflow = bus::overflow::block;
  config.ring_bytes = 64 << 20;
  config.max_message_bytes = 64 << 10;
  if (durable) config.storage = bus::storage_class::durable;
  return config;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string what = argv[1];
  const auto count = static_cast<std::uint64_t>(std::strtoull(argv[2], nullptr, 10));
  const auto subjects =
      static_cast<std::uint32_t>(argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 1);
  const bool durable = argc > 4 && std::string(argv[4]) == "durable";
  const std::string url = durable ? std::string() : "bus:///hot-path-" + std::to_string(::getpid());
  int status = 1;
  {
    auto session = bus::open(url);
    if (!session) return std::fprintf(stderr, "%s\n", session.error().message().c_str()), 1;
    if (auto added = session->add_stream(hot_stream(durable)); !added)
      return std::fprintf(stderr, "%s\n", added.error().message().c_str()), 1;
    bus::publisher_options how;
    how.mode = bus::publish_mode::exclusive;
    auto publisher = session->publisher("hot.s0", how);
    bus::subscriber_options reading;
    reading.wait = bus::wait_strategy::busy_spin;
    if (durable) reading.gate = false;
    auto subscriber = session->subscribe("hot.>", reading);
    if (!publisher || !subscriber) return 1;
    std::vector<std::string> names;
    for (std::uint32_t i = 0; i < subjects; ++i) names.push_back("hot.s" + std::to_string(i));
    const std::string payload(64, 'x');
    const std::span<const std::byte> bytes = std::as_bytes(std::span(payload));
    const std::vector<std::span<const std::byte>> batch(64, bytes);
    std::uint64_t sum = 0, done = 0;
    const std::uint64_t chunk = 128 * 1024;  // fits into the ring
    const auto take = [&](const bus::message& m) {
      sum += m.sequence() + static_cast<std::uint64_t>(m.payload()[0]);
    };
    bus::publisher& out = *publisher;
    if (what == "deliver") {
      if (count > chunk) return std::fprintf(stderr, "deliver: COUNT is too large\n"), 2;
      // Publishing costs the same for every count: only the number of polls differs.
      for (std::uint64_t i = 0; i < chunk; ++i) out.publish_to(names[i % names.size()], bytes);
      while (done < count) done += subscriber->poll(256, take);
    } else {
      // A separate loop for each, so that little of it is counted with the message.
      const auto repeat = [&](auto&& step) {
        for (std::uint64_t i = 0; i < count; ++i) step();
      };
      std::size_t at = 0;
      if (what == "publish") {
        repeat([&] { out.publish(bytes); });
      } else if (what == "publish_to") {
        repeat([&] {
          out.publish_to(names[at], bytes);
          if (++at == names.size()) at = 0;
        });
      } else if (what == "publish_known") {
        std::vector<bus::known_subject> known(names.begin(), names.end());
        repeat([&] {
          out.publish_to(known[at], bytes);
          if (++at == known.size()) at = 0;
        });
      } else if (what == "poll_one") {  // one message at a time, as in a conversation
        repeat([&] {
          out.publish(bytes);
          subscriber->poll(1, take);
        });
      } else if (what == "empty") {
        repeat([&] { subscriber->poll(1, take); });
      } else {
        for (std::uint64_t i = 0; i < count; i += 64) out.publish_batch(batch);
      }
    }
    status = sum == 1 ? 1 : 0;
  }
  if (!durable) (void)bus::remove_bus(url, true);
  return status;
}
