#pragma once
/// subjects: the subjects of a stream in its log. A record in the log names its subject by id, so a
/// missing or changed entry would give a message another subject. Therefore an entry counts only
/// with a checksum that covers its id and its stream, and the number of entries is known from
/// elsewhere (the states and segments of the lanes).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "log/disk.hpp"

namespace bus::log {

struct known_subject {
  std::string text;
  std::uint64_t type = 0;
  bool operator==(const known_subject&) const = default;
};

struct subjects_found {
  std::vector<std::optional<known_subject>> by_id;  // empty: damaged, with whole ones above
  std::uint64_t stream_id = 0;                      // of the header; 0: it is damaged
  std::uint64_t bad_bytes = 0;                      // neither zero nor part of a whole entry
  // entries that follow each other from id 0 on, without a bad byte
  std::uint64_t prefix_count = 0;
  std::uint64_t prefix_end = 0;  // where they end
};

/// Finds every whole entry, wherever it lies. `stream_id`: 0 uses the header's; then a damaged
/// header is -EBADMSG. -ESTALE: they belong to another stream. 0 or a negative errno.
int read_subjects(disk& from, const std::string& path, std::uint64_t stream_id,
                  subjects_found& found);

std::string subjects_path(const std::string& stream_directory);
/// A second copy, written after the first, and not synced then.
std::string subjects_copy_path(const std::string& stream_directory);

}  // namespace bus::log
