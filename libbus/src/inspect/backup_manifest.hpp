#pragma once
/// backup_manifest: lists what a copy of a log must contain: each file with its length and
/// checksum, and the number of messages of each lane. It is written last: a copy without one was
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

namespace bus::inspect {

struct copied_file {
  std::string path;  // path within the copy
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
};

/// CRC-64/XZ. The CRC-32C that the files carry would not do: over bytes followed by their own
/// CRC-32C it is the same whatever the bytes are.
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

/// Writes and syncs it. Returns 0 or a negative errno.
int write_manifest(log::disk& to, const std::string& directory, const backup_manifest& what);
/// Errors: not_found (no manifest: the backup was never finished), corrupt
result<backup_manifest> read_manifest(log::disk& from, const std::string& directory);
/// How the files in `directory` differ from the manifest, in words; empty: they do not.
std::vector<std::string> differences(log::disk& from, const std::string& directory,
                                     const backup_manifest& what);

/// Reads the whole file and sets the length and checksum of what it read. Returns 0 or a negative
/// errno.
int checksum_file(log::disk& from, const std::string& path, std::uint64_t& bytes,
                  std::uint64_t& checksum);
/// Reads a small text file. Returns 0 or a negative errno.
int read_text(log::disk& from, const std::string& path, std::string& text);

}  // namespace bus::inspect
