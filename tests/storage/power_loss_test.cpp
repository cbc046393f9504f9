/// power_loss: random lives of a log, with a power loss before every change of the disk, in many
/// of the states that it may leave. In each state the log is opened, checked against the book
/// (log_life) and used further; some lose power again.
///
///   BUS_STORAGE_SECONDS=N   how long
///   BUS_TEST_SEED=N         the seed of the first life, and so of all
///   BUS_TEST_STATE=N        with the seed of one life: only this state of it

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <mutex>
#include <random>

#include "log_life.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;

struct life_options {
  disk_lie lie = disk_lie::none;
  bool believes_written = false;
  std::uint64_t only_state = ~0ull;
};

class power_losses {
 public:
  power_losses(std::uint64_t seed, const life_options& options) : seed_(seed), options_(options) {}

  std::uint64_t states() const noexcept { return states_; }
  const std::string& wrong() const noexcept { return wrong_; }

  void run() {
    small_random random(seed_);
    auto disk = std::make_unique<simulated_disk>();
    disk->lie = options_.lie;
    disk->holds_writes = random.percent(50);
    disk->direct_alignment = random.percent(25) ? 4096 : 512;
    uses_spares_ = random.percent(25);
    is_fast_ = random.percent(25);
    (void)disk->make_directory(log_life::directory());
    auto life = begin(*disk, random());
    watch(*disk, *life);
    if (!life->create()) {
      wrong_ = "create() failed";
      return;
    }
    const std::uint64_t steps = 10 + random.below(60);
    std::uint32_t salt = 0;
    for (std::uint64_t step = 0; step < steps && is_good(*life); ++step) {
      if (random.percent(4)) {
        constexpr int failures[] = {-EIO, -ENOSPC};
        disk->set_fault({random.below(12), failures[random.below(2)], false, random.percent(50),
                         is_of_a_device});
      }
      if (random.percent(3)) {  // this time it really happens
        const log_book book = life->book_now();
        random_fate fate(random);
        auto after = disk->after_power_loss(fate);
        life.reset();
        disk = std::move(after);
        life = begin(*disk, random());
        life->set_salt(salt += 1000);
        life->book = book;
        watch(*disk, *life);
        if (!life->open() && life->wrong().empty())
          life->blame("open() failed: " + life->failure());
        if (is_good(*life) && random.percent(50)) life->begin_epoch();
        continue;
      }
      const std::uint64_t fired = disk->faults_fired();
      life->live_on();
      if (disk->faults_fired() != fired && life->log() != nullptr && random.percent(30))
        life->open();
      if (life->log() == nullptr) {  // a fault during the opening
        disk->end_faults();
        if (!life->open() && life->wrong().empty())
          life->blame("open() failed: " + life->failure());
      }
    }
    if (!disk->misuse().empty()) wrong_ = disk->misuse();
    is_good(*life);
  }

 private:
  static bool is_of_a_device(disk_call call) {
    return call != disk_call::space && call != disk_call::size && call != disk_call::list &&
           call != disk_call::make_directory;
  }
  std::unique_ptr<log_life> begin(simulated_disk& disk, std::uint64_t seed) const {
    auto life = std::make_unique<log_life>(disk, seed);
    life->believes_written = options_.believes_written;
    life->uses_spares = uses_spares_;
    if (is_fast_) life->options().fast_segment = std::chrono::hours(1);
    return life;
  }
  bool is_good(log_life& life) {
    if (wrong_.empty()) wrong_ = life.wrong();
    return wrong_.empty();
  }

  void watch(simulated_disk& disk, log_life& life) {
    disk.before_change = [this, &disk, &life](disk_call call) {
      if (!wrong_.empty()) return;
      constexpr std::uint64_t all_up_to = 16, samples = 7;
      const log_book book = life.book_now();
      every_fate every;
      const std::uint64_t count = disk.state_count(all_up_to + 1);
      if (count <= all_up_to) {
        do {
          lose_power(disk, every, book, call);
        } while (every.next());
        if (count == 1) return;
      }
      for (std::uint64_t i = 0; i < (count <= all_up_to ? 2 : samples); ++i) {
        small_random random(small_random::mix(seed_) + top_states_);
        random_fate fate(random);
        lose_power(disk, fate, book, call);
      }
    };
  }

  void lose_power(const simulated_disk& disk, fate& decides, const log_book& book, disk_call call) {
    const std::uint64_t number = top_states_++;
    if (!wrong_.empty()) return;
    auto after = disk.after_power_loss(decides);
    if (options_.only_state != ~0ull && options_.only_state != number) return;
    examine(*after, book, small_random(small_random::mix(seed_ + 1) + number), 0);
    if (!wrong_.empty())
      wrong_ += "\n  power was lost before " + std::string(name_of(call)) +
                "; again: BUS_TEST_SEED=" + std::to_string(seed_) +
                " BUS_TEST_STATE=" + std::to_string(number);
  }

  void examine(simulated_disk& disk, const log_book& book, small_random random, int depth) {
    ++states_;
    auto life = begin(disk, random());
    life->book = book;
    life->set_salt(static_cast<std::uint32_t>(1'000'000 * (depth + 1)));
    const bool once_more = depth < 2 && random.percent(30);
    std::uint64_t until = once_more ? random.below(14) : ~0ull;
    disk.before_change = [&](disk_call) {
      if (until == ~0ull || until-- != 0) return;
      random_fate fate(random);
      auto after = disk.after_power_loss(fate);
      examine(*after, life->book_now(), small_random(random()), depth + 1);
    };
    if (!life->open() && life->wrong().empty()) life->blame("open() failed: " + life->failure());
    if (is_good(*life) && random.percent(30)) life->begin_epoch();
    const std::uint64_t frames = random.percent(40) ? random.below(4) : 0;
    for (std::uint64_t i = 0; i < frames && is_good(*life); ++i)
      if (!life->append(3, 400, random.percent(70)))
        life->blame("append() failed: " + life->failure());
    if (frames != 0 && is_good(*life)) life->look();
    if (!disk.misuse().empty()) life->blame(disk.misuse());
    is_good(*life);
    disk.before_change = nullptr;
  }

  const std::uint64_t seed_;
  const life_options options_;
  bool uses_spares_ = false, is_fast_ = false;
  std::uint64_t states_ = 0, top_states_ = 0;
  std::string wrong_;
};

struct summary {
  std::uint64_t lives = 0, states = 0;
  std::string wrong;
};

summary run_lives(std::uint64_t seed, const life_options& options,
                  std::chrono::milliseconds duration, std::uint64_t lives_max = ~0ull) {
  summary all;
  std::mutex guard;
  const auto live = [&](std::uint64_t number) {
    power_losses life(seed + number, options);
    life.run();
    const std::scoped_lock lock(guard);
    ++all.lives;
    all.states += life.states();
    return life.wrong().empty() ? std::string()
                                : life.wrong() + "\n  life " + std::to_string(seed + number);
  };
  all.wrong = for_each_number(lives_max, live, std::chrono::steady_clock::now() + duration);
  return all;
}

TEST(PowerLoss, LosesNothingThatWasConfirmedAndOnlyASuffixOfTheRest) {
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  const std::uint64_t only = number_from("BUS_TEST_STATE", ~0ull);
  const auto seconds = std::chrono::seconds(number_from("BUS_STORAGE_SECONDS", 16));
  const auto done =
      run_lives(seed, {disk_lie::none, false, only}, seconds, only == ~0ull ? ~0ull : 1);
  std::printf("BUS_TEST_SEED=%llu: %llu lives, %llu states after a power loss\n",
              static_cast<unsigned long long>(seed), static_cast<unsigned long long>(done.lives),
              static_cast<unsigned long long>(done.states));
  EXPECT_EQ(done.wrong, "");
  if (only == ~0ull) {
    EXPECT_GT(done.states, 1000u);
  }
}

// A block is torn just after a frame's head, and a mark follows the frame: zeros lie where its
// record was, as at a clean end.
TEST(PowerLoss, AFrameOfWhichOnlyTheHeadIsThere) {
  simulated_disk disk;
  (void)disk.make_directory(log_life::directory());
  log_life life(disk, 1);
  ASSERT_TRUE(life.create() && life.append(2, 100, true) && life.append(1, 100, false) &&
              life.write_mark());
  const std::string path = log::segment_path(log_life::directory(), 1);
  std::uint64_t from = 0, to = 0;
  {
    log::segment_reader reader(disk);
    ASSERT_EQ(reader.open(path, life.log()->log_id(), 1), 0);
    for (log::logged_record record; reader.next(record) == log::walk_outcome::record;) {
      from = reader.frame_offset() + layout::log_unit;
      to = reader.position();
    }
  }
  const std::vector<std::byte> nothing(to - from);
  disk.overwrite(path, nothing, from);
  ASSERT_TRUE(life.open()) << life.failure() << life.wrong();
  EXPECT_EQ(life.log()->next_seq(), 3u);
  ASSERT_TRUE(life.append(3, 100, true));
  EXPECT_TRUE(life.look()) << life.wrong();
  EXPECT_TRUE(life.open()) << life.failure() << life.wrong();
}

// A publisher's batch spans two frames, and power is lost before the second is on the disk.
struct torn_batch {
  std::uint64_t kept = 0;
  std::uint64_t cut_bytes = 0;
};

torn_batch tear_a_batch(bool keeps_torn_batches) {
  simulated_disk disk;
  (void)disk.make_directory(log_life::directory());
  log_life life(disk, 1);
  life.options().keeps_torn_batches = keeps_torn_batches;
  EXPECT_TRUE(life.create());
  life.batches = log_life::batch::none;
  EXPECT_TRUE(life.append(2, 100, true));
  life.batches = log_life::batch::ends_later;
  EXPECT_TRUE(life.append(3, 100, false));
  EXPECT_TRUE(life.open() || keeps_torn_batches);
  return {life.log()->next_seq() - 1, life.report().cut_bytes};
}

TEST(PowerLoss, ABatchOfWhichOnlyTheFirstFrameIsThere) {
  const auto torn = tear_a_batch(false);
  EXPECT_EQ(torn.kept, 2u);
  EXPECT_GT(torn.cut_bytes, 0u);
  EXPECT_EQ(tear_a_batch(true).kept, 5u) << "the check cannot fail";
}

struct seeded_bug {
  const char* name;
  life_options options;
};

class SeededBug : public ::testing::TestWithParam<seeded_bug> {};

// A check that cannot fail is useless.
TEST_P(SeededBug, IsCaught) {
  const auto done = run_lives(1, GetParam().options, std::chrono::seconds(120));
  std::printf("%s\n", done.wrong.c_str());
  EXPECT_NE(done.wrong, "");
}

INSTANTIATE_TEST_SUITE_P(
    PowerLoss, SeededBug,
    ::testing::Values(
        seeded_bug{"sync_does_nothing", {disk_lie::sync_does_nothing, false, ~0ull}},
        seeded_bug{"directory_sync_does_nothing",
                   {disk_lie::directory_sync_does_nothing, false, ~0ull}},
        seeded_bug{"rename_before_data", {disk_lie::rename_before_data, false, ~0ull}},
        seeded_bug{"commit_before_sync", {disk_lie::commit_before_sync, false, ~0ull}},
        seeded_bug{"failed_sync_is_good", {disk_lie::failed_sync_is_good, false, ~0ull}},
        seeded_bug{"written_is_durable", {disk_lie::none, true, ~0ull}}),
    [](const auto& with) { return std::string(with.param.name); });

}  // namespace
}  // namespace bus
