// A thousand processes die next to two survivors. Neither the survivors nor the bus may remember
// them for ever.

#include <gtest/gtest.h>

#include "stage.hpp"

using namespace test;

TEST(Leaks, AThousandDeathsLeaveNothing) {
  const alarm_guard watchdog(110);
  stage::options on;
  on.config = small_stream("k", bus::overflow::block);
  stage s(on);
  std::array<std::size_t, 4> settled{};
  const auto counts = [&] {
    return std::array<std::size_t, 4>{open_descriptors(), mapping_count(),
                                      open_descriptors(s.survivor_pid()),
                                      mapping_count(s.survivor_pid())};
  };
  // The library keeps the last 256 peers that it met; a publisher does not meet every peer.
  constexpr int deaths = 1000, warm_up = 700;
  for (int i = 0; i < deaths && s.checker().complaints().empty(); ++i) {
    const std::uint32_t life = s.new_life();
    child victim([&] {
      auto session = bus::open(s.url());
      if (!session) return 10;
      auto subscriber = session->subscribe("k.>");
      auto publisher = mixed_publisher::open(*session, s.lives(), life, s.stream());
      if (!subscriber || !publisher) return 11;
      if (i % 3 == 0 && !subscriber->fd()) return 12;
      if (i % 3 == 0) (void)subscriber->arm();
      if (publisher->one(300) != bus::publish_status::ok) return 13;
      (void)subscriber->next(1ms);
      ::kill(::getpid(), SIGKILL);
      return 14;
    });
    const int status = s.pump_until_ended(victim);
    EXPECT_TRUE(WIFSIGNALED(status)) << status;
    (void)s.recover(life);
    if (i == warm_up) settled = counts();
  }
  EXPECT_EQ(s.leftovers(), "");
  const auto end = counts();
  static constexpr const char* names[] = {
      "descriptors of the subscriber", "mappings of the subscriber", "descriptors of the publisher",
      "mappings of the publisher"};
  for (std::size_t i = 0; i < end.size(); ++i) {
    std::printf("%s: %zu after %d deaths, %zu after %d\n", names[i], settled[i], warm_up, end[i],
                deaths);
    EXPECT_LE(end[i], settled[i] + 32) << names[i] << " grow with the number of deaths";
  }
  s.finish();
  EXPECT_TRUE(s.checker().complaints().empty()) << s.checker().report();
}
