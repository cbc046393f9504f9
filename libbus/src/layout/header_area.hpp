#pragma once
/// header_area: the bytes between a record's 32-byte head and its payload: extension map and words,
/// inline subject, user headers. It is input: everything decoded from it is bounded by the area.
///
///   [ext map][ext words ...][inline subject, padded to 8][user headers][zeros to a multiple of 32]
///   user header: {key_bytes:16 value_bytes:16 key value}; key_bytes 0 or the area's end ends them
///
/// Format     docs/format/ring.md

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "base/assert.hpp"
#include "base/bits.hpp"
#include "layout/record.hpp"

namespace bus::layout {

inline constexpr std::size_t header_area_max_bytes = 48 * 1024;
inline constexpr std::size_t user_headers_max_bytes = 32 * 1024;

constexpr unsigned extension_words(std::uint64_t bit) noexcept {
  return bit == ext_message_id ? 2 : bit == ext_origin ? 5 : 1;
}

/// Views into one area.
/// REQUIRES nothing: an invalid area yields nothing.
class header_area {
 public:
  header_area(const std::byte* data, std::size_t bytes, std::uint16_t flags) noexcept
      : data_(data), bytes_(bytes) {
    if ((flags & flag_extension) != 0 && bytes_ >= 8) {
      map_ = word_at(0);
      cursor_ = 8;
      for (std::uint64_t rest = map_; rest != 0; rest &= rest - 1)
        cursor_ += 8 * extension_words(rest & -rest);
      if (cursor_ > bytes_) map_ = cursor_ = bytes_ = 0;
      if ((map_ & ext_inline_subject) != 0) {
        const std::uint64_t length = word_at(offset_of(ext_inline_subject));
        if (length <= 255 && cursor_ + length <= bytes_) {
          subject_ = {reinterpret_cast<const char*>(data_ + cursor_),
                      static_cast<std::size_t>(length)};
          cursor_ = base::round_up(cursor_ + length, 8);
        }
      }
    }
    user_ = (flags & flag_headers) != 0 ? cursor_ : bytes_;
  }

  std::uint64_t map() const noexcept { return map_; }
  bool understood() const noexcept { return (map_ & ext_must_understand & ~ext_known) == 0; }
  std::string_view subject() const noexcept { return subject_; }
  std::optional<std::uint64_t> extension(std::uint64_t bit) const noexcept {
    if ((map_ & bit) == 0) return std::nullopt;
    return word_at(offset_of(bit));
  }
  /// Offset, from the start of the area, of an extension word that is present.
  std::size_t offset_of(std::uint64_t bit) const noexcept {
    std::size_t offset = 8;
    for (std::uint64_t rest = map_ & (bit - 1); rest != 0; rest &= rest - 1)
      offset += 8 * extension_words(rest & -rest);
    return offset;
  }

  /// Calls `fn(key, value)` for each user header; stops when it returns false.
  template <class Fn>
  void each_user_header(Fn&& fn) const {
    std::size_t at = user_;
    while (at + 4 <= bytes_) {
      std::uint16_t lengths[2];
      std::memcpy(lengths, data_ + at, 4);
      at += 4;
      if (lengths[0] == 0 || at + lengths[0] + lengths[1] > bytes_) return;
      const char* text = reinterpret_cast<const char*>(data_ + at);
      if (!fn(std::string_view(text, lengths[0]), std::string_view(text + lengths[0], lengths[1])))
        return;
      at += std::size_t{lengths[0]} + lengths[1];
    }
  }

 private:
  std::uint64_t word_at(std::size_t offset) const noexcept {
    std::uint64_t value = 0;
    if (offset + 8 <= bytes_) std::memcpy(&value, data_ + offset, 8);
    return value;
  }

  const std::byte* data_;
  std::size_t bytes_;
  std::uint64_t map_ = 0;
  std::size_t cursor_ = 0;
  std::size_t user_ = 0;
  std::string_view subject_;
};

/// Builds one area in a caller's buffer of header_area_max_bytes.
class header_area_builder {
 public:
  explicit header_area_builder(std::byte* buffer) noexcept : buffer_(buffer) {}

  void extension(std::uint64_t bit, std::uint64_t value) noexcept {
    BUS_ASSERT(!has_begun_, bit);
    map_ |= bit, values_[std::countr_zero(bit) & 15] = value;
  }
  void inline_subject(std::string_view subject) noexcept {
    subject_ = subject;
    extension(ext_inline_subject, subject.size());
  }
  /// REQUIRES: extensions and subject are set; only single-word extensions are supported.
  void begin_user_headers() noexcept {
    BUS_ASSERT(!has_begun_, size_);
    has_begun_ = true;
    size_ = 0;
    if (map_ == 0) return;
    put(&map_, 8);
    for (std::uint64_t rest = map_; rest != 0; rest &= rest - 1)
      put(&values_[std::countr_zero(rest) & 15], 8);
    put(subject_.data(), subject_.size());
    pad(8);
  }
  /// False: it is too long, or its key is empty.
  bool user_header(std::string_view key, std::string_view value) noexcept {
    BUS_ASSERT(has_begun_ || map_ == 0, map_);
    user_bytes_ += 4 + key.size() + value.size();
    if (key.empty() || key.size() > 255 || value.size() > 0xffff ||
        user_bytes_ > user_headers_max_bytes)
      return false;
    const std::uint16_t lengths[2] = {static_cast<std::uint16_t>(key.size()),
                                      static_cast<std::uint16_t>(value.size())};
    put(lengths, 4);
    put(key.data(), key.size());
    put(value.data(), value.size());
    return true;
  }
  std::uint16_t finish() noexcept {
    pad(header_align);
    return static_cast<std::uint16_t>(size_);
  }
  std::uint16_t flags() const noexcept {
    return static_cast<std::uint16_t>((map_ != 0 ? flag_extension : 0) |
                                      (user_bytes_ != 0 ? flag_headers : 0));
  }

 private:
  void put(const void* from, std::size_t bytes) noexcept {
    if (bytes == 0) return;  // an empty view may have no address
    std::memcpy(buffer_ + size_, from, bytes);
    size_ += bytes;
  }
  void pad(std::size_t to) noexcept {
    const std::size_t end = base::round_up(size_, to);
    std::memset(buffer_ + size_, 0, end - size_);
    size_ = end;
  }

  std::byte* buffer_;
  std::size_t size_ = 0;
  bool has_begun_ = false;  // user headers: extensions and subject are complete
  std::size_t user_bytes_ = 0;
  std::uint64_t map_ = 0;
  std::uint64_t values_[16] = {};
  std::string_view subject_;
};

}  // namespace bus::layout
