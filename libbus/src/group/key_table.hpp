#pragma once
/// key_table: which keys are busy, which message holds each, and which wait. A key's entry stays in
/// place while the key is busy, and an index finds it. A line of the index has 15 places, so that a
/// search touches one line of a small table and needs no prediction.
///
/// Invariants
///   KEYS-1  A place is 0, or the number of the key's entry + 1 in the low bits, and above them as
///           many bits of the key's hash as fit: other keys' entries are hardly ever read.
///   KEYS-2  The last word of a line counts the keys in later lines whose home is this line or one
///           before it: a search ends where it is 0.
///
/// Two keys with one hash count as one key: they are ordered with each other, too.
/// REQUIRES for all: the group's lock. The table is an index: repair rebuilds it.

#include <bit>

#include "base/hash.hpp"
#include "group/group_memory.hpp"
#include "sync/access.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace bus::group {

class key_table {
 public:
  static constexpr std::uint32_t places_per_line = 16;  // the last is the count

  explicit key_table(const group_memory& memory) noexcept
      : m_(memory),
        lines_(memory.key_capacity / places_per_line),
        number_mask_(memory.key_number_mask) {}

  /// For group_memory::key_number_mask.
  static constexpr std::uint32_t number_mask(std::uint32_t key_count) noexcept {
    return std::bit_ceil(key_count + 1) - 1;
  }

  /// Null: the key is not busy.
  layout::group_key* find(std::uint64_t key) const noexcept {
    const hashed hash = hash_of(key);
    for (std::uint32_t at = hash.home, looked = 0; looked < lines_; at = after(at), ++looked) {
      for (std::uint32_t found = places(at, hash.tag, ~number_mask_); found != 0;
           found &= found - 1) {
        layout::group_key* entry = entry_of(line(at)[std::countr_zero(found)]);
        if (entry == nullptr || entry->key == key) return entry;
      }
      if (passed_by(at) == 0) return nullptr;
    }
    return nullptr;
  }
  /// Prefetches the line of a key that is searched for soon.
  void fetch(std::uint64_t key) const noexcept {
    sync::hardware::prefetch(reinterpret_cast<const std::byte*>(line(hash_of(key).home)));
  }
  /// REQUIRES: find(key) is null. Null: the table is full, which its size rules out.
  layout::group_key* add(std::uint64_t key) const noexcept {
    const hashed hash = hash_of(key);
    auto& l = m_.lists();
    const std::uint32_t reused = l.key_free, used = l.keys_used;
    const std::uint32_t number = reused != 0 ? reused - 1 : used;
    if (number >= m_.key_count || (reused != 0 && m_.keys[number].key != 0)) return say_broken();
    std::uint32_t at = hash.home, free = places(at, 0, ~0u);
    for (std::uint32_t looked = 1; free == 0; ++looked) {
      if (looked == lines_) return say_broken();
      ++passed_by(at);
      at = after(at);
      free = places(at, 0, ~0u);
    }
    if (reused != 0)
      l.key_free = m_.keys[number].first;
    else
      l.keys_used = used + 1;
    ++l.key_count;
    const std::uint32_t place =
        at * places_per_line + static_cast<std::uint32_t>(std::countr_zero(free));
    m_.key_index[place] = hash.tag | (number + 1);
    m_.keys[number] = {};
    m_.keys[number].key = key;
    m_.keys[number].set_place(place);
    return &m_.keys[number];
  }
  void remove(layout::group_key* entry) const noexcept {
    const hashed hash = hash_of(entry->key);
    const auto number = static_cast<std::uint32_t>(entry - m_.keys);
    const std::uint32_t place = entry->place();
    if (place >= m_.key_capacity || m_.key_index[place] != (hash.tag | (number + 1)))
      return void(say_broken());
    std::uint32_t at = hash.home;
    for (std::uint32_t looked = 1; at != place / places_per_line; ++looked, at = after(at)) {
      if (looked == lines_ || passed_by(at) == 0) return void(say_broken());
      --passed_by(at);
    }
    m_.key_index[place] = 0;
    auto& l = m_.lists();
    entry->key = 0;
    entry->first = l.key_free;
    l.key_free = number + 1;
    --l.key_count;
  }

 private:
  struct hashed {
    std::uint32_t home;
    std::uint32_t tag;  // never 0, so it matches no empty place
  };
  hashed hash_of(std::uint64_t key) const noexcept {
    const std::uint64_t mixed = base::mix(key);
    const auto tag = static_cast<std::uint32_t>(mixed) & ~number_mask_;
    return {static_cast<std::uint32_t>(mixed >> 32) & (lines_ - 1),
            tag == 0 ? number_mask_ + 1 : tag};
  }
  std::uint32_t after(std::uint32_t at) const noexcept { return (at + 1) & (lines_ - 1); }
  base::field32* line(std::uint32_t at) const noexcept {
    return m_.key_index + std::size_t{at} * places_per_line;
  }
  base::field32& passed_by(std::uint32_t at) const noexcept {
    return line(at)[places_per_line - 1];
  }
  // Bit i is set when place i of the line has this value in the bits of the mask.
  std::uint32_t places(std::uint32_t at, std::uint32_t value, std::uint32_t mask) const noexcept {
    const base::field32* from = line(at);
    std::uint32_t found = 0;
#if defined(__SSE2__)
    const __m128i wanted = _mm_set1_epi32(static_cast<int>(value));
    const __m128i looked_at = _mm_set1_epi32(static_cast<int>(mask));
    for (std::uint32_t i = 0; i < places_per_line; i += 4) {
      const __m128i four = _mm_load_si128(reinterpret_cast<const __m128i*>(from + i));
      const __m128i equal = _mm_cmpeq_epi32(_mm_and_si128(four, looked_at), wanted);
      found |= static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(equal))) << i;
    }
#else
    for (std::uint32_t i = 0; i < places_per_line; ++i)
      found |= static_cast<std::uint32_t>((from[i] & mask) == value) << i;
#endif
    return found & ((1u << (places_per_line - 1)) - 1);
  }
  layout::group_key* entry_of(std::uint32_t place) const noexcept {
    const std::uint32_t number = (place & number_mask_) - 1;
    return number < m_.key_count ? &m_.keys[number] : say_broken();
  }
  layout::group_key* say_broken() const noexcept {
    m_.broken = true;
    return nullptr;
  }

  const group_memory& m_;
  const std::uint32_t lines_;
  const std::uint32_t number_mask_;
};
static_assert(key_table::number_mask(layout::group_slots_max) < 1u << 31);  // a tag has a bit

}  // namespace bus::group
