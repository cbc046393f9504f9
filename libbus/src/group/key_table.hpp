#pragma once
/// key_table: which keys are busy, who holds them, and who waits: open addressing over the hash
/// of the key, so that two keys with one hash are in order with each other, too.
///
/// Invariants
///   T1  passed_by of a place counts the keys that stand behind it, and whose home is at it or
///       before it: a search ends where it is 0. So nothing moves when a key goes, and no place
///       beyond its own is looked at.
///
/// REQUIRES for all: the group's lock. An index: repair makes it anew.

#include "base/hash.hpp"
#include "group/group_memory.hpp"
#include "sync/access.hpp"

namespace bus::group {

class key_table {
 public:
  explicit key_table(const group_memory& memory) noexcept : memory_(memory) {}

  /// Null: the key is not busy.
  layout::group_key* find(std::uint64_t key) const noexcept {
    for (std::uint32_t at = home(key), looked = 0; looked < memory_.key_capacity;
         at = after(at), ++looked) {
      if (memory_.keys[at].key == key) return &memory_.keys[at];
      if (memory_.keys[at].passed_by == 0) return nullptr;
    }
    return nullptr;
  }
  /// It will be looked for soon.
  void fetch(std::uint64_t key) const noexcept {
    sync::hardware::prefetch(reinterpret_cast<const std::byte*>(&memory_.keys[home(key)]));
  }
  /// REQUIRES: find(key) is null. Null: the table is full, which its size rules out.
  layout::group_key* add(std::uint64_t key) const noexcept {
    if (memory_.lists().key_count + 1 >= memory_.key_capacity) {
      memory_.broken = true;
      return nullptr;
    }
    std::uint32_t at = home(key);
    for (std::uint32_t looked = 0; memory_.keys[at].key != 0; at = after(at), ++looked) {
      ++memory_.keys[at].passed_by;
      if (looked < memory_.key_capacity) continue;
      memory_.broken = true;
      return nullptr;
    }
    auto& entry = memory_.keys[at];
    entry.key = key;
    entry.holder = entry.first = entry.last = entry.parked = entry.skip = 0;
    entry.looked_at_again = 0;
    ++memory_.lists().key_count;
    return &entry;
  }
  void remove(layout::group_key* entry) const noexcept {
    const auto place = static_cast<std::uint32_t>(entry - memory_.keys);
    std::uint32_t at = home(entry->key);
    for (std::uint32_t looked = 0; at != place; at = after(at), ++looked) {
      if (looked == memory_.key_capacity || memory_.keys[at].passed_by == 0) {
        memory_.broken = true;
        break;
      }
      --memory_.keys[at].passed_by;
    }
    entry->key = 0;
    --memory_.lists().key_count;
  }

 private:
  // The first of the two entries of a cache line: most searches end in it.
  std::uint32_t home(std::uint64_t key) const noexcept {
    return static_cast<std::uint32_t>(base::mix(key)) & (memory_.key_capacity - 1) & ~1u;
  }
  std::uint32_t after(std::uint32_t at) const noexcept {
    return (at + 1) & (memory_.key_capacity - 1);
  }

  const group_memory& memory_;
};

}  // namespace bus::group
