// kill -9 at random moments: publishers and subscribers start, work at full speed and die,
// thousands of times, while one publisher and one gating subscriber survive and judge.

#include <algorithm>

#include "kill_run.hpp"
#include "stage.hpp"

namespace {

using namespace test;

struct totals {
  std::uint64_t kills = 0, publishers = 0, subscribers = 0, messages = 0, gaps = 0, maybe = 0;
  times continued, beside_exclusive, any_continued;
  bool failed = false;
};

// Returns only to report an error.
int victim(const std::string& url, journal& lives, std::uint32_t life, const std::string& stream,
           std::uint64_t seed, bool publishes, bool exclusive, remark& why,
           std::atomic<bool>& running, const std::atomic<bool>& judging) {
  std::mt19937_64 random(seed);
  auto session = bus::open(url);
  if (!session) return why.say("victim: " + session.error().message()), 10;
  if (!publishes) {
    running.store(true, std::memory_order_release);
    for (;;)
      if (const int status = consume_in_every_way(*session, stream, random, 50, why); status != 0)
        return status;
  }
  running.store(true, std::memory_order_release);
  const auto complains = [&](bus::publish_status status, const bus::error& last) {
    if (status == bus::publish_status::ok) return false;
    const bool expected = status == bus::publish_status::conflict ||
                          status == bus::publish_status::rejected ||
                          status == bus::publish_status::dropped;
    if (expected)
      ::usleep(20);
    else
      why.say(std::string("victim: ") + bus::publish_status_name(status) + ": " + last.message());
    return !expected;
  };
  mixed_publisher::options how;
  if (exclusive) how = {.mode = bus::publish_mode::exclusive, .early_bytes = 1024, .subjects = 16};
  for (;;) {
    // While a death is judged, an exclusive publisher that has left stays away, because the
    // others need a turn.
    while (exclusive && judging.load(std::memory_order_acquire)) ::usleep(100);
    auto made = mixed_publisher::open(*session, lives, life, stream, how);
    if (!made) {
      if (made.error().code != bus::errc::conflict)
        return why.say("victim: " + made.error().message()), 11;
      ::usleep(200);
      continue;
    }
    // An exclusive publisher excludes the others, so it leaves after every few calls.
    for (int i = 0; !exclusive || i < 20; ++i)
      if (complains(made->step(random), made->last_error())) return 12;
    ::usleep(300);
  }
}

struct slot {
  std::optional<child> process;
  std::uint32_t life = 0;
  bool publishes = false;
  bool exclusive = false;
};

struct ring_layout {
  const char* name;
  std::uint32_t lanes = 1;
  bus::lane_mode mode = bus::lane_mode::fixed;
};

void run_on(bus::overflow policy, const ring_layout& rings, std::chrono::milliseconds time,
            std::uint64_t seed, totals& sum) {
  stage::options on;
  on.config = small_stream("k", policy);
  on.config.lanes = rings.lanes;
  on.config.mode = rings.mode;
  stage s(on);
  shared_value<std::array<std::atomic<bool>, 4>> running;
  shared_value<std::atomic<bool>> judging;
  std::mt19937_64 random(seed);
  std::array<slot, 3> slots;  // with the survivors, more processes than cores
  const auto start = [&](std::size_t i) {
    slot& place = slots[i];
    place.publishes = i != 2;
    place.life = s.new_life();
    (*running)[i].store(false);
    // An exclusive publisher takes another lane each time, and only each lane keeps its order.
    const bool exclusive = place.exclusive = rings.lanes == 1 && i == 1 && random() % 3 == 0;
    const std::uint64_t own_seed = random();
    place.process.emplace([&, i, exclusive, own_seed] {
      return victim(s.url(), s.lives(), slots[i].life, s.stream(), own_seed, slots[i].publishes,
                    exclusive, s.why(), (*running)[i], *judging);
    });
  };
  for (std::size_t i = 0; i < slots.size(); ++i) start(i);
  const std::size_t descriptors = open_descriptors(), mappings = mapping_count();
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end && s.checker().complaints().empty()) {
    const std::size_t i = random() % slots.size();
    slot& place = slots[i];
    // Half of the victims die during their start, the others some time later.
    if (random() % 2 == 0)
      s.pump_until([&, i] { return (*running)[i].load(std::memory_order_acquire); }, 50ms);
    const auto instant =
        std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 2000);
    while (std::chrono::steady_clock::now() < instant) s.pump();
    // The survivors are all the other publishers.
    std::vector<std::pair<const journal_entry*, std::uint64_t>> others = {
        {&s.lives()[0], s.survivor_done()}};
    for (const slot& other : slots)
      if (&other != &place && other.publishes)
        others.emplace_back(&s.lives()[other.life],
                            s.lives()[other.life].done.load(std::memory_order_acquire));
    s.forget_kill();
    const auto killed = std::chrono::steady_clock::now();
    s.kill_now(*place.process);
    const bool goes_on = s.pump_until([&] {
      return std::any_of(others.begin(), others.end(), [](const auto& other) {
        return other.first->done.load(std::memory_order_acquire) > other.second;
      });
    });
    if (!goes_on) s.checker().complain(complaint_kind::stalled, "no publisher goes on");
    sum.any_continued.add((std::chrono::steady_clock::now() - killed).count());
    const int status = s.pump_until_ended(*place.process);
    place.process.reset();
    if (!was_killed(status))
      s.checker().complain(complaint_kind::other,
                           "a victim ended with " + std::to_string(status) + ": " + s.why().text);
    // Next to a live exclusive publisher, the others wait until it leaves the next time.
    const bool alone = slots[1].process && slots[1].exclusive;
    judging->store(true, std::memory_order_release);
    (alone ? sum.beside_exclusive : sum.continued).add(s.recover(place.life));
    judging->store(false, std::memory_order_release);
    const auto& entry = s.lives()[place.life];
    if (entry.begun.load() != entry.done.load()) ++sum.maybe;
    ++sum.kills;
    ++(place.publishes ? sum.publishers : sum.subscribers);
    start(i);
  }
  for (slot& place : slots) {
    place.process->kill();
    (void)s.pump_until_ended(*place.process);
    place.process.reset();
    (void)s.recover(place.life);
  }
  // Except for a few that it caches, this process has closed what it opened of others.
  if (open_descriptors() > descriptors + 16)
    s.checker().complain(complaint_kind::other, "descriptors grew from " +
                                                    std::to_string(descriptors) + " to " +
                                                    std::to_string(open_descriptors()));
  if (mapping_count() > mappings + 600)
    s.checker().complain(complaint_kind::other, "mappings grew from " + std::to_string(mappings) +
                                                    " to " + std::to_string(mapping_count()));
  if (const std::string left = s.leftovers(); !left.empty())
    s.checker().complain(complaint_kind::other, "left behind:" + left);
  s.finish();
  sum.messages += s.checker().messages();
  sum.gaps += s.checker().gaps();
  std::printf("%-12s %-19s %llu messages judged, %llu gaps, mappings %zu -> %zu%s\n",
              bus::overflow_name(policy), rings.name,
              static_cast<unsigned long long>(s.checker().messages()),
              static_cast<unsigned long long>(s.checker().gaps()), mappings, mapping_count(),
              s.checker().report().c_str());
  std::fflush(stdout);
  sum.failed = sum.failed || !s.checker().complaints().empty();
}

}  // namespace

int main(int argc, char** argv) {
  kill_run run(argc, argv, 24);
  const alarm_guard watchdog(static_cast<unsigned>(run.seconds) * 2 + 60);
  totals sum;
  constexpr ring_layout one{"one lane"}, three{"three lanes", 3},
      own{"a lane per publisher", 8, bus::lane_mode::per_publisher};
  const std::pair<bus::overflow, const ring_layout*> runs[] = {
      {bus::overflow::block, &one},   {bus::overflow::drop_oldest, &one},
      {bus::overflow::reject, &one},  {bus::overflow::drop_new, &one},
      {bus::overflow::block, &three}, {bus::overflow::drop_oldest, &three},
      {bus::overflow::block, &own},   {bus::overflow::drop_oldest, &own}};
  const auto share = run.share(1.0 / std::size(runs));
  for (const auto& [policy, rings] : runs) run_on(policy, *rings, share, run.seed++, sum);
  std::printf(
      "%llu kills (%llu publishers, %llu subscribers, %llu in the middle of a call), %llu messages "
      "judged\n",
      static_cast<unsigned long long>(sum.kills), static_cast<unsigned long long>(sum.publishers),
      static_cast<unsigned long long>(sum.subscribers), static_cast<unsigned long long>(sum.maybe),
      static_cast<unsigned long long>(sum.messages));
  std::printf("the first survivor to publish went on after %s\n", sum.any_continued.line().c_str());
  std::printf("the slow survivor, with its turn among the fast ones: %s\n",
              sum.continued.line().c_str());
  std::printf("the same while an exclusive publisher comes and goes: %s\n",
              sum.beside_exclusive.line().c_str());
  if (sum.maybe == 0 && sum.kills > 500) {
    std::printf("nobody died in the middle of a call: these kills prove nothing\n");
    return 1;
  }
  return sum.failed ? 1 : 0;
}
