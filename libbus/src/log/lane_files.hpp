#pragma once
/// lane_files: what lies in the directory of one lane's log: segments by their first sequence, and
/// the lane's state.
///
/// A segment holds the sequences from its base up to the base of the next one: what lies beyond in
/// the older file was written again in the newer one.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "log/disk.hpp"
#include "log/format.hpp"

namespace bus::log {

/// Bases of the segments, rising. 0 or a negative errno.
int list_segments(disk& from, const std::string& directory, std::vector<std::uint64_t>& bases);

/// What the bytes of a state are not that a write which succeeded left there.
struct state_damage {
  bool copies = false;  // the newest copy may be lost
  bool bound = false;
};
/// The newest whole copy, raised to what the bound says. Empty: no copy is whole; `failure` tells
/// why: 0, or a negative errno.
std::optional<layout::log_state> read_state(disk& from, const std::string& directory, int& failure,
                                            state_damage* damaged = nullptr);
/// Over the older copy. `state.generation` is raised. 0 or a negative errno.
int write_state(disk& to, const std::string& directory, layout::log_state& state);
/// The bound of `state`, without a sync.
/// REQUIRES: what it says is durable. 0 or a negative errno.
int write_bound(disk& to, const std::string& directory, const layout::log_state& state);
/// The first one, or instead of a damaged one. The directory is synced by the caller.
int create_state(disk& to, const std::string& directory, layout::log_state& state);

/// Entries of a segment's index that are whole, in order; none when there is no index.
std::vector<layout::log_index_entry> read_index(disk& from, const std::string& directory,
                                                std::uint64_t base_seq, std::uint64_t log_id,
                                                std::uint64_t& bytes_read);

/// Beside a state that is exact: something was given out since. Made by a publisher, empty.
inline constexpr std::string_view reopened_name = "reopened";
inline std::string reopened_path(const std::string& directory) {
  return directory + "/" + std::string(reopened_name);
}
inline std::string segment_path(const std::string& directory, std::uint64_t base_seq) {
  return directory + "/" + segment_name(base_seq);
}

}  // namespace bus::log
