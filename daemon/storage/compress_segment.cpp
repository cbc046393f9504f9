#include "storage/compress_segment.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#if BUS_ZSTD
#include <zstd.h>
#endif

#include "log/format.hpp"
#include "log/lane_files.hpp"
#include "log/segment_file.hpp"
#include "log/segment_reader.hpp"

namespace bus::storage {

namespace {

using layout::log_block_bytes;

constexpr std::uint64_t first_block = layout::log_header_bytes;
constexpr std::size_t step_bytes = 1 << 20;
constexpr std::uint64_t least_saved = 16;  // a copy that saves less than this share is not worth it

std::uint64_t pack_block([[maybe_unused]] std::span<const std::byte> raw,
                         [[maybe_unused]] std::span<std::byte> into) {
#if BUS_ZSTD
  constexpr int level = 3;
  // If the block does not get smaller, the destination is too small. That is no error here.
  const std::size_t bytes =
      ::ZSTD_compress(into.data(), raw.size() - 1, raw.data(), raw.size(), level);
  return ::ZSTD_isError(bytes) != 0 ? 0 : bytes;
#else
  return 0;
#endif
}

class segment_copy {
 public:
  segment_copy(log::disk& on, std::uint64_t log_id, const std::atomic<bool>& stop)
      : disk_(on), source_(on), seed_(log::seed_of(log_id)), log_id_(log_id), stop_(stop) {}
  ~segment_copy() {
    if (target_ >= 0) disk_.close(target_);
  }
  segment_copy(const segment_copy&) = delete;
  segment_copy& operator=(const segment_copy&) = delete;

  compress_outcome run(const std::string& from, const std::string& to) {
    failure_ = source_.open(from, log_id_);
    const bool made = failure_ == 0 && read_header() && find_end(from) && write_blocks(to) &&
                      is_worth_it() && write_head() && is_same(to);
    if (source_.unreadable_bytes() != 0) return compress_outcome::left;
    if (failure_ != 0) return compress_outcome::failed;
    if (made) return compress_outcome::done;
    return stop_ ? compress_outcome::stopped : compress_outcome::left;
  }
  std::uint64_t bytes() const noexcept { return at_; }
  int failure() const noexcept { return failure_; }

 private:
  bool read(std::span<std::byte> into, std::uint64_t offset) {
    const std::int64_t got = source_.read(into, offset);
    if (got != static_cast<std::int64_t>(into.size()))
      failure_ = got < 0 ? static_cast<int>(got) : -EIO;
    return failure_ == 0;
  }

  // A segment with a damaged header stays as it is, so that all of it can be inspected.
  bool read_header() {
    head_.resize(layout::log_header_bytes);
    if (source_.is_compressed() || source_.bytes() < head_.size() || !read(head_, 0)) return false;
    const auto header = log::parse_segment_header(head_.data());
    if (!header || header->log_id != log_id_ || header->major != layout::log_major ||
        header->segment_bytes != source_.bytes() || source_.bytes() % layout::log_unit != 0)
      return false;
    header_ = *header;
    return true;
  }

  // Finds where the zeroes begin with which every segment ends. A record may end with zeroes, too.
  bool find_end(const std::string& from_path) {
    std::uint64_t records_end = first_block;
    log::segment_reader reader(disk_);
    failure_ = reader.open(from_path, log_id_, header_.base_seq);
    if (failure_ != 0) return false;
    log::logged_record record;
    for (auto met = log::walk_outcome::record; met < log::walk_outcome::end && !stop_;) {
      met = reader.next(record);
      if (met == log::walk_outcome::record) records_end = reader.position();
      if (met == log::walk_outcome::failure) failure_ = reader.failure();
    }
    if (failure_ != 0) return false;
    std::vector<std::byte> chunk(step_bytes);
    std::uint64_t end = source_.bytes();
    while (end > records_end && !stop_) {
      const std::uint64_t from =
          std::max<std::uint64_t>(records_end, end - std::min<std::uint64_t>(end, step_bytes));
      const std::span<std::byte> part{chunk.data(), static_cast<std::size_t>(end - from)};
      if (!read(part, from)) return false;
      const auto last =
          std::find_if(part.rbegin(), part.rend(), [](std::byte b) { return b != std::byte{0}; });
      if (last != part.rend()) {
        end = from + static_cast<std::uint64_t>(part.rend() - last);
        break;
      }
      end = from;
    }
    data_end_ = base::round_up(std::max(end, records_end), layout::log_unit);
    const std::uint64_t data = data_end_ - first_block;
    offsets_.resize((data + log_block_bytes - 1) / log_block_bytes);
    return !stop_;
  }

  bool write_blocks(const std::string& to) {
    target_ = disk_.open(to, log::disk_mode::create, false);
    if (target_ < 0) failure_ = target_;
    at_ = layout::log_header_bytes + log::block_table_bytes(offsets_.size());
    std::vector<std::byte> raw(log_block_bytes), made;
    std::uint64_t written = at_;
    const auto flush = [&] {
      if (made.empty()) return;
      failure_ = disk_.write(target_, made, written);
      written += made.size();
      made.clear();
    };
    for (std::size_t i = 0; i < offsets_.size() && failure_ == 0 && !stop_; ++i) {
      const std::uint64_t offset = first_block + i * log_block_bytes;
      const std::span<std::byte> block{
          raw.data(), static_cast<std::size_t>(std::min(log_block_bytes, data_end_ - offset))};
      if (!read(block, offset)) return false;
      offsets_[i] = at_;
      add_block(block, offset, made);
      if (made.size() >= step_bytes) flush();
    }
    if (failure_ == 0) flush();
    return failure_ == 0 && !stop_;
  }
  bool is_worth_it() const noexcept {
    return at_ + source_.bytes() / least_saved <= source_.bytes();
  }

  void add_block(std::span<const std::byte> raw, std::uint64_t offset,
                 std::vector<std::byte>& made) {
    const std::size_t begin = made.size();
    made.resize(begin + log::block_file_bytes(raw.size()));
    const std::span<std::byte> body{made.data() + begin + sizeof(layout::log_block), raw.size()};
    layout::log_block head{};
    head.magic = layout::log_block_magic;
    head.offset = offset;
    head.raw_bytes = static_cast<std::uint32_t>(raw.size());
    head.stored_bytes = static_cast<std::uint32_t>(pack_block(raw, body));
    head.method = static_cast<std::uint32_t>(layout::log_block_method::zstd);
    if (head.stored_bytes == 0) {
      head.stored_bytes = head.raw_bytes;
      head.method = static_cast<std::uint32_t>(layout::log_block_method::stored);
      std::memcpy(body.data(), raw.data(), raw.size());
    }
    const std::uint64_t bytes = log::block_file_bytes(head.stored_bytes);
    const std::uint64_t used = sizeof head + head.stored_bytes;
    std::memset(made.data() + begin + used, 0, bytes - used);
    made.resize(begin + bytes);
    head.crc = base::crc32c(seed_, made.data() + begin + sizeof head, bytes - sizeof head);
    head.head_crc = log::block_head_crc(seed_, head);
    std::memcpy(made.data() + begin, &head, sizeof head);
    at_ += bytes;
  }

  bool write_head() {
    std::vector<std::byte> bytes(log::block_table_bytes(offsets_.size()));
    layout::log_block_table table{};
    table.magic = layout::log_block_table_magic;
    table.block_count = static_cast<std::uint32_t>(offsets_.size());
    table.segment_bytes = source_.bytes();
    table.file_bytes = at_;
    std::memcpy(bytes.data(), &table, sizeof table);
    if (!offsets_.empty())
      std::memcpy(bytes.data() + sizeof table, offsets_.data(),
                  offsets_.size() * sizeof offsets_[0]);
    table.crc = log::block_table_crc(seed_, bytes);
    std::memcpy(bytes.data(), &table, sizeof table);
    header_.major = layout::log_major_compressed;
    header_.flags |= layout::log_flag_compressed;
    header_.header_crc = log::segment_header_crc(header_);
    std::memcpy(head_.data(), &header_, sizeof header_);
    failure_ = disk_.write(target_, bytes, layout::log_header_bytes);
    if (failure_ == 0) failure_ = disk_.write(target_, head_, 0);
    if (failure_ == 0) failure_ = disk_.sync(target_);
    return failure_ == 0;
  }

  bool is_same(const std::string& path) {
    log::segment_file copy(disk_);
    failure_ = copy.open(path, log_id_);
    if (failure_ != 0) return false;
    std::vector<std::byte> there(step_bytes), here(step_bytes);
    bool same = copy.is_compressed() && copy.is_whole() && copy.bytes() == source_.bytes();
    for (std::uint64_t at = first_block; same && at < data_end_ && !stop_; at += step_bytes) {
      const auto bytes =
          static_cast<std::size_t>(std::min<std::uint64_t>(step_bytes, data_end_ - at));
      if (!read({here.data(), bytes}, at)) return false;
      same = copy.read({there.data(), bytes}, at) == static_cast<std::int64_t>(bytes) &&
             std::memcmp(here.data(), there.data(), bytes) == 0;
    }
    if (!same) failure_ = -EIO;
    return same && !stop_ && source_.unreadable_bytes() == 0;
  }

  log::disk& disk_;
  log::segment_file source_;
  log::disk_file target_ = -1;
  const std::uint32_t seed_;
  const std::uint64_t log_id_;
  const std::atomic<bool>& stop_;
  std::vector<std::byte> head_;
  layout::log_segment_header header_{};
  std::uint64_t data_end_ = 0;
  std::vector<std::uint64_t> offsets_;
  std::uint64_t at_ = 0;  // offset of the next block
  int failure_ = 0;
};

}  // namespace

compressed_copy compress_segment(log::disk& on, const std::string& directory,
                                 std::uint64_t base_seq, std::uint64_t log_id,
                                 const std::string& to, const std::atomic<bool>& stop) {
  (void)on.remove(to);
  compressed_copy made;
  {
    segment_copy work(on, log_id, stop);
    made.outcome = work.run(log::segment_path(directory, base_seq), to);
    made.bytes = work.bytes();
    made.failure = work.failure();
  }
  if (made.outcome != compress_outcome::done) (void)on.remove(to);
  return made;
}

}  // namespace bus::storage
