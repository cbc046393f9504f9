#pragma once
/// group_rounds: one consumer of a group does everything, dies at a named step, and the survivor
/// goes on; then the history of both is judged, and the group must be as good as new.

#include <functional>

#include "failpoint_plan.hpp"
#include "group_stage.hpp"

namespace test {

/// Small tables, so that a leak of one slot shows.
group_stage::options small_group(bus::overflow policy = bus::overflow::block,
                                 std::uint32_t lanes = 1);

/// Opens its own session and does everything that a consumer may, `rounds` times. 0: fine.
int consume_everything(group_stage& on, std::uint32_t life, int rounds = 3);

using group_victim = std::function<int(std::uint32_t life)>;

struct group_round {
  std::array<std::uint64_t, failpoints> hits{};
  /// from the kill to the survivor's first message; 0: it got none, or nobody died
  std::int64_t took_ns = 0;
  std::string where;
};

/// Kills at `at`, nowhere with failpoint::count. `between`: when there are messages, before the
/// victim comes. Complaints are in the stage's checker.
group_round run_round(
    group_stage& on, failpoint_plan& plan, failpoint at, std::uint64_t hit, std::size_t messages,
    const group_victim& victim, const std::function<void()>& between = [] {});

inline std::string name_of(failpoint at) { return bus::sync::failpoint_name(at); }

}  // namespace test
