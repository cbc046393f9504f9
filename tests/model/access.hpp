#pragma once
/// access: the operations of bus::sync::hardware, on the model of memory. Before each operation
/// another process may run, or this one may be killed.

#include "machine.hpp"
#include "observer.hpp"
#include "sync/access.hpp"

namespace model {

inline machine* active = nullptr;
inline observer* watching = nullptr;

struct access {
  using word = bus::sync::word;
  using edge = bus::sync::edge;

  static constexpr std::uint64_t zero_window_bytes = 1024;  // the rings here have 4 or 8 KiB

  static std::uint64_t load(const word& w, std::memory_order order, edge e) {
    active->point();
    const std::uint64_t value = active->mem.load(active->self().knows, &w, weakened(order, e));
    return watching->hides_from_reader(&w, e) ? 0 : value;
  }
  static void store(word& w, std::uint64_t value, std::memory_order order, edge e) {
    active->point();
    if (watching->drops_store(&w, value, e)) return;
    active->mem.store(active->self().knows, &w, value, weakened(order, e));
    if (e == edge::commit) watching->commit_word_stored(&w, value);
  }
  static std::uint64_t exchange(word& w, std::uint64_t value, std::memory_order order, edge e) {
    active->point();
    return active->mem.modify(active->self().knows, &w, weakened(order, e),
                              [&](std::uint64_t, std::uint64_t& next) {
                                next = value;
                                return true;
                              });
  }
  static bool compare_exchange(word& w, std::uint64_t& expected, std::uint64_t value,
                               std::memory_order order, edge e) {
    active->point();
    const std::uint64_t wanted = expected;
    expected = active->mem.modify(active->self().knows, &w, weakened(order, e),
                                  [&](std::uint64_t old, std::uint64_t& next) {
                                    next = value;
                                    return old == wanted;
                                  });
    return expected == wanted;
  }
  static std::uint64_t add(word& w, std::uint64_t value, std::memory_order order, edge e) {
    active->point();
    return active->mem.modify(active->self().knows, &w, weakened(order, e),
                              [&](std::uint64_t old, std::uint64_t& next) {
                                next = old + value;
                                return true;
                              });
  }
  static void fence(std::memory_order order, edge e) {
    // Just before a seq_cst fence, nothing that was stored need be visible yet. Just after it,
    // everything is. Other processes run at both moments more often.
    const bool heavy = order == std::memory_order_seq_cst;
    if (heavy && active->dice().percent(15)) active->pause();
    active->point();
    active->mem.fence(active->self().knows, weakened_fence(order, e));
    if (heavy && active->dice().percent(20))
      for (std::uint32_t pauses = active->dice().between(1, 16); pauses != 0; --pauses)
        active->pause();
  }
  static void copy_in(std::byte* to, const void* from, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += 8) {
      active->point();
      active->mem.copy_in(active->self().knows, to + done,
                          static_cast<const std::byte*>(from) + done, bytes - done);
    }
  }
  static void copy_out(void* to, const std::byte* from, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes; done += 8) {
      active->point();
      active->mem.copy_out(active->self().knows, static_cast<std::byte*>(to) + done, from + done,
                           bytes - done);
    }
  }
  static void prefetch(const std::byte*) {}
  static void step(bus::sync::failpoint) {}

 private:
  static std::memory_order weakened(std::memory_order order, edge e) {
    using enum std::memory_order;
    const seeded_bug& bug = active->bug;
    if (order == seq_cst) std::abort();  // the model has none
    if (bug.edge != e) return order;
    const bool drops_release = bug.weakens == side::release || bug.weakens == side::both;
    const bool drops_acquire = bug.weakens == side::acquire || bug.weakens == side::both;
    if (order == acq_rel) {
      if (drops_release && drops_acquire) return relaxed;
      return drops_release ? acquire : drops_acquire ? release : acq_rel;
    }
    if (order == release && drops_release) return relaxed;
    if (order == acquire && drops_acquire) return relaxed;
    return order;
  }
  static std::memory_order weakened_fence(std::memory_order order, edge e) {
    using enum std::memory_order;
    const seeded_bug& bug = active->bug;
    if (bug.edge != e) return order;
    const bool writes = active->self().plays == role::writer;
    const bool omitted = (bug.weakens == side::release_fence && order == release) ||
                         (bug.weakens == side::acquire_fence && order == acquire) ||
                         (bug.weakens == side::writer_fence && order == seq_cst && writes) ||
                         (bug.weakens == side::reader_fence && order == seq_cst && !writes);
    return omitted ? relaxed : order;
  }
};

}  // namespace model
