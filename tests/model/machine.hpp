#pragma once
/// machine: simulated processes of one thread each on the model of memory. A seeded generator
/// chooses which one runs next, at every operation. A kill ends a process at an operation: its
/// earlier stores remain, and it never runs again.

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fiber.hpp"
#include "memory.hpp"
#include "random.hpp"
#include "seeded_bug.hpp"

namespace model {

class machine {
 public:
  enum class state : std::uint8_t { ready, asleep, finished, killed };
  enum class wake : std::uint8_t { woken, timed_out };

  struct process {
    fiber runs;
    memory::thread knows;
    state is = state::finished;
    role plays = role::reader;
    bool repairing = false;
    const void* sleeps_on = nullptr;
    wake woken_by = wake::woken;
    std::uint32_t id = 0;
    std::uint64_t operations = 0;
    std::uint64_t dies_at = 0;  // operation number, 0: never
  };

  memory mem;
  seeded_bug bug;
  std::function<void(std::uint32_t)> on_killed;  // called by the scheduler

  void begin(std::uint64_t seed, std::uint64_t capacity_bytes) {
    random_ = random(mix(seed));
    mem.begin(seed ^ 0x5bd1e995u, capacity_bytes);
    for (auto& p : processes_) p->runs.drop();
    used_ = 0;
    running_ = nullptr;
    failure_.clear();
    switch_percent_ = random_.pick({2, 5, 15, 40});
    burst_ = 0;
  }
  random& dice() { return random_; }

  /// Process numbers start at 1 and are never reused within an execution. A new process starts
  /// with an empty view; the kernel guarantees more than that.
  std::uint32_t spawn(role plays, std::uint64_t dies_at, std::function<void()> body) {
    if (used_ == processes_.size()) processes_.push_back(std::make_unique<process>());
    process& p = *processes_[used_++];
    p.knows.clear();
    p.id = used_;
    p.is = state::ready;
    p.plays = plays;
    p.repairing = false;
    p.sleeps_on = nullptr;
    p.operations = 0;
    p.dies_at = dies_at;
    p.runs.start(std::move(body));
    return used_;
  }
  bool killed(std::uint32_t id) const {
    return id == 0 || id > used_ || processes_[id - 1]->is == state::killed;
  }
  state state_of(std::uint32_t id) const { return processes_[id - 1]->is; }
  const void* sleeping_on(std::uint32_t id) const { return processes_[id - 1]->sleeps_on; }
  std::uint32_t process_count() const { return used_; }
  process& self() { return *running_; }
  /// Called with proof that `id` is dead: all its stores happen before what the caller does next.
  void adopt_dead(std::uint32_t id) {
    if (id != 0 && id <= used_) mem.adopt(running_->knows, processes_[id - 1]->knows);
  }

  /// Runs until no process can continue. More than `limit` operations count as a lack of
  /// progress.
  void run(std::uint64_t limit) {
    const std::uint64_t end = steps_ + limit;
    while (failure_.empty()) {
      std::array<process*, 64> ready;
      std::size_t count = 0;
      for (std::uint32_t i = 0; i < used_ && count < ready.size(); ++i)
        if (processes_[i]->is == state::ready && processes_[i].get() != shunned_)
          ready[count++] = processes_[i].get();
      if (count == 0 && shunned_ != nullptr && shunned_->is == state::ready)
        ready[count++] = shunned_;
      shunned_ = nullptr;
      if (count == 0) return;
      running_ = ready[count == 1 ? 0 : random_.below(count)];
      burst_ = 1;
      while (!random_.percent(switch_percent_) && burst_ < 400) ++burst_;
      running_->runs.resume();
      if (running_->runs.finished() && running_->is == state::ready) running_->is = state::finished;
      const process& ran = *std::exchange(running_, nullptr);
      if (ran.is == state::killed && failure_.empty()) on_killed(ran.id);
      if (steps_ > end) fail("no progress: an execution does not end");
    }
  }

  // Called by the simulated processes.

  /// Before every operation: the process may be preempted or killed here.
  void point() {
    ++steps_;
    process& p = *running_;
    if (++p.operations == p.dies_at) {
      p.is = state::killed;
      p.runs.yield();
    }
    mem.drift(p.knows);
    if (--burst_ == 0) p.runs.yield();
  }
  /// The process has nothing to do now: the scheduler prefers another one.
  void pause() {
    point();
    shunned_ = running_;
    burst_ = 0;
    running_->runs.yield();
  }
  /// Like a futex: sleeps while the word is still `expected` and process `lives` (0: none) is
  /// alive.
  wake sleep(const void* word, std::uint64_t expected, std::uint32_t lives = 0) {
    point();
    process& p = *running_;
    if (mem.newest(word) != expected || (lives != 0 && killed(lives))) return wake::woken;
    p.is = state::asleep;
    p.sleeps_on = word;
    p.runs.yield();
    return p.woken_by;
  }
  void wake_all(const void* word, wake by = wake::woken) {
    for (std::uint32_t i = 0; i < used_; ++i) {
      process& p = *processes_[i];
      if (p.is != state::asleep || (word != nullptr && p.sleeps_on != word)) continue;
      p.is = state::ready;
      p.sleeps_on = nullptr;
      p.woken_by = by;
    }
  }
  /// Ends the execution as failed.
  void fail(std::string why) {
    if (failure_.empty()) failure_ = std::move(why);
    if (running_ != nullptr) {
      running_->is = state::killed;
      running_->runs.yield();
    }
  }
  const std::string& failure() const { return failure_; }
  std::uint64_t steps() const { return steps_; }

 private:
  random random_{0};
  std::vector<std::unique_ptr<process>> processes_;
  std::uint32_t used_ = 0;
  process* running_ = nullptr;
  process* shunned_ = nullptr;
  std::string failure_;
  std::uint32_t switch_percent_ = 10;
  std::uint32_t burst_ = 0;
  std::uint64_t steps_ = 0;
};

}  // namespace model
