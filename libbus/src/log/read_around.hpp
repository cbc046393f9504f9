#pragma once
/// read_around: reads what can be read of a file of which some pages cannot.

#include <cstddef>
#include <cstdint>
#include <span>

#include "log/disk.hpp"

namespace bus::log {

/// Comes instead of what is lost: it is part of nothing that a log holds, so whoever walks over it
/// finds damage.
inline constexpr std::byte lost_byte{0xff};

/// As disk::read(). A page that the disk cannot read (EIO, also when asked once more) comes as
/// lost_byte and is counted in `unreadable_bytes`. EIO when nothing of the file can be read: then
/// it is the disk.
std::int64_t read_around(disk& from, disk_file file, std::span<std::byte> into,
                         std::uint64_t offset, std::uint64_t& unreadable_bytes);

}  // namespace bus::log
