#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "scratch.hpp"
#include "sync/owner_lock.hpp"

namespace bus::sync {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr std::uint32_t alive_word = 0x80000000u | 4711;

struct made_up_peers : peers {
  layout::life_cell cell{};
  std::atomic<bool> known{true};
  std::atomic<bool> gone{false};
  made_up_peers() { cell.word = alive_word; }
  const layout::life_cell* life_of(std::uint32_t) noexcept override {
    return known ? &cell : nullptr;
  }
  bool proven_dead(std::uint32_t) noexcept override { return gone || !known; }
  std::string describe(std::uint32_t id) override { return std::to_string(id); }
  void die() { std::atomic_ref(cell.word).store(futex_owner_died); }
};

TEST(OwnerLock, IsFreeAgainAfterUnlock) {
  word lock{0};
  EXPECT_TRUE(try_lock<hardware>(lock, 5));
  EXPECT_EQ(lock.load(), 5u);
  EXPECT_FALSE(try_lock<hardware>(lock, 6));
  EXPECT_FALSE(unlock_word<hardware>(lock)) << "nobody waits";
  EXPECT_TRUE(try_lock<hardware>(lock, 6));
}

TEST(OwnerLock, TellsTheOwnerThatSomebodyWaits) {
  word lock{5 | lock_contended};
  EXPECT_TRUE(unlock_word<hardware>(lock));
  EXPECT_EQ(lock.load(), 0u);
}

TEST(OwnerLock, LetsOneThreadInAtATime) {
  word lock{0};
  made_up_peers others;
  std::uint64_t guarded = 0;
  constexpr int threads = 4, rounds = 20'000;
  std::atomic<int> took_over{0};
  std::vector<std::jthread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, self = static_cast<std::uint32_t>(t + 1)] {
      for (int i = 0; i < rounds; ++i) {
        std::uint32_t holder = 0;
        if (!try_lock<hardware>(lock, self)) {
          const auto result = wait_lock(lock, self, clock::now() + 60s, others, holder);
          if (result == lock_result::busy) return;
          if (result == lock_result::taken_over) ++took_over;
        }
        guarded = guarded + 1;
        unlock(lock);
      }
    });
  }
  workers.clear();
  EXPECT_EQ(guarded, static_cast<std::uint64_t>(threads) * rounds);
  EXPECT_EQ(took_over, 0);
  EXPECT_EQ(lock.load(), 0u);
}

TEST(OwnerLock, NamesALiveHolderAtTheDeadline) {
  word lock{9};
  made_up_peers others;
  std::uint32_t holder = 0;
  EXPECT_EQ(wait_lock(lock, 5, clock::now() + 30ms, others, holder), lock_result::busy);
  EXPECT_EQ(holder, 9u);
  EXPECT_EQ(lock.load() & lock_owner_mask, 9u) << "it is still the holder's";
}

TEST(OwnerLock, IsTakenOverFromAProvenDead) {
  word lock{9};
  made_up_peers others;
  others.die();
  others.gone = true;
  std::uint32_t holder = 0;
  EXPECT_EQ(wait_lock(lock, 5, clock::now() + 60s, others, holder), lock_result::taken_over);
  EXPECT_EQ(lock.load() & lock_owner_mask, 5u);
  EXPECT_NE(lock.load() & lock_contended, 0u) << "others may still sleep";
}

TEST(OwnerLock, IsTakenOverFromAProcessThatNobodyKnows) {
  word lock{9};
  made_up_peers others;
  others.known = false;
  std::uint32_t holder = 0;
  EXPECT_EQ(wait_lock(lock, 5, clock::now() + 60s, others, holder), lock_result::taken_over);
}

TEST(OwnerLock, StaysWithADyingOwnerUntilItsLastStore) {
  word lock{9};
  made_up_peers others;
  others.die();  // its life word shows it, but a thread of it may still store
  std::uint32_t holder = 0;
  EXPECT_EQ(wait_lock(lock, 5, clock::now() + 30ms, others, holder), lock_result::busy);
  EXPECT_EQ(lock.load() & lock_owner_mask, 9u);
  std::jthread kernel([&] {
    std::this_thread::sleep_for(20ms);
    others.gone = true;
  });
  EXPECT_EQ(wait_lock(lock, 5, clock::now() + 60s, others, holder), lock_result::taken_over);
  EXPECT_TRUE(others.gone);
}

TEST(OwnerLock, WakesASleeperWhenItsOwnerDies) {
  word lock{9};
  made_up_peers others;
  std::jthread kernel([&] {
    std::this_thread::sleep_for(30ms);
    others.gone = true;
    others.die();
    os::futex_wake(&others.cell.word, 100);
  });
  std::uint32_t holder = 0;
  EXPECT_EQ(wait_lock(lock, 5, clock::now() + 60s, others, holder), lock_result::taken_over);
}

TEST(OwnerLock, OnlyOneWaiterTakesOver) {
  word lock{9};
  made_up_peers others;
  others.die();
  others.gone = true;
  std::atomic<int> took_over{0}, took{0};
  std::vector<std::jthread> workers;
  for (std::uint32_t self = 20; self < 24; ++self) {
    workers.emplace_back([&, self] {
      std::uint32_t holder = 0;
      // The survivors live: only process 9 is dead.
      struct : peers {
        made_up_peers* dead;
        layout::life_cell living{};
        const layout::life_cell* life_of(std::uint32_t id) noexcept override {
          return id == 9 ? &dead->cell : &living;
        }
        bool proven_dead(std::uint32_t id) noexcept override { return id == 9; }
        std::string describe(std::uint32_t) override { return {}; }
      } mine;
      mine.dead = &others;
      mine.living.word = alive_word;
      const auto result = wait_lock(lock, self, clock::now() + 60s, mine, holder);
      (result == lock_result::taken_over ? took_over : took) += result != lock_result::busy;
      unlock(lock);
    });
  }
  workers.clear();
  EXPECT_EQ(took_over, 1);
  EXPECT_EQ(took, 3);
}

}  // namespace
}  // namespace bus::sync
