#pragma once
/// scenario: what the simulated processes of an execution do, and how to run one execution.

#include <array>
#include <string>
#include <string_view>

#include "publisher.hpp"
#include "subscriber.hpp"

namespace model {

struct scenario {
  std::string_view name;
  std::string_view what;
  enum class lane : std::uint8_t { overwriting, gated, either } lane;
  enum class owners : std::uint8_t { exclusive, shared, either } owners;
  std::uint32_t publishers_max;
  std::uint32_t subscribers_max;
  std::uint32_t turns_min, turns_max;
  std::uint32_t publisher_kill_percent;
  std::uint32_t subscriber_kill_percent;
  bool open_records = false;
  bool sleeps = false;  // readers sleep on the armed word
  bool large_records = false;
  std::uint32_t visits_percent = 50;  // share of readers that leave and come back
  std::uint32_t visits_max = 3;
  std::uint32_t leaves_percent = 5;  // share of polls after which a reader leaves
  bool ponders = false;              // readers sleep for a long time while they hold records
  std::uint32_t skims_percent = 0;   // share of readers that never read a payload
};

inline constexpr std::array<scenario, 8> scenarios{{
    {"overwrite", "an overwriting lane: readers are lapped, resume, and count their losses",
     scenario::lane::overwriting, scenario::owners::exclusive, 1, 2, 20, 70, 30, 5},
    {"gated", "a gated lane: readers enter, release, leave and die; a full publisher sleeps",
     scenario::lane::gated, scenario::owners::either, 2, 3, 20, 60, 15, 20},
    {"shared", "shared publishers that die with the lock, taken over and repaired",
     scenario::lane::either, scenario::owners::shared, 3, 2, 15, 50, 70, 5},
    {"open", "records that are read while they are written, closed or aborted",
     scenario::lane::gated, scenario::owners::exclusive, 1, 2, 10, 40, 60, 5, true},
    {"sleep", "readers that sleep by the armed word", scenario::lane::either,
     scenario::owners::either, 2, 2, 1, 4, 0, 0, false, true, false, 0},
    {"enter", "readers that come, read a little and go, while the ring is overwritten fast",
     scenario::lane::either, scenario::owners::exclusive, 1, 3, 20, 60, 10, 10, false, false, true,
     100, 8, 30, false, 50},
    {"attach", "the same on a lane that holds its publisher back, at every step of an entrance",
     scenario::lane::gated, scenario::owners::exclusive, 1, 3, 30, 80, 0, 5, false, false, true,
     100, 12, 50, false, 90},
    {"full",
     "a publisher that sleeps when the ring is full, woken by the last who gives space back",
     scenario::lane::gated, scenario::owners::exclusive, 1, 2, 4, 16, 0, 0, false, false, true, 80,
     2, 12, true, 80},
}};

class execution {
 public:
  execution(machine& m, world& w) : m_(m), w_(w) {}

  /// Returns the invariant that failed, or an empty string.
  std::string run(const scenario& of, std::uint64_t seed) {
    of_ = &of;
    auto& dice = m_.dice();
    const std::uint64_t capacity = of.large_records || mix(seed ^ 0xca) % 2 == 0 ? 4096 : 8192;
    m_.begin(seed, capacity);
    const bool overwriting = of.lane == scenario::lane::overwriting ||
                             (of.lane == scenario::lane::either && dice.percent(50));
    w_.begin({capacity, overwriting});
    exclusive_ = of.owners == scenario::owners::exclusive ||
                 (of.owners == scenario::owners::either && dice.percent(50));
    publishing_ = {exclusive_, of.open_records,  exclusive_ && !of.open_records,
                   of.sleeps,  of.large_records, dice.pick({0, 480, 992})};
    w_.turns_left = dice.between(of.turns_min, of.turns_max);
    respawns_left_ = 4;
    for (auto& s : subscribers_) s = nullptr;
    m_.on_killed = [this](std::uint32_t id) { replace(id); };
    const std::uint32_t publishers = exclusive_ ? 1 : dice.between(1, of.publishers_max);
    for (std::uint32_t i = 0; i < publishers; ++i) spawn_publisher(true);
    const std::uint32_t readers = dice.between(1, of.subscribers_max);
    for (std::uint32_t i = 0; i < readers; ++i) spawn_subscriber(true, false);

    go_on_until_quiet();
    if (!m_.failure().empty()) return m_.failure();

    // Time passes, and no process dies any more. A survivor publishes twice; a new reader reads
    // everything there is.
    m_.mem.settle();
    w_.turns_left = 2;
    respawns_left_ = 0;
    spawn_publisher(false);
    m_.wake_all(&w_.parked(), machine::wake::timed_out);
    go_on_until_quiet();
    if (!m_.failure().empty()) return m_.failure();
    if (w_.turns_left != 0) return "no progress: the surviving publisher does not get through";
    spawn_subscriber(false, true);
    w_.stopping = true;
    m_.wake_all(nullptr, machine::wake::timed_out);
    m_.run(steps_max);
    if (!m_.failure().empty()) return m_.failure();
    return w_.missing_waypoint();
  }

 private:
  static constexpr std::uint64_t steps_max = 3'000'000;

  std::uint64_t death(std::uint32_t percent) {
    auto& dice = m_.dice();
    return dice.percent(percent) ? dice.between(1, dice.pick({100, 500, 2000, 6000})) : 0;
  }
  void spawn_publisher(bool may_die) {
    const std::uint64_t dies_at = may_die ? death(of_->publisher_kill_percent) : 0;
    m_.spawn(role::writer, dies_at, [this] {
      publisher p(w_, publishing_);
      p.run();
    });
  }
  void spawn_subscriber(bool may_die, bool last) {
    if (w_.pins_used == pin_max) return;
    const std::size_t index = w_.pins_used++;
    const std::uint64_t dies_at = may_die ? death(of_->subscriber_kill_percent) : 0;
    auto& dice = m_.dice();
    const bool gating = !w_.lane.overwriting && (last || of_->open_records || dice.percent(85));
    subscriber_options options;
    options.gating = gating;
    options.wants_open = gating && of_->open_records && dice.percent(70);
    options.sleeps = of_->sleeps && !last;
    options.from_all = last;
    if (!last && dice.percent(of_->visits_percent))
      options.visits_more = dice.between(1, of_->visits_max);
    options.stays = last || dice.percent(60);
    options.leaves_percent = of_->leaves_percent;
    options.ponders = of_->ponders && !last;
    options.skims = !last && dice.percent(of_->skims_percent);
    m_.spawn(role::reader, dies_at, [this, index, options] {
      subscriber s(w_, index, options);
      subscribers_[m_.self().id] = &s;
      const std::uint32_t id = m_.self().id;
      s.run();
      subscribers_[id] = nullptr;
    });
  }
  void replace(std::uint32_t id) {
    const bool was_subscriber = subscribers_[id] != nullptr;
    subscribers_[id] = nullptr;
    // Wakes the processes that sleep until this one dies.
    m_.wake_all(nullptr, machine::wake::timed_out);
    if (respawns_left_ == 0) return;
    --respawns_left_;
    if (was_subscriber)
      spawn_subscriber(true, false);
    else if (w_.turns_left != 0)
      spawn_publisher(true);
  }

  // Runs until every process sleeps or has ended. A process that sleeps although it has work to
  // do missed a wake-up.
  void go_on_until_quiet() {
    for (int rounds = 0; rounds < 2000; ++rounds) {
      m_.run(steps_max);
      if (!m_.failure().empty()) return;
      bool all_read = true;
      for (std::uint32_t id = 1; id <= m_.process_count(); ++id)
        if (m_.state_of(id) == machine::state::asleep && subscribers_[id] == nullptr)
          check_sleeping_publisher(id);
      if (!m_.failure().empty()) return;
      for (std::uint32_t id = 1; id <= m_.process_count(); ++id) {
        if (subscribers_[id] == nullptr || m_.state_of(id) != machine::state::asleep) continue;
        const bool done = subscribers_[id]->at_tail() && subscribers_[id]->holds_nothing();
        all_read = all_read && done;
        if (!done && m_.sleeping_on(id) == &w_.armed())
          return m_.fail("lost wake-up: a reader sleeps, and a committed record was not read");
      }
      if (all_read) {
        for (std::uint32_t id = 1; id <= m_.process_count(); ++id)
          if (m_.state_of(id) == machine::state::asleep && subscribers_[id] == nullptr)
            return m_.fail("lost wake-up: a publisher waits for space, and nobody holds any");
        return;
      }
      m_.wake_all(&w_.parked(), machine::wake::timed_out);
    }
    m_.fail("no progress: readers do not reach the tail");
  }

  // A reader gives up to half a share back without a tick. Until its first tick after entering, a
  // publisher may sleep on the pin of a position where the reader tried to enter but did not
  // stay.
  void check_sleeping_publisher(std::uint32_t id) {
    for (const subscriber* one : subscribers_)
      if (one != nullptr && one->tick_word() == m_.sleeping_on(id) && !one->has_ticked()) return;
    const std::uint64_t need = w_.end_position + w_.intents[id].total_bytes + layout::record_align;
    if (need + w_.lane.capacity_bytes / 16 <= w_.room_end())
      m_.fail("lost wake-up: a publisher waits for space, and there is enough");
  }

  machine& m_;
  world& w_;
  const scenario* of_ = nullptr;
  bool exclusive_ = true;
  publisher_options publishing_;
  std::uint32_t respawns_left_ = 0;
  std::array<const subscriber*, 80> subscribers_{};
};

}  // namespace model
