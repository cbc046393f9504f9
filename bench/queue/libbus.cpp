#include <bus/bus.hpp>

#include "drained.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t ring_bytes = 32 << 20;  // for all waiting messages, 128 bytes each

template <class T>
T must(bus::result<T>&& got) {
  if (!got) fail(got.error().message());
  return std::move(*got);
}

// No server: the processes share memory. The process that ran the others removes the bus.
struct libbus_system {
  const std::string url = "bus:///bench-" + std::to_string(::getpid());
  libbus_system() = default;
  ~libbus_system() { (void)bus::remove_bus(url, true); }
  libbus_system(const libbus_system&) = delete;
  libbus_system& operator=(const libbus_system&) = delete;

  class filler {
   public:
    filler(const libbus_system& system, const std::string& name)
        : session_(must(bus::open(system.url))), out_(publisher(session_, name)) {}

    void fill(const std::string& payload, std::uint64_t count) {
      for (std::uint64_t i = 0; i < count; ++i)
        if (!out_.publish(payload)) fail(out_.last_error().message());
    }

   private:
    static bus::publisher publisher(bus::session& session, const std::string& name) {
      bus::stream_config stream;
      stream.name = name;
      stream.subjects = {name};
      stream.max_message_bytes = 64 << 10;
      stream.ring_bytes = ring_bytes;
      if (const auto added = session.add_stream(stream); !added) fail(added.error().message());
      bus::group_config group;
      group.name = "workers";
      group.stream = name;
      if (const auto added = session.add_group(group); !added) fail(added.error().message());
      bus::publisher_options exclusive;
      exclusive.mode = bus::publish_mode::exclusive;
      return must(session.publisher(name, exclusive));
    }

    bus::session session_;
    bus::publisher out_;
  };

  class worker {
   public:
    worker(const libbus_system& system, const std::string& name, std::uint32_t batch)
        : session_(must(bus::open(system.url))), in_(consumer(session_, name)), batch_(batch) {}

    std::uint64_t take(std::uint64_t& sum) {
      std::uint64_t settled = 0;
      if (batch_ == 1) {
        if (auto one = in_.next(0s)) settled += done(*one, sum);
      } else {
        auto got = in_.fetch(batch_, 0s);
        for (auto& one : got) settled += done(one, sum);
      }
      if (in_.failure()) fail(in_.failure()->message());
      return settled;
    }
    void finish() {}  // messages are settled when ack() returns

   private:
    static bus::consumer consumer(bus::session& session, const std::string& name) {
      bus::consumer_options joining{.group = "workers", .stream = name};
      joining.wait = bus::wait_strategy::busy_spin;
      return must(session.consume("", joining));
    }
    static std::uint64_t done(bus::lease& one, std::uint64_t& sum) {
      sum += detail::sum_of_bytes(one.payload().data(), one.payload().size());
      return one.ack() == bus::settle_result::ok ? 1 : 0;
    }

    bus::session session_;
    bus::consumer in_;
    const std::uint32_t batch_;
  };
};

}  // namespace

queue_peer libbus_queue() {
  return {"libbus", "libbus group",
          "memory stream, ring of 32 MiB, group with its defaults; next() or fetch(64), ack(); "
          "left to the scheduler",
          "", [](const queue_question& asked) { return run_queue<libbus_system>(asked, false); }};
}

}  // namespace bench
