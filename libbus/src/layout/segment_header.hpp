#pragma once
/// segment_header: the first 64 bytes of every shared-memory file: its kind, version and ABI.
///
/// The creator writes it once, before the file gets its name; it never changes afterwards.
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

// "BUSSEG1", read as little endian
inline constexpr std::uint64_t segment_magic = 0x314745535355'42ull;
inline constexpr std::uint16_t layout_major = 1;  // another major is refused
inline constexpr std::uint16_t layout_minor = 0;  // a higher minor only adds

/// Pointer size, byte order and architecture. Processes of two ABIs never share a segment.
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
  /// segment_magic. Any other value means that the file is corrupt.
  std::uint64_t magic;
  /// layout_major of the creator. A process refuses a file of another major.
  std::uint16_t major;
  /// layout_minor of the creator.
  std::uint16_t minor;
  /// abi_tag of the creator. A process refuses a file with another tag.
  std::uint32_t abi;
  /// What the rest of the file holds. It must match the kind that the file's name implies.
  segment_kind kind;
  /// Size of the kind's own header struct, so that later versions can add fields at its end.
  std::uint32_t header_bytes;
  /// Size of the file when it was made. A file of another size is refused; only a process file may
  /// have grown since.
  std::uint64_t total_bytes;
  /// Random id of the bus, the same in every segment of the bus.
  std::uint64_t bus_id;
  /// Stream id for a stream's segments, process id for a process file, bus id for `control`.
  std::uint64_t owner_id;
  /// Wall clock at creation, for people.
  std::uint64_t created_ns;
  /// Written as 0, and ignored.
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
