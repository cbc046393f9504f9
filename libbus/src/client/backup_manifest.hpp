#pragma once
/// backup_manifest: what a copy of a log must consist of: every file with its length and checksum,
/// and how many messages there are in each lane. It is written last, so that a copy without one was
/// never finished.
///
/// Threads    any
/// Format     docs/format/log.md

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <boost/crc.hpp>

#include <bus/error.hpp>

#include "log/disk.hpp"

namespace bus::client {

struct copied_file {
  std::string path;  // in the copy
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
};

/// CRC-64/XZ. Not the CRC-32C that the files themselves carry: of bytes that are followed by their
/// own checksum that one is the same whatever they are.
class file_checksum {
 public:
  void add(std::span<const std::byte> part) noexcept {
    crc_.process_bytes(part.data(), part.size());
  }
  std::uint64_t value() const noexcept { return crc_.checksum(); }

 private:
  boost::crc_optimal<64, 0x42f0e1eba9ea3693u, ~0ull, ~0ull, true, true> crc_;
};

struct copied_lane {
  std::uint32_t lane = 0;
  std::uint64_t first_seq = 0, last_seq = 0, messages = 0;
};

struct backup_manifest {
  std::vector<copied_file> files;
  std::vector<copied_lane> lanes;
  std::uint64_t messages() const noexcept;
};

inline constexpr const char* manifest_name = "manifest";

/// Written, synced. 0 or a negative errno.
int write_manifest(log::disk& to, const std::string& directory, const backup_manifest& what);
/// Errors: not_found (no manifest: never finished), corrupt
result<backup_manifest> read_manifest(log::disk& from, const std::string& directory);
/// What of it is not as the manifest says, in words; empty: everything is.
std::vector<std::string> differences(log::disk& from, const std::string& directory,
                                     const backup_manifest& what);

/// The whole file. 0 or a negative errno; `bytes` and `checksum` of what was read.
int checksum_file(log::disk& from, const std::string& path, std::uint64_t& bytes,
                  std::uint64_t& checksum);
/// A small text file. 0 or a negative errno.
int read_text(log::disk& from, const std::string& path, std::string& text);

}  // namespace bus::client
