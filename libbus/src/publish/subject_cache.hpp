#pragma once
/// subject_cache: subjects that a publisher has used, and their ids in its stream. Finding one
/// costs one cache line: hash, id and most texts are in it.
///
/// Threads    one, the publisher's
/// Cost       find: no allocation; 64 bytes per subject, twice that with the table half full

#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "layout/record.hpp"

namespace bus::publish {

class subject_cache {
 public:
  static constexpr std::uint32_t unknown = layout::inline_subject_id;  // no subject has this id

  std::uint32_t find(std::string_view text) const noexcept {
    if (used_ == 0) return unknown;
    const std::uint64_t hash = base::hash_bytes(text);
    for (std::size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const entry& at = entries_[i];
      if (at.id == unknown) return unknown;
      if (at.hash == hash && at.is(text)) return at.id;
    }
  }
  /// REQUIRES: not known yet
  void add(std::string_view text, std::uint32_t id) {
    BUS_ASSERT(find(text) == unknown, id);
    if (entries_.size() < 2 * (used_ + 1)) grow();
    entry fresh{base::hash_bytes(text), id, static_cast<std::uint32_t>(text.size()), {}};
    if (text.size() <= sizeof fresh.text) {
      std::memcpy(fresh.text, text.data(), text.size());
    } else {
      const char* far = far_texts_.emplace_back(text).data();
      std::memcpy(fresh.text, &far, sizeof far);
    }
    place(fresh);
    ++used_;
  }
  void clear() noexcept {
    entries_.clear();
    far_texts_.clear();
    used_ = mask_ = 0;
  }

 private:
  struct alignas(64) entry {
    std::uint64_t hash = 0;
    std::uint32_t id = unknown;
    std::uint32_t bytes = 0;
    char text[48] = {};  // or the address of a longer one

    bool is(std::string_view other) const noexcept {
      if (bytes != other.size()) return false;
      const char* mine = text;
      if (bytes > sizeof text) std::memcpy(&mine, text, sizeof mine);
      return std::memcmp(mine, other.data(), bytes) == 0;
    }
  };
  static_assert(sizeof(entry) == 64);

  void place(const entry& fresh) noexcept {
    std::size_t i = fresh.hash & mask_;
    while (entries_[i].id != unknown) i = (i + 1) & mask_;
    entries_[i] = fresh;
  }
  void grow() {
    std::vector<entry> old(entries_.empty() ? 16 : 2 * entries_.size());
    old.swap(entries_);
    mask_ = entries_.size() - 1;
    for (const entry& at : old)
      if (at.id != unknown) place(at);
  }

  std::vector<entry> entries_;  // a power of two of them, at most half used
  std::size_t mask_ = 0;
  std::size_t used_ = 0;
  std::deque<std::string> far_texts_;
};

}  // namespace bus::publish
