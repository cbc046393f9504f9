#include <gtest/gtest.h>

#include <unistd.h>

#include <thread>

#include "scratch.hpp"
#include "sync/life.hpp"

namespace bus::sync {
namespace {

struct shared_life {
  layout::life_cell cell;
  std::atomic<int> stage;
};

TEST(Life, IsAliveWhileHeldAndLeftAfterwards) {
  test::shared_value<shared_life> shared;
  EXPECT_EQ(read_life(shared->cell), life_state::left);
  ASSERT_TRUE(hold_life(shared->cell));
  EXPECT_EQ(read_life(shared->cell), life_state::alive);
  EXPECT_NE(life_value(shared->cell), 0u);
  release_life(shared->cell);
  EXPECT_EQ(read_life(shared->cell), life_state::left);
}

TEST(Life, HoldsManyCellsAndLetsGoOfEachAlone) {
  test::shared_value<std::array<layout::life_cell, 5>> cells;
  for (auto& cell : *cells) ASSERT_TRUE(hold_life(cell));
  release_life((*cells)[2]);
  release_life((*cells)[0]);
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_EQ(read_life((*cells)[i]), i == 0 || i == 2 ? life_state::left : life_state::alive) << i;
  for (const std::size_t i : {1u, 3u, 4u}) release_life((*cells)[i]);
}

TEST(Life, OutlivesTheThreadThatTookIt) {
  test::shared_value<shared_life> shared;
  std::thread([&] { EXPECT_TRUE(hold_life(shared->cell)); }).join();
  EXPECT_EQ(read_life(shared->cell), life_state::alive);
  release_life(shared->cell);
}

TEST(Life, OfAKilledProcessShowsItsDeath) {
  test::shared_value<shared_life> shared;
  test::child victim([&] {
    ::alarm(60);
    if (!hold_life(shared->cell)) return 1;
    shared->stage = 1;
    for (;;) ::pause();
  });
  ASSERT_TRUE(test::eventually([&] { return shared->stage == 1; }));
  EXPECT_EQ(read_life(shared->cell), life_state::alive);
  victim.kill();
  EXPECT_TRUE(test::eventually([&] { return read_life(shared->cell) == life_state::dead; }));
}

TEST(Life, OfAProcessThatExitsWithoutLeavingShowsItsDeath) {
  test::shared_value<shared_life> shared;
  test::child victim([&] { return hold_life(shared->cell) ? 0 : 1; });
  EXPECT_TRUE(victim.succeeded());
  EXPECT_TRUE(test::eventually([&] { return read_life(shared->cell) == life_state::dead; }));
}

TEST(Life, OfAStoppedProcessGoesOn) {
  test::shared_value<shared_life> shared;
  test::child stopped([&] {
    ::alarm(60);
    if (!hold_life(shared->cell)) return 1;
    shared->stage = 1;
    for (;;) ::pause();
  });
  ASSERT_TRUE(test::eventually([&] { return shared->stage == 1; }));
  stopped.signal(SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(stopped.pid(), &status, WUNTRACED), stopped.pid());
  EXPECT_EQ(read_life(shared->cell), life_state::alive);
}

TEST(Life, IsNotInheritedByAForkedChild) {
  test::shared_value<shared_life> shared;
  ASSERT_TRUE(hold_life(shared->cell));
  test::child child([] { return 0; });
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(read_life(shared->cell), life_state::alive) << "the child's end is not ours";
  release_life(shared->cell);
}

}  // namespace
}  // namespace bus::sync
