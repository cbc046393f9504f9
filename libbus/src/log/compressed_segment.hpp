#pragma once
/// compressed_segment: returns the bytes of a compressed segment as they were written.
///
/// Invariants
///   BLOCKS-1  A block is returned only when its checksums hold. Sizes are checked before they are
///             used, and no block is larger than log_block_bytes.
///   BLOCKS-2  Any other block reads as lost_byte, so that what the good blocks hold is found.
///   BLOCKS-3  Without the table, the blocks are found by their heads.
///
/// Threads    one
/// Format     docs/format/log.md

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "layout/log.hpp"
#include "log/disk.hpp"

struct ZSTD_DCtx_s;

namespace bus::log {

class compressed_segment {
 public:
  explicit compressed_segment(disk& from) noexcept : disk_(&from) {}

  /// Takes an open file. `header` is empty when it is damaged: then only the table shows that the
  /// segment is compressed. 0; -ENOENT: it is not compressed; -EPROTONOSUPPORT: built without zstd;
  /// or a negative errno.
  int open(disk_file file, std::uint64_t file_bytes, std::uint64_t log_id,
           const std::optional<layout::log_segment_header>& header);

  /// Length of the segment as it was written.
  std::uint64_t bytes() const noexcept { return bytes_; }
  /// From here on there are only zeroes that belong to no record.
  std::uint64_t data_end() const noexcept;
  /// False: the table or the file's length is damaged.
  bool is_whole() const noexcept { return whole_; }

  /// As disk::read(), of the segment as it was written.
  std::int64_t read(std::span<std::byte> into, std::uint64_t offset);
  std::uint64_t bytes_read() const noexcept { return bytes_read_; }
  std::uint64_t unreadable_bytes() const noexcept { return unreadable_bytes_; }

 private:
  struct free_context {
    void operator()(ZSTD_DCtx_s* context) const noexcept;
  };

  std::int64_t read_file(std::span<std::byte> into, std::uint64_t offset);
  int read_table(std::uint64_t file_bytes, bool& found);
  int find_blocks();
  int load(std::size_t index, std::span<std::byte, layout::log_block_bytes> into);
  bool unpack(std::span<const std::byte> stored, std::uint64_t offset,
              std::span<std::byte, layout::log_block_bytes> into);

  disk* disk_;
  disk_file file_ = -1;
  std::uint32_t seed_ = 0;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t bytes_ = 0;
  bool whole_ = true;
  std::vector<std::uint64_t> blocks_;  // offset of each in the file; 0: lost
  std::unique_ptr<ZSTD_DCtx_s, free_context> context_;
  std::vector<std::byte> stored_;  // a block as stored in the file
  std::vector<std::byte> cache_;   // the block that was last read in part
  std::size_t cached_ = ~std::size_t{0};
  std::uint64_t bytes_read_ = 0;
  std::uint64_t unreadable_bytes_ = 0;
};

}  // namespace bus::log
