#pragma once
/// bug_table: every weakened edge and omitted step, with the scenario that catches it.
/// docs/memory_model.md explains them.

#include <array>
#include <string_view>

#include "seeded_bug.hpp"

namespace model {

struct bug_entry {
  std::string_view name;
  std::string_view scenario;
  seeded_bug bug;
};

inline constexpr auto bug_table = std::to_array<bug_entry>({
    {"R1-commit-release", "overwrite", {bus::sync::edge::commit, side::release, omission::none}},
    {"R1-commit-acquire", "overwrite", {bus::sync::edge::commit, side::acquire, omission::none}},
    {"R1-open-release", "open", {bus::sync::edge::commit, side::release, omission::none}},
    {"R1-open-acquire", "open", {bus::sync::edge::commit, side::acquire, omission::none}},
    {"R2-reserve-release-fence",
     "overwrite",
     {bus::sync::edge::reserve, side::release_fence, omission::none}},
    {"R2-lapped-acquire-fence",
     "overwrite",
     {bus::sync::edge::reserve, side::acquire_fence, omission::none}},
    {"P1-waypoint-release",
     "overwrite",
     {bus::sync::edge::waypoint, side::release, omission::none}},
    {"P1-waypoint-acquire",
     "overwrite",
     {bus::sync::edge::waypoint, side::acquire, omission::none}},
    {"G1-publisher-fence", "gated", {bus::sync::edge::gate, side::writer_fence, omission::none}},
    {"G1-reader-fence", "gated", {bus::sync::edge::gate, side::reader_fence, omission::none}},
    {"W1-armed-release", "sleep", {bus::sync::edge::armed, side::release, omission::none}},
    {"W1-armed-acquire", "sleep", {bus::sync::edge::armed, side::acquire, omission::none}},
    {"L1-unlock-release", "shared", {bus::sync::edge::lock, side::release, omission::none}},
    {"L1-lock-acquire", "shared", {bus::sync::edge::lock, side::acquire, omission::none}},
    {"O1-progress-release", "open", {bus::sync::edge::progress, side::release, omission::none}},
    {"O1-progress-acquire", "open", {bus::sync::edge::progress, side::acquire, omission::none}},
    {"no-zero", "overwrite", {bus::sync::edge::none, side::none, omission::zero}},
    {"no-zero-open", "open", {bus::sync::edge::none, side::none, omission::zero}},
    {"no-reserved-end", "overwrite", {bus::sync::edge::none, side::none, omission::reserved_end}},
    {"no-lap-check", "overwrite", {bus::sync::edge::none, side::none, omission::lap_check}},
    {"no-candidate", "gated", {bus::sync::edge::none, side::none, omission::candidate}},
    {"repair-keeps-zero-end",
     "shared",
     {bus::sync::edge::none, side::none, omission::repaired_zero_end}},
    {"no-repair", "shared", {bus::sync::edge::none, side::none, omission::repair}},
    {"no-armed-count", "sleep", {bus::sync::edge::none, side::none, omission::armed_count}},
    {"no-second-look", "sleep", {bus::sync::edge::none, side::none, omission::second_look}},
    {"P1-waypoint-release-fence",
     "enter",
     {bus::sync::edge::waypoint, side::release_fence, omission::none}},
    {"P1-waypoint-acquire-fence",
     "enter",
     {bus::sync::edge::waypoint, side::acquire_fence, omission::none}},
    {"G1-limit-acquire", "attach", {bus::sync::edge::gate, side::acquire, omission::none}},
    {"G2-cursor-release", "gated", {bus::sync::edge::cursor, side::release, omission::none}},
    {"W2-tick-release", "full", {bus::sync::edge::waiting, side::release, omission::none}},
    {"W2-reader-fence", "full", {bus::sync::edge::waiting, side::reader_fence, omission::none}},
    {"W2-publisher-fence", "full", {bus::sync::edge::waiting, side::writer_fence, omission::none}},
    {"no-confirmation", "enter", {bus::sync::edge::none, side::none, omission::confirmation}},
    {"no-second-scan", "full", {bus::sync::edge::none, side::none, omission::second_scan}},
    {"late-announcement",
     "enter",
     {bus::sync::edge::none, side::none, omission::late_announcement}},
});

}  // namespace model
