#include <bus/bus.hpp>

#include "between.hpp"
#include "floor.hpp"
#include "peers.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;

template <class T>
T value_of(bus::result<T> made) {
  if (!made) fail(made.error().message());
  return std::move(*made);
}

class bus_end {
 public:
  bus_end(const std::string& url, const plan& asked, bool near)
      : session_(value_of(bus::open(url))),
        out_(publisher(near)),
        in_(subscriber(asked, near)),
        messages_max_(asked.kind == what::round_trip ? 1 : 256),
        sleeps_(asked.wait == waiting::block || asked.kind == what::stream) {}

  void send(const char* payload, std::uint32_t bytes) {
    const bus::published done = out_.publish(std::string_view(payload, bytes));
    if (!done) [[unlikely]]
      fail(out_.last_error().message());
  }

  std::uint64_t receive(std::uint64_t& sum) {
    const auto read = [&](const bus::message& m) { sum += sum_of(m.payload().data(), m.size()); };
    const std::size_t got = in_.poll(messages_max_, read);
    if (got == 0 && sleeps_) in_.wait(10ms);
    return got;
  }

 private:
  bus::publisher publisher(bool near) {
    bus::publisher_options how;
    how.mode = bus::publish_mode::exclusive;
    return value_of(session_.publisher(near ? "ping" : "pong", how));
  }
  bus::subscriber subscriber(const plan& asked, bool near) {
    bus::subscriber_options how;
    // A reader of a stream that keeps up checks less often (docs/performance.md).
    how.wait = asked.wait == waiting::block     ? bus::wait_strategy::block
               : asked.kind == what::round_trip ? bus::wait_strategy::busy_spin
                                                : bus::wait_strategy::spin_pause;
    return value_of(session_.subscribe(near ? "pong" : "ping", how));
  }

  bus::session session_;
  bus::publisher out_;
  bus::subscriber in_;
  std::size_t messages_max_;  // in a conversation there is no second message to check for
  bool sleeps_;
};

class bus_channel {
 public:
  explicit bus_channel(const plan& asked)
      : plan_(asked), url_("bus:///bench-peers-" + std::to_string(getpid())) {}
  ~bus_channel() { (void)bus::remove_bus(url_, true); }
  bus_channel(const bus_channel&) = delete;
  bus_channel& operator=(const bus_channel&) = delete;

  bus_end open(bool near) {
    {
      bus::session session = value_of(bus::open(url_));
      for (const char* name : {"ping", "pong"})
        if (auto added = session.add_stream(ring(name)); !added) fail(added.error().message());
    }
    return {url_, plan_, near};
  }

 private:
  bus::stream_config ring(const char* name) const {
    bus::stream_config config;
    config.name = name;
    config.subjects = {name};
    config.overflow = bus::overflow::block;
    config.max_message_bytes = std::max<std::uint32_t>(plan_.bytes, 64 * 1024);
    // As the floor that is measured with it.
    config.ring_bytes = minimal_ring::capacity_for(plan_.bytes);
    while (config.ring_bytes < 4 * (config.max_message_bytes + 4096)) config.ring_bytes *= 2;
    return config;
  }

  plan plan_;
  std::string url_;
};

}  // namespace

peer libbus_peer() {
  return {"libbus", "libbus", "", [](const plan&) { return true; }, run_between<bus_channel>};
}

}  // namespace bench
