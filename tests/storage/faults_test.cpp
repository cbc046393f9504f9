/// faults: the Nth call of the disk fails, once or for ever, for every N until no call fails any
/// more. The writer reacts as busd does. What it reports as durable must be on the device, and it
/// must resume when the disk works again.
///
///   BUS_STORAGE_SECONDS=N   how long, but at least one workload of each kind
///   BUS_TEST_SEED=N         the seed of the first workload

#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "log_life.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;

struct fault_kind {
  const char* name;
  int failure;
  bool is_short;
  bool (*hits)(disk_call);
};

constexpr fault_kind kinds[] = {
    {"EIO", -EIO, false, [](disk_call) { return true; }},
    {"ENOSPC", -ENOSPC, false,
     [](disk_call call) {
       return call == disk_call::write || call == disk_call::begin_write ||
              call == disk_call::reserve || call == disk_call::rename || call == disk_call::sync ||
              call == disk_call::begin_sync;
     }},
    {"short_write", -EIO, true,
     [](disk_call call) { return call == disk_call::write || call == disk_call::begin_write; }},
    {"ECANCELED", -ECANCELED, false,
     [](disk_call call) {
       return call == disk_call::begin_write || call == disk_call::begin_sync;
     }},
};

struct faulty_life {
  std::uint64_t seed = 0;
  fault_plan plan;
  disk_lie lie = disk_lie::none;
  bool believes_written = false;
  bool fired = false;
  std::uint64_t states = 0;

  std::string run() {
    simulated_disk disk;
    small_random random(seed);
    disk.holds_writes = random.percent(50);
    disk.lie = lie;
    (void)disk.make_directory(log_life::directory());
    log_life life(disk, random());
    life.believes_written = believes_written;
    disk.set_fault(plan);
    std::uint64_t steps_left = 40;
    if (!life.create()) open_again(disk, life);
    for (std::uint64_t step = 0; step < steps_left && life.wrong().empty(); ++step) {
      life.live_on();
      if (disk.faults_fired() != 0 && !fired) {
        fired = true;
        steps_left = std::min(steps_left, step + 12);  // some steps with the fault, some after it
        if (life.log() != nullptr && random.percent(40)) life.open();  // the process dies of it
      }
      if (life.log() == nullptr) open_again(disk, life);
      if (fired) lose_power(disk, life, random);
    }
    disk.end_faults();
    if (life.wrong().empty() &&
        (!life.append(2, 300, true) || !life.append(2, 300, false) || !life.sync()))
      life.blame("the disk is well again, the log is not: " + life.failure());
    if (life.wrong().empty()) life.look();
    if (life.wrong().empty() && (!life.close() || !life.open()))
      life.blame("the end: " + life.failure());
    lose_power(disk, life, random);
    life.blame(disk.misuse());
    return life.wrong();
  }

 private:
  // Opens it again. If that fails, once more without the fault: then it must work.
  static void open_again(simulated_disk& disk, log_life& life) {
    if (life.open() || !life.wrong().empty()) return;
    disk.end_faults();
    if (!life.open()) life.blame("open() on a good disk: " + life.failure());
  }

  void lose_power(const simulated_disk& disk, log_life& life, small_random& random) {
    if (!life.wrong().empty()) return;
    nothing_kept nothing;
    random_fate some(random);
    auto after = disk.after_power_loss(random.percent(50) ? static_cast<fate&>(nothing) : some);
    log_life next(*after, random());
    next.book = life.book_now();
    ++states;
    if (!next.open()) next.blame("open() after a power loss: " + next.failure());
    if (!next.wrong().empty()) life.blame("after a power loss: " + next.wrong());
  }
};

struct fault_sum {
  std::uint64_t faults = 0, states = 0;
  std::string wrong;
};

fault_sum meet_all_faults(const fault_kind& kind, bool for_ever, std::uint64_t seed,
                          disk_lie lie = disk_lie::none, bool believes_written = false) {
  std::atomic<std::uint64_t> faults{0}, states{0}, last{~0ull};
  std::mutex guard;
  fault_sum sum;
  for_each_number(~0ull, [&](std::uint64_t number) -> std::string {
    if (number > last) return "over";
    faulty_life life{
        seed, {number, kind.failure, for_ever, kind.is_short, kind.hits}, lie, believes_written};
    const std::string wrong = life.run();
    states += life.states;
    if (life.fired)
      ++faults;
    else
      last = std::min<std::uint64_t>(last, number);
    if (wrong.empty()) return {};
    const std::scoped_lock lock(guard);
    sum.wrong = std::string(kind.name) + (for_ever ? " for ever" : " once") + " from call " +
                std::to_string(number) + " on, BUS_TEST_SEED=" + std::to_string(seed) + ": " +
                wrong;
    return sum.wrong;
  });
  sum.faults = faults;
  sum.states = states;
  return sum;
}

TEST(Faults, TakeNothingConfirmedAndDoNotStopTheLog) {
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(number_from("BUS_STORAGE_SECONDS", 8));
  std::uint64_t workloads = 0, faults = 0, states = 0;
  do {
    for (const fault_kind& kind : kinds)
      for (const bool for_ever : {false, true}) {
        const auto sum = meet_all_faults(kind, for_ever, seed + workloads);
        faults += sum.faults;
        states += sum.states;
        ASSERT_EQ(sum.wrong, "");
      }
    ++workloads;
  } while (std::chrono::steady_clock::now() < end);
  std::printf("BUS_TEST_SEED=%llu: %llu workloads, %llu faults, %llu states after a power loss\n",
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(workloads),
              static_cast<unsigned long long>(faults), static_cast<unsigned long long>(states));
  EXPECT_GT(faults, 200u);
}

// A tail of nearly a whole segment is rewritten into a new segment that is not smaller.
TEST(Faults, ALongTailFindsRoom) {
  for (const bool was_killed : {true, false}) {
    simulated_disk disk;
    (void)disk.make_directory(log_life::directory());
    log_life life(disk, 3);
    ASSERT_TRUE(life.create());
    for (int i = 0; i < 14; ++i) ASSERT_TRUE(life.append(12, 600, false)) << life.failure();
    ASSERT_EQ(life.log()->segments(), 1u);
    const std::uint64_t written = life.log()->written_seq();
    if (was_killed) {
      ASSERT_TRUE(life.open()) << life.failure() << life.wrong();
    } else {
      disk.set_fault(
          {0, -EIO, false, false, [](disk_call call) { return call == disk_call::sync; }});
      EXPECT_FALSE(life.sync());
      ASSERT_TRUE(life.restart_if_poisoned()) << life.failure();
    }
    EXPECT_EQ(life.log()->durable_seq(), written);
    EXPECT_TRUE(life.look());
    EXPECT_EQ(life.wrong(), "");
  }
}

// A check that cannot fail is useless.
TEST(Faults, SeededBugsAreCaught) {
  EXPECT_NE(meet_all_faults(kinds[0], false, 1, disk_lie::failed_sync_is_good).wrong, "");
  EXPECT_NE(meet_all_faults(kinds[0], false, 1, disk_lie::sync_does_nothing).wrong, "");
  EXPECT_NE(meet_all_faults(kinds[0], false, 1, disk_lie::none, true).wrong, "");
}

}  // namespace
}  // namespace bus
