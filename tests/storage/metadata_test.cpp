// Power loss in the small files of a stream: its definition and its subjects.

#include <gtest/gtest.h>

#include <random>

#include "simulated_disk.hpp"
#include "storage/subject_log.hpp"
#include "streams/catalog.hpp"
#include "test_options.hpp"

namespace bus {
namespace {

using namespace test;

constexpr std::uint64_t lives = 400;
constexpr int states_per_call = 6;
constexpr std::uint64_t stream_id = 77;
const std::string stream_directory = "data/streams/s";

result<storage::subject_log> open_subjects(log::disk& disk, std::uint64_t required = 0,
                                           const storage::subject_log::lookup& elsewhere = {}) {
  std::string mended;
  return storage::subject_log::open(disk, stream_directory, stream_id, required, elsewhere, mended);
}

std::string subject_of(std::uint64_t id) {
  return "subject." + std::to_string(id * id + 7) + std::string(id % 40, 'x');
}

streams::definition version(std::uint64_t number) {
  streams::definition made;
  made.config.name = "s";
  made.config.subjects = {"s.>"};
  made.config.storage = storage_class::durable;
  made.config.max_messages = number;
  made.stream_id = stream_id;
  made.epoch = number;
  return made;
}

/// What was reported durable (stored, subjects), and what was attempted (storing, adding).
struct book {
  std::uint64_t stored = 0, storing = 0;
  std::uint64_t subjects = 0, adding = 0;
};

// Returns what is wrong, or an empty string.
std::string look(simulated_disk& disk, const book& said) {
  streams::catalog catalog(disk, "data");
  auto found = catalog.read(stream_directory);
  if (!found && said.stored != 0) return "the definition is gone: " + found.error().message();
  if (found && (found->epoch < said.stored || found->epoch > said.storing ||
                found->config.max_messages != found->epoch))
    return "the definition is version " + std::to_string(found->epoch) + ", " +
           std::to_string(said.stored) + " was stored";
  auto subjects = open_subjects(disk);
  if (!subjects) return "the subjects cannot be opened: " + subjects.error().message();
  if (subjects->count() < said.subjects)
    return std::to_string(subjects->count()) + " subjects of " + std::to_string(said.subjects);
  if (subjects->count() > said.adding) return "more subjects than were ever added";
  for (std::uint64_t id = 0; id < subjects->count(); ++id)
    if (subjects->known()[id].text != subject_of(id) || subjects->known()[id].type != id)
      return "another subject";
  return {};
}

// One life of the files, with several power losses at every call. `lie`: how the disk lies.
std::string live(std::uint64_t seed, disk_lie lie, std::atomic<std::uint64_t>& states) {
  std::mt19937_64 random(seed);
  simulated_disk disk;
  disk.lie = lie;
  (void)disk.make_directory(stream_directory);
  book said;
  std::string wrong;
  disk.before_change = [&](disk_call) {
    for (int i = 0; i < states_per_call && wrong.empty(); ++i) {
      nothing_kept worst;
      random_fate<std::mt19937_64> other(random);
      const auto left = disk.after_power_loss(i == 0 ? static_cast<fate&>(worst) : other);
      ++states;
      wrong = look(*left, said);
      if (!wrong.empty()) continue;
      // And further: a torn end must not prevent an append.
      auto again = open_subjects(*left);
      book now = said;
      now.subjects = again->count();
      now.adding = now.subjects + 1;
      if (!again->append({{subject_of(now.subjects), now.subjects}})) {
        wrong = "nothing can be added any more";
        continue;
      }
      ++now.subjects;
      nothing_kept once_more;
      wrong = look(*left->after_power_loss(once_more), now);
    }
  };
  streams::catalog catalog(disk, "data");
  auto subjects = storage::subject_log::create(disk, stream_directory, stream_id);
  if (!subjects) return subjects.error().message();
  for (int step = 0; step < 12 && wrong.empty(); ++step) {
    if (random() % 3 == 0) {
      said.storing = said.stored + 1;
      if (!catalog.store(version(said.storing))) return "a definition cannot be stored";
      said.stored = said.storing;
    } else {
      std::vector<log::known_subject> more;
      for (std::uint64_t n = 1 + random() % 20; n != 0; --n)
        more.push_back({subject_of(said.subjects + more.size()), said.subjects + more.size()});
      said.adding = said.subjects + more.size();
      if (!subjects->append(more)) return "subjects cannot be added";
      said.subjects = said.adding;
    }
  }
  return wrong.empty() ? wrong : "seed " + std::to_string(seed) + ": " + wrong;
}

TEST(Metadata, SurvivesAPowerLossAtEveryCall) {
  const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
  std::atomic<std::uint64_t> states{0};
  const std::string wrong = for_each_number(
      lives, [&](std::uint64_t number) { return live(seed + number, disk_lie::none, states); });
  std::printf("seed %llu, %llu states\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(states.load()));
  EXPECT_EQ(wrong, "");
  EXPECT_GT(states, lives * states_per_call);
}

TEST(Metadata, TheTestNoticesDisksThatLie) {
  for (const disk_lie lie : {disk_lie::sync_does_nothing, disk_lie::directory_sync_does_nothing}) {
    std::atomic<std::uint64_t> states{0};
    EXPECT_NE(
        for_each_number(lives, [&](std::uint64_t number) { return live(number, lie, states); }),
        "");
  }
}

}  // namespace
}  // namespace bus
