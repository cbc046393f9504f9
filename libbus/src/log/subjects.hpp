#pragma once
/// subjects: the subjects of a stream as its log knows them.

#include <cstdint>
#include <string>
#include <vector>

#include "log/disk.hpp"

namespace bus::log {

struct known_subject {
  std::string text;
  std::uint64_t type = 0;
};

/// Up to the first entry that is not whole; `end` is where the next one goes. 0 or a negative
/// errno.
int read_subjects(disk& from, const std::string& path, std::vector<known_subject>& subjects,
                  std::uint64_t& end);

}  // namespace bus::log
