// kill -9 of busd, of publishers and of readers at random moments under load; then shared memory
// is lost, too. What was confirmed is in the log, once and whole. Live readers miss nothing. No
// sequence is used twice.

#include <algorithm>

#include "busd_process.hpp"
#include "kill_run.hpp"
#include "stage.hpp"
#include "traffic.hpp"

namespace {

using namespace test;
using clock = std::chrono::steady_clock;

const std::string stream_name = "k";
const std::string pattern = "k.>";

struct totals {
  std::uint64_t busd_kills = 0, busd_kills_in_recovery = 0, publisher_kills = 0, reader_kills = 0;
  std::uint64_t rounds_without_memory = 0, lost_unconfirmed = 0;
  times ready;
  bool failed = false;

  void fail(const std::string& why) {
    std::printf("FAILED: %s\n", why.c_str());
    std::fflush(stdout);
    failed = true;
  }
};

struct worker {
  std::optional<child> process;
  std::uint32_t life = 0;
};

void start_publisher(const scratch& place, traffic& shared, worker& into, std::size_t slot,
                     std::mt19937_64& random, bool measures = false) {
  publisher_plan plan;
  plan.subject = stream_name + ".p" + std::to_string(slot);
  plan.life = into.life = shared.new_life();
  plan.way = measures ? confirm_way::none : static_cast<confirm_way>(random() % 4);
  plan.seed = random();
  plan.measures = measures;
  if (plan.way != confirm_way::each) plan.pause_us = measures ? 300 : 100;
  into.process.emplace([&, plan] { return publish_numbered(place.url(), shared, plan); });
}

bool ended_by_kill(worker& of) {
  of.process->kill();
  const int status = of.process->wait();
  of.process.reset();
  return was_killed(status);
}

bool all_durable(bus::session& session) {
  return eventually(
      [&] {
        const auto info = session.stream(stream_name);
        return info && !info->lanes.empty() &&
               info->lanes[0].durable_sequence >= info->lanes[0].last_sequence;
      },
      60s);
}

// Kills at random while all the others work.
void kill_under_load(const scratch& place, busd_process& busd, std::chrono::milliseconds time,
                     std::uint64_t seed, traffic& shared, totals& sum) {
  std::mt19937_64 random(seed);
  auto session = bus::open(place.url());
  if (!session) return sum.fail(session.error().message());
  shared_value<std::array<std::atomic<bool>, 2>> ready;
  child live([&] { return read_live(place.url(), shared, pattern, (*ready)[0], false, seed + 1); });
  child behind(
      [&] { return read_live(place.url(), shared, pattern, (*ready)[1], true, seed + 2); });
  if (!eventually([&] { return (*ready)[0].load() && (*ready)[1].load(); }))
    return sum.fail("the readers do not come up");
  worker survivor;
  start_publisher(place, shared, survivor, 0, random, true);
  std::array<worker, 4> publishers;
  for (std::size_t i = 0; i < publishers.size(); ++i)
    start_publisher(place, shared, publishers[i], i + 1, random);
  std::array<worker, 2> replayers;
  const auto start_replayer = [&](worker& into) {
    const std::uint64_t own_seed = random();
    into.process.emplace(
        [&, own_seed] { return read_again_and_again(place.url(), shared, pattern, own_seed); });
  };
  for (worker& one : replayers) start_replayer(one);

  const auto end = clock::now() + time;
  while (clock::now() < end && !sum.failed && !shared.words->has_complaint.load()) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    const std::uint64_t dice = random() % 20;
    if (dice < 8) {
      if (!busd.kill()) {
        sum.fail("busd had ended: " + busd.log_tail());
        break;
      }
      ++sum.busd_kills;
      shared.words->busd_is_dead = true;
      // At once, soon, or so late that the ring fills up.
      const std::uint64_t pause = random() % 8;
      if (pause != 0)
        std::this_thread::sleep_for(
            std::chrono::microseconds(random() % (pause == 7 ? 400'000 : 50'000)));
      const auto begun = clock::now();
      busd.start();
      while (random() % 4 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 30'000));
        if (!busd.kill()) sum.fail("busd ended by itself: " + busd.log_tail());
        ++sum.busd_kills;
        ++sum.busd_kills_in_recovery;
        busd.start();
      }
      if (!busd.wait_ready()) sum.fail("busd does not come up: " + busd.log_tail());
      shared.words->busd_is_dead = false;
      sum.ready.add((clock::now() - begun).count());
    } else if (dice < 15) {
      const std::size_t i = random() % publishers.size();
      if (!ended_by_kill(publishers[i])) sum.fail("a publisher had ended by itself");
      ++sum.publisher_kills;
      start_publisher(place, shared, publishers[i], i + 1, random);
    } else {
      worker& one = replayers[random() % replayers.size()];
      if (!ended_by_kill(one)) sum.fail("a reader had ended by itself");
      ++sum.reader_kills;
      start_replayer(one);
    }
  }
  shared.words->stop_publishers = true;
  for (worker& one : publishers)
    if (!one.process->succeeded()) sum.fail("a publisher ended badly");
  if (!survivor.process->succeeded()) sum.fail("the surviving publisher ended badly");
  for (worker& one : replayers) (void)ended_by_kill(one);
  if (busd.pid() <= 0) busd.start();
  if (!busd.wait_ready()) sum.fail("busd does not come up: " + busd.log_tail());
  if (!all_durable(*session))
    sum.fail("what was published does not become durable\n" + busd.log_tail());
  const auto info = session->stream(stream_name);
  const std::uint64_t last = info ? info->lanes[0].last_sequence : 0;
  shared.words->read_up_to = last == 0 ? 1 : last;
  if (!live.succeeded()) sum.fail("the live reader ended badly");
  if (!behind.succeeded()) sum.fail("the reader that falls behind ended badly");
  if (shared.words->has_complaint) return sum.fail(shared.words->complaint.data());

  const replay all = read_all(*session, pattern, bus::start::all(), last);
  if (!all.flaw.empty()) sum.fail("replay: " + all.flaw);
  if (!all.gaps.empty())
    sum.fail("replay: a gap from " + std::to_string(all.gaps[0].first) + " of " +
             std::to_string(all.gaps[0].count));
  if (all.messages.size() != last)
    sum.fail("the log has " + std::to_string(all.messages.size()) + " messages of " +
             std::to_string(last));
  if (const std::string missing = missing_of(*shared.book, 0, all); !missing.empty())
    sum.fail(missing);
  std::printf("  %llu messages in the log, %zu were confirmed\n",
              static_cast<unsigned long long>(all.messages.size()), shared.book->size());
}

// busd and all other processes are killed, and the bus's shared memory is lost: as after a power
// failure of a machine whose disk kept all that was synced.
void lose_memory(const scratch& place, busd_process& busd, std::uint64_t seed, traffic& shared,
                 totals& sum) {
  std::mt19937_64 random(seed);
  auto& words = *shared.words;
  std::uint64_t highest_saved = 0;
  {
    words.stop_publishers = false;
    words.read_up_to = 0;
    shared_value<std::array<std::atomic<bool>, 1>> ready;
    // Records how far it read, much of it unconfirmed.
    child reader([&] {
      auto session = bus::open(place.url());
      if (!session) return words.complain(session.error().message()), 1;
      auto subscriber = session->subscribe(pattern);
      if (!subscriber) return words.complain(subscriber.error().message()), 1;
      (*ready)[0] = true;
      for (;;) {
        (void)subscriber->poll(
            1, [&](const bus::message& m) { raise(words.highest_read, m.sequence()); });
        (void)subscriber->wait(10ms);
      }
    });
    if (!eventually([&] { return (*ready)[0].load(); }))
      return sum.fail("the reader does not come up");
    std::array<worker, 3> publishers;
    for (std::size_t i = 0; i < publishers.size(); ++i)
      start_publisher(place, shared, publishers[i], i, random);
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 300));
    if (!busd.kill()) return sum.fail("busd had ended: " + busd.log_tail());
    ++sum.busd_kills;
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 100));
    for (worker& one : publishers) {
      if (!ended_by_kill(one)) sum.fail("a publisher had ended by itself");
      ++sum.publisher_kills;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 30));
    reader.kill();
    reader.wait();
    highest_saved = words.highest_read.load();
  }
  if (words.has_complaint) return sum.fail(words.complaint.data());
  std::filesystem::remove_all(place.directory());
  ++sum.rounds_without_memory;
  if (!busd.start_and_wait()) return sum.fail("busd does not come up: " + busd.log_tail());
  auto session = bus::open(place.url());
  if (!session) return sum.fail(session.error().message());
  publisher_plan plan;
  plan.subject = stream_name + ".new";
  plan.life = shared.new_life();
  plan.way = confirm_way::each;
  plan.messages = 50;
  const std::size_t notes_before = shared.book->size();
  const std::uint64_t given_before = words.highest_given.load();
  if (child publisher([&] { return publish_numbered(place.url(), shared, plan); });
      !publisher.succeeded())
    return sum.fail(std::string("publishing after the loss: ") + words.complaint.data());
  const std::uint64_t first_new = shared.book->notes[notes_before].sequence;
  if (first_new <= highest_saved || first_new <= given_before)
    sum.fail("sequence " + std::to_string(first_new) +
             " was given out again: " + std::to_string(given_before) + " was given, " +
             std::to_string(highest_saved) + " was read");
  const auto info = session->stream(stream_name);
  if (!info) return sum.fail(info.error().message());
  const std::uint64_t last = info->lanes[0].last_sequence;
  const replay all = read_all(*session, pattern, bus::start::all(), last);
  if (!all.flaw.empty()) sum.fail("replay: " + all.flaw);
  if (const std::string missing = missing_of(*shared.book, 0, all); !missing.empty())
    sum.fail("after the loss of memory: " + missing);
  // Missing sequences are announced as lost with the memory, and as nothing else.
  std::uint64_t next = 1;
  std::size_t gap = 0;
  for (std::size_t i = 0; i <= all.messages.size(); ++i) {
    while (gap < all.gaps.size() && all.gaps[gap].after == i) {
      if (all.gaps[gap].first != next || all.gaps[gap].reason != bus::gap_reason::unsynced)
        sum.fail("a gap (" + std::string(bus::gap_reason_name(all.gaps[gap].reason)) + ") from " +
                 std::to_string(all.gaps[gap].first) + ", expected from " + std::to_string(next));
      next = all.gaps[gap].first + all.gaps[gap].count;
      ++gap;
    }
    if (i == all.messages.size()) break;
    if (all.messages[i].sequence != next)
      sum.fail("sequence " + std::to_string(all.messages[i].sequence) + " came, " +
               std::to_string(next) + " was expected, no gap was reported");
    next = all.messages[i].sequence + 1;
  }
  // A reader resumes at a saved position: it gets what a full replay has from there.
  const auto check_from = [&](std::uint64_t sequence, const char* which) {
    const replay part = read_all(*session, pattern, bus::start::by_sequence(sequence), last);
    if (!part.flaw.empty()) sum.fail(std::string(which) + ": " + part.flaw);
    std::vector<std::uint64_t> expected, came;
    for (const found& f : all.messages)
      if (f.sequence >= sequence) expected.push_back(f.sequence);
    for (const found& f : part.messages) came.push_back(f.sequence);
    if (expected != came)
      sum.fail(std::string(which) + " " + std::to_string(sequence) + ": " +
               std::to_string(came.size()) + " messages from " +
               (came.empty() ? "-" : std::to_string(came.front())) + ", expected " +
               std::to_string(expected.size()) + " from " +
               (expected.empty() ? "-" : std::to_string(expected.front())));
  };
  check_from(highest_saved + 1, "from a position that was not confirmed, ");
  check_from(1 + random() % highest_saved, "from a saved position, ");
  check_from(first_new, "from the first new one, ");
  if (info->epoch != sum.rounds_without_memory + 1)
    sum.fail("the epoch is " + std::to_string(info->epoch));
}

}  // namespace

int main(int argc, char** argv) {
  kill_run run(argc, argv, 40);
  const alarm_guard watchdog(static_cast<unsigned>(run.seconds) * 3 + 120);
  totals sum;
  traffic shared;
  {
    const scratch place, disk(disk_directory());
    // Small buffers make small segments: there are more of them, and busd restarts sooner.
    busd_process busd(place.root(), disk.root(), {"--buffer-bytes", "262144"});
    if (!busd.start_and_wait()) return std::printf("no busd: %s\n", busd.log_tail().c_str()), 1;
    {
      auto session = bus::open(place.url());
      if (!session) return std::printf("%s\n", session.error().message().c_str()), 1;
      const auto added =
          session->add_stream(logged_stream(stream_name, bus::storage_class::durable));
      if (!added) return std::printf("%s\n", added.error().message().c_str()), 1;
    }
    kill_under_load(place, busd, run.share(0.8), run.seed, shared, sum);
    const auto end = clock::now() + run.share(0.2);
    for (int round = 0; !sum.failed && (round == 0 || clock::now() < end); ++round)
      lose_memory(place, busd, ++run.seed, shared, sum);
    if (sum.failed) std::printf("busd said:\n%s\n", busd.log_tail().c_str());
  }
  const auto& words = *shared.words;
  const auto count = [](const auto& n) { return static_cast<unsigned long long>(n); };
  std::printf(
      "%llu kills of busd (%llu while it recovered), %llu of publishers, %llu of readers; "
      "memory lost %llu times\n",
      count(sum.busd_kills), count(sum.busd_kills_in_recovery), count(sum.publisher_kills),
      count(sum.reader_kills), count(sum.rounds_without_memory));
  std::printf(
      "%llu messages published (%llu while busd was dead), %zu confirmed, %llu replays of "
      "%llu messages\n",
      count(words.published.load()), count(words.published_with_busd_dead.load()),
      shared.book->size(), count(words.replays.load()), count(words.replayed.load()));
  std::printf("%llu unconfirmed in time, %llu not published in time, %llu refused\n",
              count(words.unconfirmed.load()), count(words.unavailable.load()),
              count(words.refused.load()));
  std::printf("the longest publish with busd dead and room in the ring: %.3f ms; of all: %.3f ms\n",
              static_cast<double>(words.longest_pause_with_busd_dead_ns.load()) / 1e6,
              static_cast<double>(words.longest_publish_ns.load()) / 1e6);
  std::printf("busd, from its start to its first answer: %s\n", sum.ready.line().c_str());
  if (shared.book->size() == 0 || sum.busd_kills == 0 || words.published_with_busd_dead == 0) {
    std::printf(
        "nothing was confirmed, or killed, or published without busd: this proves nothing\n");
    return 1;
  }
  return sum.failed ? 1 : 0;
}
