#pragma once
/// read_around: reads a file some of whose pages cannot be read.

#include <cstddef>
#include <cstdint>
#include <span>

#include "log/disk.hpp"

namespace bus::log {

/// Replaces what is lost. No part of a log consists of it, so a reader finds damage there.
inline constexpr std::byte lost_byte{0xff};

/// As disk::read(). A page that the disk cannot read (EIO twice) is filled with lost_byte and
/// counted in `unreadable_bytes`. -EIO when none of it, nor the file's first or last byte, can be
/// read, because then the disk has failed.
std::int64_t read_around(disk& from, disk_file file, std::span<std::byte> into,
                         std::uint64_t offset, std::uint64_t& unreadable_bytes);

}  // namespace bus::log
