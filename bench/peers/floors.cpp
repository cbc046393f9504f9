#include "floor.hpp"

#include "between.hpp"
#include "peers.hpp"

namespace bench {

namespace {

// The floors fork their far side themselves.
outcome alone(const plan& asked, const std::function<void(board&)>& work) {
  return run_parts(patience_s(asked), {{asked.near_core, work}});
}

std::uint64_t trips_in(const plan& asked, double guess_ns) {
  return static_cast<std::uint64_t>(std::max(400.0, asked.seconds * 1e9 / guess_ns));
}

}  // namespace

peer cache_line_floor() {
  peer p{"cache_line", "floor: one cache line", "", {}, {}};
  p.takes = [](const plan& asked) {
    return asked.kind == what::round_trip && asked.wait == waiting::spin && asked.bytes == 64 &&
           !asked.same_core();
  };
  p.run = [](const plan& asked) {
    return alone(asked, [asked](board& shared) {
      samples measured = line_round_trip(asked.near_core, asked.far_core, trips_in(asked, 300));
      shared.take(measured);
    });
  };
  return p;
}

peer futex_floor() {
  peer p{"futex", "floor: raw futex", "", {}, {}};
  p.takes = [](const plan& asked) {
    return asked.kind == what::round_trip && asked.wait == waiting::block && asked.bytes == 64;
  };
  p.run = [](const plan& asked) {
    return alone(asked, [asked](board& shared) {
      const std::uint64_t trips = trips_in(asked, asked.same_core() ? 3e3 : 100e3);
      samples measured = futex_round_trip(asked.near_core, asked.far_core, trips);
      shared.take(measured);
    });
  };
  return p;
}

peer minimal_ring_floor() {
  peer p{"minimal_ring", "floor: minimal ring", "", {}, {}};
  p.takes = [](const plan& asked) { return asked.wait == waiting::spin; };
  p.run = [](const plan& asked) {
    return alone(asked, [asked](board& shared) {
      if (asked.kind == what::stream) {
        shared.messages_per_s =
            minimal_ring_stream(asked.near_core, asked.far_core, asked.bytes, asked.seconds);
        return;
      }
      const std::uint64_t trips = trips_in(asked, 400 + asked.bytes / 3.0);
      samples measured =
          minimal_ring_round_trip(asked.near_core, asked.far_core, asked.bytes, trips);
      shared.take(measured);
    });
  };
  return p;
}

}  // namespace bench
