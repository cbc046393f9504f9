#pragma once
/// lane_files: the files of one lane's log: segments, named by their first sequence, and the
/// lane's state.
///
/// A segment holds the sequences from its base up to the base of the next one. What the older file
/// has beyond that was written again in the newer one.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "log/disk.hpp"
#include "log/format.hpp"

namespace bus::log {

/// Fills `bases` with the bases of the segments, rising. 0 or a negative errno.
int list_segments(disk& from, const std::string& directory, std::vector<std::uint64_t>& bases);

/// Parts of a state that are not as a successful write leaves them.
struct state_damage {
  bool copies = false;  // the newest copy may be lost
  bool bound = false;
};
/// The newest whole copy, raised to the bound. Empty: `failure` is a negative errno; -EBADMSG: no
/// copy is whole.
std::optional<layout::log_state> read_state(disk& from, const std::string& directory, int& failure,
                                            state_damage* damaged = nullptr);
/// Overwrites the older copy and raises `state.generation`. 0 or a negative errno.
int write_state(disk& to, const std::string& directory, layout::log_state& state);
/// Writes the bound of `state`, without a sync. 0 or a negative errno.
/// REQUIRES: everything that it states is durable.
int write_bound(disk& to, const std::string& directory, const layout::log_state& state);
/// Creates the first state, or replaces a damaged one. The caller syncs the directory.
int create_state(disk& to, const std::string& directory, layout::log_state& state);

/// The valid entries of a segment's index up to the first bad one; none when there is no index.
std::vector<layout::log_index_entry> read_index(disk& from, const std::string& directory,
                                                std::uint64_t base_seq, std::uint64_t log_id,
                                                std::uint64_t& bytes_read);

/// A publisher creates this empty file beside an exact state when it publishes after busd has
/// stopped.
inline constexpr std::string_view reopened_name = "reopened";
inline std::string reopened_path(const std::string& directory) {
  return directory + "/" + std::string(reopened_name);
}
inline std::string segment_path(const std::string& directory, std::uint64_t base_seq) {
  return directory + "/" + segment_name(base_seq);
}

}  // namespace bus::log
