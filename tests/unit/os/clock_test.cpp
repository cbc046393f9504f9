#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "os/clock.hpp"

namespace bus::os {
namespace {

// How far two readings of different clocks may be apart on a busy machine; far below the error of
// a wrong unit.
constexpr double tolerance_ns = 2e8;

tick_clock best() {
  const std::uint32_t kind = best_clock_kind();
  return {kind, tick_clock(kind, 0, 0).now(), raw_monotonic_ns()};
}

double difference(std::uint64_t a, std::uint64_t b) {
  return std::abs(static_cast<double>(static_cast<std::int64_t>(a - b)));
}

TEST(TickClock, OfTheWallIsTheWall) {
  const tick_clock clock(clock_wall, 0, 0);
  EXPECT_EQ(clock.ns_per_tick(), 1.0);
  EXPECT_EQ(clock.to_wall_ns(12345), 12345u);
  EXPECT_EQ(clock.from_wall_ns(12345), 12345u);
  EXPECT_LT(difference(clock.now(), wall_ns()), tolerance_ns);
}

// The clock where no counter can be trusted. Leases and retries depend on it, so setting the wall
// clock must not move it.
TEST(TickClock, OfTheBootIsNotTheWall) {
  const tick_clock clock(clock_boot, boot_ns(), raw_monotonic_ns());
  EXPECT_EQ(clock.ns_per_tick(), 1.0);
  EXPECT_LT(difference(clock.now(), boot_ns()), tolerance_ns);
  EXPECT_LT(difference(clock.to_wall_ns(clock.now()), wall_ns()), tolerance_ns);
  EXPECT_LT(difference(clock.from_wall_ns(clock.to_wall_ns(clock.now())), clock.now()),
            tolerance_ns);
  EXPECT_NE(best_clock_kind(), clock_wall);
}

TEST(TickClock, StampsTheTimeOfDay) {
  const tick_clock clock = best();
  const std::uint64_t before = wall_ns();
  const std::uint64_t stamp = clock.to_wall_ns(clock.now());
  const std::uint64_t after = wall_ns();
  EXPECT_LT(difference(stamp, before), tolerance_ns + static_cast<double>(after - before));
}

TEST(TickClock, GoesThereAndBack) {
  const tick_clock clock = best();
  const std::uint64_t now = clock.now();
  for (const double seconds : {0.0, -3600.0, -1.0, 1.0, 3600.0}) {
    const auto ticks =
        static_cast<std::uint64_t>(static_cast<double>(now) + seconds * 1e9 / clock.ns_per_tick());
    const std::uint64_t wall = clock.to_wall_ns(ticks);
    EXPECT_NEAR(static_cast<double>(static_cast<std::int64_t>(wall - clock.to_wall_ns(now))),
                seconds * 1e9, 1e6 + 1e-3 * std::abs(seconds) * 1e9);
    EXPECT_LT(difference(clock.from_wall_ns(wall), ticks) * clock.ns_per_tick(), 1e6) << seconds;
  }
}

TEST(TickClock, KeepsTheOrderOfStamps) {
  const tick_clock clock = best();
  std::uint64_t last = clock.now(), last_wall = clock.to_wall_ns(last);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t ticks = clock.now();
    ASSERT_GE(ticks, last);
    const std::uint64_t wall = clock.to_wall_ns(ticks);
    ASSERT_GE(wall + 1'000'000, last_wall);  // the anchor may be replaced in between
    last = ticks;
    last_wall = wall;
  }
}

TEST(TickClock, TellsTheTimeOfAStampOnceAndForAll) {
  base::clock_eras eras{};
  const std::uint32_t kind = best_clock_kind();
  const std::uint64_t create_params = tick_clock(kind, 0, 0).now(), raw = raw_monotonic_ns();
  const tick_clock one(kind, create_params, raw, &eras), other(kind, create_params, raw, &eras);
  const std::uint64_t ticks = one.now(), told = one.to_wall_ns(ticks);
  for (int i = 0; i < 3; ++i) {
    std::uint64_t there = 0;
    std::jthread([&] { there = other.to_wall_ns(ticks); }).join();
    EXPECT_EQ(there, told);
    EXPECT_EQ(one.to_wall_ns(ticks), told);
    (void)best().to_wall_ns(ticks);  // of another bus
    EXPECT_EQ(one.to_wall_ns(ticks), told);
    EXPECT_LE(one.from_wall_ns(told), ticks);
    EXPECT_LT(difference(one.from_wall_ns(told), ticks) * one.ns_per_tick(), 1e3);
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
  }
}

TEST(TickClock, ShowsAStepOfTheWallClockInLaterStampsOnly) {
  const std::uint32_t kind = best_clock_kind();
  base::clock_eras eras{};
  const tick_clock clock(kind, tick_clock(kind, 0, 0).now(), raw_monotonic_ns(), &eras);
  const std::uint64_t old = clock.now(), before = clock.to_wall_ns(old);
  eras.of[0].wall_ns -= 1'000'000'000;  // as if it had advanced by a second since
  std::uint64_t told = 0;
  std::jthread([&] { told = clock.to_wall_ns(old); }).join();  // a thread that remembers nothing
  EXPECT_EQ(told, before - 1'000'000'000);
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  EXPECT_LT(difference(clock.to_wall_ns(clock.now()), wall_ns()), tolerance_ns);
  std::jthread([&] { EXPECT_EQ(clock.to_wall_ns(old), told); }).join();
}

// A drift is corrected now and then. A step must not wait until that correction takes effect.
TEST(TickClock, ShowsAStepThatComesWhileAnotherIsAnnounced) {
  const std::uint32_t kind = best_clock_kind();
  base::clock_eras eras{};
  const tick_clock clock(kind, tick_clock(kind, 0, 0).now(), raw_monotonic_ns(), &eras);
  const std::uint64_t old = clock.now();
  (void)clock.to_wall_ns(old);
  for (std::size_t era = 0; era < 2; ++era) {
    ASSERT_NE(eras.of[era].wall_ns.load(), 0u);
    eras.of[era].wall_ns -= 5'000'000'000;  // as if the wall clock had advanced by 5 s since
    std::jthread([&] { (void)clock.to_wall_ns(old); }).join();  // a thread that remembers nothing
  }
  ASSERT_LT(eras.of[1].from.load(), eras.of[2].from.load());
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  EXPECT_LT(difference(clock.to_wall_ns(clock.now()), wall_ns()), tolerance_ns);
}

TEST(TickClock, SurvivesErasThatWereWrittenOver) {
  const std::uint32_t kind = best_clock_kind();
  const std::uint64_t create_params = tick_clock(kind, 0, 0).now(), raw = raw_monotonic_ns();
  for (const std::uint64_t nonsense :
       {0ull, 1ull, ~0ull, 1ull << 63, 0x7ff8000000000000ull, 0x3fd0000000000000ull}) {
    base::clock_eras eras{};
    for (auto& era : eras.of) era.from = era.wall_ns = era.ns_per_tick = nonsense;
    const tick_clock clock(kind, create_params, raw, &eras);
    for (const std::uint64_t value : {std::uint64_t{0}, clock.now(), ~std::uint64_t{0}}) {
      (void)clock.to_wall_ns(value);
      (void)clock.from_wall_ns(value);
    }
  }
}

TEST(TickClock, CopiesMeanTheSame) {
  const tick_clock clock = best();
  tick_clock copy;
  copy = clock;
  const std::uint64_t ticks = clock.now();
  EXPECT_EQ(copy.kind(), clock.kind());
  EXPECT_EQ(copy.to_wall_ns(ticks), clock.to_wall_ns(ticks));
}

}  // namespace
}  // namespace bus::os
