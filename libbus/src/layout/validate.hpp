#pragma once
/// validate: checks that a file is of the kind that its name implies, of a supported version and
/// architecture, and as long as its header says. Everything read from shared memory is input.

#include <cstdint>
#include <string>

#include <bus/error.hpp>

#include "layout/segment_header.hpp"

namespace bus::layout {

segment_header make_header(segment_kind kind, std::uint32_t header_bytes, std::uint64_t total_bytes,
                           std::uint64_t bus_id, std::uint64_t owner_id,
                           std::uint64_t created_ns) noexcept;

/// Errors: corrupt (magic, kind, size), unsupported (version: names both; architecture)
result<void> check_header(const segment_header& found, segment_kind kind, std::uint64_t file_bytes,
                          const std::string& path);

error corrupt(const std::string& path, std::string why);

}  // namespace bus::layout
