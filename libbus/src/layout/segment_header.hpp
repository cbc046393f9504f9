#pragma once
/// segment_header: the first 64 bytes of every shared-memory file: what it is, which version, which
/// machine.
///
/// Written once, before the file gets its name; never changed afterwards.
/// Format     docs/format/ring.md

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace bus::layout {

enum class segment_kind : std::uint32_t {
  control = 1,
  stream = 2,
  subjects = 3,
  lane = 4,
  readers = 5,
  process = 6,
  bell = 7,
  group = 8,
};

// "BUSSEG1" read as little endian
inline constexpr std::uint64_t segment_magic = 0x314745535355'42ull;
inline constexpr std::uint16_t layout_major = 1;  // another major is refused
inline constexpr std::uint16_t layout_minor = 0;  // a higher minor only adds

/// Architecture and byte order; two ABIs never share a segment.
inline constexpr std::uint32_t abi_tag =
    (std::endian::native == std::endian::little ? 0x100u : 0x200u) | sizeof(void*)
#if defined(__x86_64__)
    | 0x10000u;
#elif defined(__aarch64__)
    | 0x20000u;
#else
#error "libbus knows the clocks and memory order of x86-64 and arm64 only"
#endif

struct segment_header {
  std::uint64_t magic;
  std::uint16_t major;
  std::uint16_t minor;
  std::uint32_t abi;
  segment_kind kind;
  std::uint32_t header_bytes;  // size of the kind's own header, for additive growth
  std::uint64_t total_bytes;   // size of the file; a shorter file is refused
  std::uint64_t bus_id;        // random, the same in every segment of one bus
  std::uint64_t owner_id;      // stream id for a stream's segments, process id for a process's
  std::uint64_t created_ns;    // wall clock, for people
  std::uint64_t reserved;
};

static_assert(std::is_standard_layout_v<segment_header>);
static_assert(sizeof(segment_header) == 64);
static_assert(offsetof(segment_header, major) == 8);
static_assert(offsetof(segment_header, kind) == 16);
static_assert(offsetof(segment_header, total_bytes) == 24);
static_assert(offsetof(segment_header, bus_id) == 32);
static_assert(offsetof(segment_header, owner_id) == 40);

}  // namespace bus::layout
