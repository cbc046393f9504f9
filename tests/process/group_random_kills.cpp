// kill -9, SIGSTOP, leaving and repairs at random moments, while consumers of a group use every
// operation at full speed. busd runs as well and is killed, too. Then the history of all of them
// is judged. By hand: --seconds N --seed S --setting NAME.

#include <algorithm>
#include <cstdlib>

#if defined(BUSD_PROGRAM)
#include "busd_process.hpp"
#endif
#include "failpoint_plan.hpp"
#include "group_stage.hpp"

namespace {

using namespace test;

struct totals {
  std::uint64_t kills = 0, stops = 0, repairs = 0, operations = 0, holds = 0, messages = 0,
                lives = 0;
  times continued;
  bool failed = false;
};

struct seat {
  std::optional<child> process;
  bool consumes = false;
};
struct seat_words {
  std::atomic<std::uint32_t> life{0};
};

// Some operations of every kind; then it leaves and joins again. Returns only to report an error.
int consume(group_stage& on, std::uint64_t seed, seat_words& words) {
  std::mt19937_64 random(seed);
  auto session = bus::open(on.url("&name=worker"));
  if (!session) return on.why().say("worker: " + session.error().message()), 10;
  const auto wait = on.group().ack_wait;
  for (;;) {
    const std::uint32_t life = on.new_life();
    words.life.store(life, std::memory_order_release);
    auto made = group_worker::open(*session, on.history(), life, on.group());
    if (!made) return on.why().say("worker: " + made.error().message()), 11;
    auto& w = *made;
    for (std::uint64_t left = 100 + random() % 3000; left != 0 && !on.history().is_full(); --left) {
      const auto kind = random() % 1000;
      if (w.in_hand() < 12 && (w.in_hand() == 0 || kind < 150)) {
        w.fetch(1 + random() % 8, std::chrono::microseconds(random() % 1000), random() % 4 != 0);
        continue;
      }
      const std::size_t at = random() % w.in_hand();
      if (kind < 700) {
        w.settle(at, verb::ack);
      } else if (kind < 800) {
        w.settle(at, verb::nack, std::chrono::milliseconds(random() % 5));
      } else if (kind < 900) {
        w.settle(at, verb::release);
      } else if (kind < 915) {
        w.settle(at, verb::reject);
      } else if (kind < 990) {
        w.extend(at, random() % 2 == 0 ? std::optional(2 * wait) : std::nullopt);
      } else if (kind < 999) {
        w.settle(at, verb::let_go);
      } else {
        ::usleep(static_cast<useconds_t>(wait / 1us * 3 / 2));
      }
    }
    if (w.altered() != 0) return on.why().say("worker: other bytes"), 12;
    if (w.consumer().failure())
      return on.why().say("worker: " + w.consumer().failure()->message()), 13;
    on.history().ended_ns[life].store(now_ns(), std::memory_order_release);
  }
}

int publish(group_stage& on, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  auto session = bus::open(on.url("&name=feeder"));
  if (!session) return on.why().say("feeder: " + session.error().message()), 10;
  auto made = keyed_publisher::open(*session, "k", 1,
                                    static_cast<std::uint32_t>(random() % on.lanes()), on.keys());
  if (!made) return on.why().say("feeder: " + made.error().message()), 11;
  while (!on.history().is_full()) {
    const std::size_t bytes =
        random() % 50 == 0 ? 2000 + random() % 3000 : sizeof(stamp) + random() % 100;
    const auto status = made->one(random, bytes);
    if (status != bus::publish_status::ok)
      return on.why().say(std::string("feeder: ") + bus::publish_status_name(status) + ": " +
                          made->last_error().message()),
             12;
  }
  for (;;) ::pause();
}

struct setting {
  const char* name;
  bus::overflow policy = bus::overflow::block;
  std::uint32_t lanes = 1;
  bus::group_order order = bus::group_order::none;
  bus::on_fail on_fail = bus::on_fail::block;
  std::uint32_t max_parked = 64;
  bool dead_letters = true;
};

void run_on(const setting& how, std::chrono::milliseconds time, std::uint64_t seed, totals& sum) {
  group_stage::options on;
  on.stream = small_stream("k", how.policy, 256 * 1024);
  on.stream.lanes = how.lanes;
  on.group.order = how.order;
  on.group.on_fail = how.on_fail;
  on.group.max_parked = how.max_parked;
  on.group.dead_letters = how.dead_letters;
  on.group.max_ack_pending = 64;
  on.group.max_deliver = 20;
  on.group.ack_wait = 20ms;
  on.group.backoff = {0ms, 1ms, 2ms};
  on.group.hold_bytes = 4 << 20;
  on.keys = 12;
  group_stage s(on);
  s.begin_round();
#if defined(BUSD_PROGRAM)  // groups of streams in memory need none
  const scratch data(disk_directory());
  busd_process busd(s.place().root(), data.root());
  busd.start();
#endif
  shared_value<std::array<seat_words, 4>> words;
  std::array<seat, 4> seats;
  std::mt19937_64 random(seed);
  const auto start = [&](std::size_t i) {
    seats[i].consumes = i != 0;
    const std::uint64_t own_seed = random();
    seats[i].process.emplace([&, i, own_seed] {
      return seats[i].consumes ? consume(s, own_seed, (*words)[i]) : publish(s, own_seed);
    });
  };
  const auto end_one = [&](std::size_t i) {
    const std::int64_t killed = now_ns();
    seats[i].process->kill();
    const int status = seats[i].process->wait();
    seats[i].process.reset();
    auto& ended = s.history().ended_ns[(*words)[i].life.load(std::memory_order_acquire)];
    if (seats[i].consumes && ended.load() == 0) ended.store(killed, std::memory_order_release);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
      s.checker().complain(complaint_kind::other,
                           "a worker ended with " + std::to_string(status) + ": " + s.why().text);
  };
  for (std::size_t i = 0; i < seats.size(); ++i) start(i);
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end && s.checker().complaints().empty() &&
         !s.history().is_full()) {
    ::usleep(static_cast<useconds_t>(random() % 8000));
    const std::size_t i = random() % seats.size();
    const auto kind = random() % 10;
    if (kind < 6) {
      end_one(i);
      start(i);
      ++sum.kills;
    } else if (kind < 8) {
      seats[i].process->signal(SIGSTOP);
      ::usleep(static_cast<useconds_t>(on.group.ack_wait / 1us + random() % 10'000));
      seats[i].process->signal(SIGCONT);
      ++sum.stops;
#if defined(BUSD_PROGRAM)
    } else if (kind == 8) {
      busd.kill();
      busd.start();
#endif
    } else {
      const auto repaired = s.session().repair_group("k", "g");
      if (!repaired || *repaired != 0)
        s.checker().complain(complaint_kind::other,
                             repaired ? "a repair found nonsense: " + std::to_string(*repaired)
                                      : repaired.error().message());
      ++sum.repairs;
    }
  }
  for (std::size_t i = 0; i < seats.size(); ++i) end_one(i);
  const std::uint64_t holds = s.history().used.load();
  s.look();
  sum.continued.add(s.drain(now_ns()));
  s.expect_as_new();
  sum.operations += s.history().operations.load();
  sum.holds += holds;
  sum.lives += s.history().lives.load();
  sum.messages += s.checker().judged();
  std::printf("%-22s %llu messages, %llu operations%s\n", how.name,
              static_cast<unsigned long long>(s.checker().judged()),
              static_cast<unsigned long long>(s.history().operations.load()),
              s.checker().report().c_str());
  std::fflush(stdout);
  sum.failed = sum.failed || !s.checker().complaints().empty();
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 20;
  std::string_view only;
  std::uint64_t seed = std::random_device{}();
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    if (option == "--seconds") {
      seconds = std::atof(argv[i + 1]);
    } else if (option == "--setting") {
      only = argv[i + 1];
    } else if (option == "--seed") {
      seed = std::strtoull(argv[i + 1], nullptr, 10);
    } else {
      std::fprintf(stderr, "usage: %s [--seconds N] [--seed S] [--setting NAME]\n", argv[0]);
      return 2;
    }
  }
  std::printf("seed %llu (repeat with --seed)\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  const alarm_guard watchdog(static_cast<unsigned>(seconds) * 3 + 120);
  using bus::group_order, bus::overflow, bus::on_fail;
  static constexpr setting settings[] = {
      {.name = "no order"},
      {.name = "keys", .order = group_order::key},
      {.name = "keys, skip", .order = group_order::key, .on_fail = on_fail::skip},
      {.name = "hot keys", .order = group_order::key, .max_parked = 5},
      {.name = "hot keys, three lanes", .lanes = 3, .order = group_order::key, .max_parked = 5},
      {.name = "total order", .order = group_order::total},
      {.name = "drop_oldest", .policy = overflow::drop_oldest},
      {.name = "three lanes, no dlq", .lanes = 3, .dead_letters = false}};
  constexpr auto longest = 2500ms;  // as much as a history holds
  totals sum;
  const auto begin = std::chrono::steady_clock::now();
  const auto all = std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
  const auto share = std::min<std::chrono::milliseconds>(all / std::size(settings), longest);
  do {
    for (const setting& how : settings)
      if (!sum.failed && (only.empty() || only == how.name)) run_on(how, share, seed++, sum);
  } while (!sum.failed && std::chrono::steady_clock::now() - begin + share < all);
  std::printf(
      "%llu operations of %llu consumers on %llu messages, which came %llu times; %llu kills, %llu "
      "stops, %llu "
      "repairs by hand\n",
      static_cast<unsigned long long>(sum.operations), static_cast<unsigned long long>(sum.lives),
      static_cast<unsigned long long>(sum.messages), static_cast<unsigned long long>(sum.holds),
      static_cast<unsigned long long>(sum.kills), static_cast<unsigned long long>(sum.stops),
      static_cast<unsigned long long>(sum.repairs));
  return sum.failed ? 1 : 0;
}
