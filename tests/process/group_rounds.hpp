#pragma once
/// group_rounds: one consumer of a group uses every operation and dies at a failpoint, and the
/// survivor settles the rest. Then the history of both is judged. The group must be as good as
/// new.

#include <functional>

#include "failpoint_plan.hpp"
#include "group_stage.hpp"

namespace test {

/// Small tables, so that the leak of a single slot is noticed.
group_stage::options small_group(bus::overflow policy = bus::overflow::block,
                                 std::uint32_t lanes = 1);

/// Opens its own session and uses every operation of a consumer, `rounds` times. 0: success.
int consume_everything(group_stage& on, std::uint32_t life, int rounds = 3);

using group_victim = std::function<int(std::uint32_t life)>;

struct group_round {
  std::array<std::uint64_t, failpoints> hits{};
  /// from the kill to the survivor's first message; 0: it got none, or no process died
  std::int64_t took_ns = 0;
  std::string where;
};

/// Kills at `at`, or nowhere (failpoint::count). `between` is called after publishing, before the
/// victim starts. Complaints are in the stage's checker.
group_round run_round(
    group_stage& on, failpoint_plan& plan, failpoint at, std::uint64_t hit, std::size_t messages,
    const group_victim& victim, const std::function<void()>& between = [] {});

inline std::string name_of(failpoint at) { return bus::sync::failpoint_name(at); }

}  // namespace test
