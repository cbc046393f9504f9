#pragma once
/// hold_arena: copies of messages that would pin the ring, and texts of failures, in chains of
/// blocks.
///
/// REQUIRES for all: the group's lock, except `copy_out` of a chain that the caller's lease keeps.
/// The free blocks are an index: repair rebuilds it from the slots that have chains.

#include <algorithm>
#include <cstring>

#include "base/bits.hpp"
#include "group/group_memory.hpp"
#include "sync/access.hpp"

namespace bus::group {

class hold_arena {
 public:
  explicit hold_arena(const group_memory& memory) noexcept : memory_(memory) {}

  std::uint32_t free_blocks() const noexcept { return memory_.lists().block_free; }
  static constexpr std::uint64_t blocks_for(std::uint64_t bytes) noexcept {
    return (bytes + layout::group_block_bytes - 1) / layout::group_block_bytes;
  }

  /// Copies the bytes. Returns the first block; no_index: there is no room.
  std::uint32_t put(const std::byte* from, std::uint64_t bytes) const noexcept {
    auto& lists = memory_.lists();
    const std::uint64_t count = std::max<std::uint64_t>(blocks_for(bytes), 1);
    if (count > lists.block_free) return no_index;
    const std::uint32_t first = lists.block_first;
    std::uint32_t at = first;
    for (std::uint64_t i = 0;; ++i) {
      if (!is_block(at)) return no_index;
      const std::uint64_t done = i * layout::group_block_bytes;
      const std::uint64_t part = std::min<std::uint64_t>(layout::group_block_bytes, bytes - done);
      sync::hardware::copy_out(block(at), from + done, part);
      if (i + 1 == count) break;
      at = memory_.chain[at];
    }
    lists.block_first = memory_.chain[at];
    lists.block_free -= static_cast<std::uint32_t>(count);
    memory_.chain[at] = no_index;
    return first;
  }

  void copy_out(std::byte* to, std::uint32_t first, std::uint64_t offset,
                std::uint64_t bytes) const noexcept {
    for (; bytes != 0 && first != no_index && is_block(first); first = memory_.chain[first]) {
      if (offset >= layout::group_block_bytes) {
        offset -= layout::group_block_bytes;
        continue;
      }
      const std::uint64_t part = std::min<std::uint64_t>(layout::group_block_bytes - offset, bytes);
      sync::hardware::copy_out(to, block(first) + offset, part);
      to += part;
      bytes -= part;
      offset = 0;
    }
  }

  /// Frees a chain of `bytes`.
  void drop(std::uint32_t first, std::uint64_t bytes) const noexcept {
    auto& lists = memory_.lists();
    std::uint64_t count = std::max<std::uint64_t>(blocks_for(bytes), 1);
    for (std::uint32_t at = first; at != no_index && count != 0; --count) {
      if (!is_block(at)) return;
      const std::uint32_t next = memory_.chain[at];
      memory_.chain[at] = lists.block_free == 0 ? no_index : std::uint32_t(lists.block_first);
      lists.block_first = at;
      ++lists.block_free;
      at = next;
    }
  }

  std::byte* block(std::uint32_t index) const noexcept {
    return memory_.blocks + std::uint64_t{index} * layout::group_block_bytes;
  }
  bool is_block(std::uint32_t index) const noexcept {
    if (index < memory_.block_count) [[likely]]
      return true;
    memory_.broken = true;
    return false;
  }

 private:
  const group_memory& memory_;
};

}  // namespace bus::group
