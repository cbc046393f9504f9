#include "log/compressed_segment.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#if BUS_ZSTD
#include <zstd.h>
#endif

#include "log/format.hpp"
#include "log/read_around.hpp"

namespace bus::log {

namespace {

using layout::log_block_bytes;

constexpr std::uint64_t first_block = layout::log_header_bytes;  // in the segment as it was written
constexpr std::uint64_t bytes_max = 2 * layout::log_segment_max_bytes;

}  // namespace

#if BUS_ZSTD
void compressed_segment::free_context::operator()(ZSTD_DCtx_s* context) const noexcept {
  ::ZSTD_freeDCtx(context);
}
#else
void compressed_segment::free_context::operator()(ZSTD_DCtx_s*) const noexcept {}
#endif

int compressed_segment::open(disk_file file, std::uint64_t file_bytes, std::uint64_t log_id,
                             const std::optional<layout::log_segment_header>& header) {
  const bool says_so = header && header->major == layout::log_major_compressed &&
                       (header->flags & layout::log_flag_compressed) != 0 &&
                       header->segment_bytes <= bytes_max;
  if (header && !says_so) return -ENOENT;
  file_ = file;
  file_bytes_ = file_bytes;
  seed_ = seed_of(log_id);
  blocks_.clear();
  cached_ = ~std::size_t{0};
  bytes_read_ = unreadable_bytes_ = 0;
  whole_ = true;
  bool has_table = false;
  if (const int failure = read_table(file_bytes, has_table); failure != 0) return failure;
  if (!has_table && !says_so) return -ENOENT;
#if !BUS_ZSTD
  return -EPROTONOSUPPORT;
#endif
  whole_ = whole_ && has_table && (!says_so || bytes_ == header->segment_bytes);
  stored_.resize(block_file_bytes(log_block_bytes));
  cache_.resize(log_block_bytes);
  if (has_table) return 0;
  bytes_ = header->segment_bytes;
  return find_blocks();
}

std::uint64_t compressed_segment::data_end() const noexcept {
  return std::min(bytes_, first_block + blocks_.size() * log_block_bytes);
}

std::int64_t compressed_segment::read_file(std::span<std::byte> into, std::uint64_t offset) {
  const std::int64_t got = read_around(*disk_, file_, into, offset, unreadable_bytes_);
  if (got > 0) bytes_read_ += static_cast<std::uint64_t>(got);
  return got;
}

int compressed_segment::read_table(std::uint64_t file_bytes, bool& found) {
  found = false;
  layout::log_block_table table;
  std::vector<std::byte> bytes(sizeof table);
  std::int64_t got = read_file(bytes, layout::log_header_bytes);
  if (got < 0) return static_cast<int>(got);
  if (static_cast<std::size_t>(got) < sizeof table) return 0;
  std::memcpy(&table, bytes.data(), sizeof table);
  // Each block takes at least one unit of the file.
  if (table.magic != layout::log_block_table_magic ||
      table.block_count > file_bytes / layout::log_unit || table.segment_bytes > bytes_max ||
      table.block_count * log_block_bytes >= table.segment_bytes + log_block_bytes)
    return 0;
  bytes.resize(block_table_bytes(table.block_count));
  got = read_file(bytes, layout::log_header_bytes);
  if (got < 0) return static_cast<int>(got);
  if (static_cast<std::size_t>(got) < bytes.size() || table.crc != block_table_crc(seed_, bytes))
    return 0;
  whole_ = table.file_bytes == file_bytes;
  blocks_.resize(table.block_count);
  if (table.block_count != 0)
    std::memcpy(blocks_.data(), bytes.data() + sizeof table, blocks_.size() * sizeof blocks_[0]);
  bytes_ = table.segment_bytes;
  found = true;
  return 0;
}

// BLOCKS-3. A valid head gives the position of the next one.
int compressed_segment::find_blocks() {
  std::vector<std::byte> chunk(1 << 20);
  std::uint64_t from = 0, until = 0;  // the range of the file that the chunk holds
  for (std::uint64_t at = layout::log_header_bytes; at + layout::log_unit <= file_bytes_;) {
    if (at < from || at + layout::log_unit > until) {
      const std::int64_t got = read_file(chunk, at);
      if (got < 0) return static_cast<int>(got);
      from = at;
      until = at + static_cast<std::uint64_t>(got);
      if (until < at + layout::log_unit) return 0;
    }
    const auto head = parse_block(seed_, chunk.data() + (at - from));
    if (!head || head->offset >= bytes_) {
      at += layout::log_unit;
      continue;
    }
    const std::size_t index = (head->offset - first_block) / log_block_bytes;
    if (blocks_.size() <= index) blocks_.resize(index + 1);
    blocks_[index] = at;
    at += block_file_bytes(head->stored_bytes);
  }
  return 0;
}

bool compressed_segment::unpack(std::span<const std::byte> stored, std::uint64_t offset,
                                std::span<std::byte, log_block_bytes> into) {
  if (stored.size() < sizeof(layout::log_block)) return false;
  const auto head = parse_block(seed_, stored.data());
  if (!head || head->offset != offset || block_file_bytes(head->stored_bytes) > stored.size())
    return false;
  const auto body =
      stored.subspan(sizeof *head, block_file_bytes(head->stored_bytes) - sizeof *head);
  if (head->crc != base::crc32c(seed_, body.data(), body.size())) return false;
  if (head->method == static_cast<std::uint32_t>(layout::log_block_method::stored)) {
    if (head->stored_bytes != head->raw_bytes) return false;
    std::memcpy(into.data(), body.data(), head->raw_bytes);
  } else {
#if BUS_ZSTD
    if (!context_) context_.reset(::ZSTD_createDCtx());
    if (!context_ || ::ZSTD_decompressDCtx(context_.get(), into.data(), head->raw_bytes,
                                           body.data(), head->stored_bytes) != head->raw_bytes)
      return false;
#else
    return false;
#endif
  }
  std::memset(into.data() + head->raw_bytes, 0, log_block_bytes - head->raw_bytes);
  return true;
}

int compressed_segment::load(std::size_t index, std::span<std::byte, log_block_bytes> into) {
  const std::uint64_t at = blocks_[index];
  bool good = false;
  if (at != 0 && at < file_bytes_) {
    const std::uint64_t next = index + 1 < blocks_.size() ? blocks_[index + 1] : 0;
    const std::uint64_t room =
        next > at ? std::min<std::uint64_t>(next - at, stored_.size()) : stored_.size();
    const std::int64_t got = read_file({stored_.data(), room}, at);
    if (got < 0) return static_cast<int>(got);
    good = unpack({stored_.data(), static_cast<std::size_t>(got)},
                  first_block + index * log_block_bytes, into);
  }
  if (!good) std::fill(into.begin(), into.end(), lost_byte);  // BLOCKS-2
  return 0;
}

std::int64_t compressed_segment::read(std::span<std::byte> into, std::uint64_t offset) {
  if (offset >= bytes_) return 0;
  into = into.first(std::min<std::uint64_t>(into.size(), bytes_ - offset));
  std::size_t done = 0;
  if (offset < first_block) {  // the header is not compressed
    done = std::min<std::uint64_t>(into.size(), first_block - offset);
    const std::int64_t got = read_file(into.first(done), offset);
    if (got < static_cast<std::int64_t>(done)) return got;
  }
  while (done < into.size()) {
    const std::uint64_t at = offset + done - first_block;
    const std::size_t index = at / log_block_bytes, from = at % log_block_bytes;
    if (index >= blocks_.size()) {
      std::memset(into.data() + done, 0, into.size() - done);
      break;
    }
    const std::size_t part = std::min<std::size_t>(log_block_bytes - from, into.size() - done);
    int failure = 0;
    if (part == log_block_bytes) {
      failure = load(index, into.subspan(done).first<log_block_bytes>());
    } else {
      if (cached_ != index) {
        cached_ = ~std::size_t{0};
        failure = load(index, std::span<std::byte, log_block_bytes>(cache_));
        if (failure == 0) cached_ = index;
      }
      if (failure == 0) std::memcpy(into.data() + done, cache_.data() + from, part);
    }
    if (failure != 0) return failure;
    done += part;
  }
  return static_cast<std::int64_t>(into.size());
}

}  // namespace bus::log
