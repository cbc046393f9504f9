#pragma once
/// timers: a heap of slots by the time that something is due: a retry, or the end of a lease that
/// has its own.
///
/// REQUIRES for all: the group's lock. An index: repair rebuilds it from the slots' details.

#include <utility>

#include "group/group_memory.hpp"

namespace bus::group {

class timers {
 public:
  /// Reads the number of timers once. It is checked here, and then used for everything that this
  /// object does.
  explicit timers(const group_memory& memory) noexcept
      : memory_(memory), count_(memory.lists().timer_count) {
    if (count_ > memory.slot_count) {
      memory.broken = true;
      count_ = 0;
    }
  }

  bool empty() const noexcept { return count_ == 0; }
  std::uint64_t next_due() const noexcept {
    return count_ == 0 ? ~0ull : std::uint64_t{memory_.timers[0].due};
  }
  std::uint32_t next_slot() const noexcept { return memory_.timers[0].slot; }

  void add(std::uint32_t slot, std::uint64_t due) noexcept {
    if (count_ >= memory_.slot_count) {
      memory_.broken = true;
      return;
    }
    place(count_, {due, slot});
    store_count(count_ + 1);
    rise(count_ - 1);
  }
  void remove(std::uint32_t slot) noexcept {
    auto& of = memory_.slot(slot);
    const std::uint32_t at = of.heap_index;
    of.heap_index = no_index;
    if (at >= count_ || memory_.timers[at].slot != slot) {
      memory_.broken = true;
      return;
    }
    const entry last = load(count_ - 1);
    store_count(count_ - 1);
    if (at == count_) return;
    place(at, last);
    rise(at);
    sink(memory_.slot(last.slot).heap_index);
  }

 private:
  struct entry {
    std::uint64_t due;
    std::uint32_t slot;
  };
  void store_count(std::uint32_t count) noexcept {
    count_ = count;
    memory_.lists().timer_count = count;
  }
  entry load(std::uint32_t at) const noexcept {
    return {memory_.timers[at].due, memory_.timers[at].slot};
  }
  void place(std::uint32_t at, const entry& what) const noexcept {
    memory_.timers[at].due = what.due;
    memory_.timers[at].slot = what.slot;
    memory_.slot(what.slot).heap_index = at;
  }
  void exchange(std::uint32_t a, std::uint32_t b) const noexcept {
    const entry first = load(a);
    place(a, load(b));
    place(b, first);
  }
  void rise(std::uint32_t at) const noexcept {
    while (at != 0) {
      const std::uint32_t above = (at - 1) / 2;
      if (memory_.timers[at].due >= memory_.timers[above].due) return;
      exchange(at, above);
      at = above;
    }
  }
  void sink(std::uint32_t at) const noexcept {
    while (at < count_) {
      std::uint32_t least = at;
      for (std::uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < count_; ++child)
        if (memory_.timers[child].due < memory_.timers[least].due) least = child;
      if (least == at) return;
      exchange(at, least);
      at = least;
    }
  }

  const group_memory& memory_;
  std::uint32_t count_;
};

}  // namespace bus::group
