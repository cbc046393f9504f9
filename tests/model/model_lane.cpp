/// model_lane: runs the product's lane code on a model of weak memory, under random schedules
/// that may kill a process at any operation.
///
///   model_lane [--seconds N] [--executions N] [--seed S] [--scenario NAME] [--bug NAME]
///   model_lane --list     the seeded bugs
///
/// Exits with 0 when no invariant failed; with --bug, when the bug was caught (`--bug all`: each
/// one, in turn). An execution depends only on its seed, scenario and bug: to repeat a failure,
/// pass `--seed S --executions 1` with the same scenario and bug.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>

#include "bug_table.hpp"
#include "scenario.hpp"

namespace {

using clock_type = std::chrono::steady_clock;

struct request {
  double seconds = 20;
  std::uint64_t executions = ~0ull;
  std::optional<std::uint64_t> seed;
  std::string scenario;  // empty: all
  std::string bug;       // empty: none
};

struct outcome {
  std::uint64_t executions = 0;
  std::uint64_t steps = 0;
  std::uint64_t seed = 0;  // of the failure
  std::string scenario;
  std::string failure;
};

// The scenarios take turns. A seed runs every scenario once.
outcome explore(const request& wanted, std::string_view only, const model::seeded_bug& bug,
                std::uint64_t seed, double seconds) {
  static model::machine machine;
  static model::world world(machine);
  model::active = &machine;
  model::watching = &world;
  machine.bug = bug;
  const auto end = clock_type::now() + std::chrono::duration<double>(seconds);
  const std::uint64_t steps_before = machine.steps();
  outcome found;
  while (found.executions < wanted.executions && clock_type::now() < end && found.failure.empty()) {
    for (const model::scenario& scenario : model::scenarios) {
      if (!only.empty() && only != scenario.name) continue;
      ++found.executions;
      model::execution execution(machine, world);
      found.failure = execution.run(scenario, seed);
      if (!found.failure.empty()) {
        found.seed = seed;
        found.scenario = scenario.name;
        break;
      }
    }
    ++seed;
  }
  found.steps = machine.steps() - steps_before;
  return found;
}

int run_bug(const request& wanted, const model::bug_entry& entry, std::uint64_t seed) {
  const outcome found = explore(wanted, wanted.scenario.empty() ? entry.scenario : wanted.scenario,
                                entry.bug, seed, wanted.seconds);
  if (found.failure.empty()) {
    std::printf("MISSED  %-28s %-10s seed %llu, %llu executions\n", std::string(entry.name).c_str(),
                std::string(entry.scenario).c_str(), static_cast<unsigned long long>(seed),
                static_cast<unsigned long long>(found.executions));
    return 1;
  }
  std::printf("caught  %-28s %-10s after %llu, seed %llu: %s\n", std::string(entry.name).c_str(),
              found.scenario.c_str(), static_cast<unsigned long long>(found.executions),
              static_cast<unsigned long long>(found.seed), found.failure.c_str());
  return 0;
}

int run_bugs(const request& wanted, std::uint64_t seed) {
  int missed = 0;
  bool known = false;
  for (const model::bug_entry& entry : model::bug_table) {
    if (wanted.bug != "all" && wanted.bug != entry.name) continue;
    known = true;
    missed += run_bug(wanted, entry, seed);
    std::fflush(stdout);
  }
  if (!known) std::printf("no such bug: %s\n", wanted.bug.c_str());
  return known && missed == 0 ? 0 : 1;
}

bool parse(int argc, char** argv, request& into) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view option = argv[i];
    if (option == "--seconds")
      into.seconds = std::atof(argv[i + 1]);
    else if (option == "--executions")
      into.executions = std::strtoull(argv[i + 1], nullptr, 0);
    else if (option == "--seed")
      into.seed = std::strtoull(argv[i + 1], nullptr, 0);
    else if (option == "--scenario")
      into.scenario = argv[i + 1];
    else if (option == "--bug")
      into.bug = argv[i + 1];
    else
      return false;
  }
  const bool known =
      into.scenario.empty() || std::any_of(model::scenarios.begin(), model::scenarios.end(),
                                           [&](const auto& s) { return s.name == into.scenario; });
  return argc % 2 == 1 && known;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--list") {
    for (const model::bug_entry& entry : model::bug_table)
      std::printf("%s\n", std::string(entry.name).c_str());
    return 0;
  }
  request wanted;
  if (!parse(argc, argv, wanted)) {
    std::fprintf(stderr,
                 "usage: model_lane [--seconds N] [--executions N] [--seed S] [--scenario NAME] "
                 "[--bug NAME|all] | --list\n");
    return 2;
  }
  const std::size_t runs = wanted.bug == "all" ? model::bug_table.size() : 1;
  // ends an execution that never ends
  ::alarm(static_cast<unsigned>(wanted.seconds * static_cast<double>(runs)) + 100);
  const std::uint64_t seed = wanted.seed ? *wanted.seed : std::random_device{}();
  if (!wanted.bug.empty()) return run_bugs(wanted, seed);
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  const outcome found = explore(wanted, wanted.scenario, {}, seed, wanted.seconds);
  std::printf("%llu executions, %llu steps\n", static_cast<unsigned long long>(found.executions),
              static_cast<unsigned long long>(found.steps));
  if (found.failure.empty()) return 0;
  std::printf(
      "FAILED  scenario %s: %s\nrepeat: model_lane --executions 1 --seed %llu --scenario %s\n",
      found.scenario.c_str(), found.failure.c_str(), static_cast<unsigned long long>(found.seed),
      found.scenario.c_str());
  return 1;
}
