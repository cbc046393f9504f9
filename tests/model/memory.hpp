#pragma once
/// memory: a model of weak memory: per word a short history of stores, per thread a view.
/// Operational subset of RC11.
///
///   load       relaxed: any store in the history that is not older than the thread's view of the
///              word; acquire: also takes over the store's view; relaxed: keeps that view for the
///              next acquire fence
///   store      becomes the newest of its word; release: carries the thread's view; relaxed: the
///              view of the last release fence
///   modify     read-modify-write: reads the newest store and carries its view on (release
///              sequence)
///   fences     as in C++; seq_cst fences join one global view in both directions
///   copy_out   word by word, relaxed. A word may be read late, after later loads and relaxed
///              stores of the same thread (load buffering), but before its next acquire or
///              release fence, its next releasing store, or its next access to the same word
///
/// Stale values are correlated: now and then a thread lags, and for a while most of its loads
/// return what was newest at one past moment, as far as its view allows.
///
/// Not modelled: stores that are ordered before an older store of the same word, stores that pass
/// an earlier load, histories of more than sixteen stores, seq_cst loads and stores (the lane
/// code has none).

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "random.hpp"

namespace model {

inline constexpr std::size_t header_words = 1024;
inline constexpr std::size_t data_words_max = 1024;
inline constexpr std::size_t extra_words = 256;
inline constexpr std::size_t location_count = header_words + data_words_max + extra_words;
inline constexpr std::size_t history_max = 16;

using stamp = std::uint16_t;

struct view {
  alignas(64) std::array<stamp, location_count> at;

  void clear() { at.fill(0); }
  void join(const view& other) {
    for (std::size_t i = 0; i < location_count; ++i) at[i] = std::max(at[i], other.at[i]);
  }
};

class memory {
  static constexpr std::uint32_t up_to_date = ~0u;

 public:
  struct event {
    std::uint64_t value = 0;
    std::uint32_t time = 0;  // number of this store in the whole execution
    std::uint32_t view_id = 0;
    stamp at = 0;
  };

  /// The knowledge of one simulated thread.
  class thread {
   public:
    void clear() {
      now_.clear();
      release_fence_ = 0;
      known_.clear();
      pending_.clear();
      late_.clear();
      horizon_ = up_to_date;
    }

   private:
    friend class memory;
    struct late_read {
      std::uint32_t location;
      stamp not_before;
      std::uint32_t bytes;
      std::byte* to;
    };
    view now_{};
    std::uint32_t release_fence_ = 0;
    std::vector<std::uint8_t> known_;     // by view id: 1 pending, 2 joined
    std::vector<std::uint32_t> pending_;  // views read by relaxed loads, for the next acquire fence
    std::vector<late_read> late_;
    std::uint32_t horizon_ = up_to_date;  // while it lags: the moment that it sees
  };

  memory() : locations_(location_count), arena_(std::make_unique<arena>()) {}

  void begin(std::uint64_t seed, std::uint64_t capacity_bytes) {
    random_ = random(seed);
    capacity_bytes_ = capacity_bytes;
    for (location& at : locations_) at = location{};
    views_used_ = 0;
    now_ = 0;
    seq_cst_.clear();
    stale_percent_ = random_.pick({0, 5, 20, 50});
    late_percent_ = random_.pick({0, 20, 60});
    lag_permille_ = random_.pick({0, 0, 2, 10});
    newcomer_lag_percent_ = random_.pick({0, 30, 80});
    newest_only_ = false;
  }
  /// From now on every load reads the newest store, as after a long time.
  void settle() { newest_only_ = true; }

  std::byte* header() const { return arena_->bytes; }
  std::byte* data() const { return arena_->bytes + header_words * 8; }
  std::atomic<std::uint64_t>& extra(std::size_t index) const {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(
        arena_->bytes + (header_words + 2 * data_words_max + index) * 8);
  }
  bool is_data(const void* word) const {
    const std::size_t offset = offset_of(word);
    return offset >= header_words * 8 && offset < (header_words + 2 * data_words_max) * 8;
  }
  std::uint64_t data_offset(const void* word) const {
    return (offset_of(word) - header_words * 8) & (capacity_bytes_ - 1);
  }

  std::uint64_t newest(const void* word) const { return locations_[index_of(word)].newest().value; }
  /// Before the threads start: a value that every thread sees.
  void preset(const void* word, std::uint64_t value) {
    locations_[index_of(word)].events[0].value = value;
  }

  std::uint64_t load(thread& t, const void* word, std::memory_order order) {
    const std::uint32_t index = index_of(word);
    finish_late_of(t, index);
    const event& found = choose(t, locations_[index], t.now_.at[index]);
    t.now_.at[index] = std::max(t.now_.at[index], found.at);
    learn(t, found.view_id, acquires(order));
    return found.value;
  }

  void store(thread& t, const void* word, std::uint64_t value, std::memory_order order) {
    const std::uint32_t index = index_of(word);
    if (releases(order))
      finish_late(t);
    else
      finish_late_of(t, index);
    push(t, index, value, order, 0);
  }

  /// `decide(old, value)` returns true to store `value`.
  template <class Decide>
  std::uint64_t modify(thread& t, const void* word, std::memory_order order, Decide&& decide) {
    const std::uint32_t index = index_of(word);
    if (releases(order))
      finish_late(t);
    else
      finish_late_of(t, index);
    const event old = locations_[index].newest();
    std::uint64_t value = 0;
    const bool stores = decide(old.value, value);
    t.now_.at[index] = old.at;
    learn(t, old.view_id, stores && acquires(order));
    if (stores) push(t, index, value, order, old.view_id);
    return old.value;
  }

  void fence(thread& t, std::memory_order order) {
    if (order == std::memory_order_relaxed) return;
    finish_late(t);
    if (order != std::memory_order_release) {
      for (const std::uint32_t id : t.pending_) join(t, id);
      t.pending_.clear();
    }
    if (order == std::memory_order_seq_cst) {
      t.now_.join(seq_cst_);
      seq_cst_ = t.now_;
    }
    if (order != std::memory_order_acquire) t.release_fence_ = snapshot(t);
  }

  void copy_in(thread& t, std::byte* to, const void* from, std::size_t bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, from, std::min<std::size_t>(bytes, 8));
    store(t, to, value, std::memory_order_relaxed);
  }
  void copy_out(thread& t, std::byte* to, const std::byte* from, std::size_t bytes) {
    const auto part = static_cast<std::uint32_t>(std::min<std::size_t>(bytes, 8));
    const std::uint32_t index = index_of(from);
    if (!newest_only_ && random_.percent(late_percent_)) {
      t.late_.push_back({index, t.now_.at[index], part, to});
      return;
    }
    const std::uint64_t value = load(t, from, std::memory_order_relaxed);
    std::memcpy(to, &value, part);
  }
  /// Called between operations: delayed reads may happen now, and a thread may begin to lag or
  /// catch up.
  void drift(thread& t) {
    if (!t.late_.empty() && random_.percent(10)) finish_late(t);
    if (t.horizon_ != up_to_date) {
      if (random_.below(1000) < 3) t.horizon_ = up_to_date;
    } else if (lag_permille_ != 0 && random_.below(1000) < lag_permille_) {
      fall_behind(t);
    }
  }
  /// A thread that has not read the lane for a long time, or never has, may see nothing new.
  void newcomer(thread& t) {
    if (random_.percent(newcomer_lag_percent_)) fall_behind(t);
  }
  void finish_late(thread& t) {
    while (!t.late_.empty()) finish_one(t, t.late_.size() - 1);
  }
  /// `gone` is proven dead: all it did happens before what `t` does next.
  void adopt(thread& t, const thread& gone) { t.now_.join(gone.now_); }

 private:
  static constexpr std::uint32_t lag_share_percent = 85;

  struct location {
    std::array<event, history_max> events{};
    std::uint8_t first = 0;
    std::uint8_t count = 1;

    const event& newest() const { return events[(first + count - 1u) % history_max]; }
    const event& at(std::size_t i) const { return events[(first + i) % history_max]; }
  };
  struct arena {
    alignas(4096) std::byte bytes[(header_words + 2 * data_words_max + extra_words) * 8];
  };

  static bool acquires(std::memory_order order) {
    return order == std::memory_order_acquire || order == std::memory_order_acq_rel;
  }
  static bool releases(std::memory_order order) {
    return order == std::memory_order_release || order == std::memory_order_acq_rel;
  }
  std::size_t offset_of(const void* word) const {
    const auto offset =
        static_cast<std::size_t>(static_cast<const std::byte*>(word) - arena_->bytes);
    // the lane code accessed memory outside the lane
    if (offset >= sizeof arena_->bytes || offset % 8 != 0) std::abort();
    return offset;
  }
  std::uint32_t index_of(const void* word) const {
    const std::size_t offset = offset_of(word);
    if (offset < header_words * 8) return static_cast<std::uint32_t>(offset / 8);
    if (offset < (header_words + 2 * data_words_max) * 8)
      return static_cast<std::uint32_t>(header_words +
                                        ((offset - header_words * 8) & (capacity_bytes_ - 1)) / 8);
    return static_cast<std::uint32_t>(offset / 8 - data_words_max);
  }

  void fall_behind(thread& t) {
    const std::uint32_t far = random_.pick({30, 300, 3000});
    t.horizon_ = now_ - random_.below(std::min(now_, far) + 1);
  }

  const event& choose(const thread& t, const location& from, stamp not_before) {
    if (newest_only_ || from.count == 1) return from.newest();
    if (t.horizon_ != up_to_date) {
      if (!random_.percent(lag_share_percent)) return from.newest();
      std::size_t i = from.count - 1u;
      while (i != 0 && from.at(i).time > t.horizon_ && from.at(i - 1).at >= not_before) --i;
      return from.at(i);
    }
    if (!random_.percent(stale_percent_)) return from.newest();
    std::size_t oldest = 0;
    while (oldest + 1 < from.count && from.at(oldest).at < not_before) ++oldest;
    return from.at(oldest + random_.below(from.count - oldest));
  }

  void push(thread& t, std::uint32_t index, std::uint64_t value, std::memory_order order,
            std::uint32_t carried) {
    location& at = locations_[index];
    const stamp next = static_cast<stamp>(at.newest().at + 1);
    t.now_.at[index] = next;
    std::uint32_t id = releases(order) ? snapshot(t) : t.release_fence_;
    if (carried != 0 && carried != id) {
      if (id == 0) {
        id = carried;
      } else {
        const std::uint32_t both = new_view();
        *views_[both] = *views_[id];
        views_[both]->join(*views_[carried]);
        id = both;
      }
    }
    if (at.count == history_max)
      at.first = static_cast<std::uint8_t>((at.first + 1) % history_max);
    else
      ++at.count;
    at.events[(at.first + at.count - 1u) % history_max] = {value, ++now_, id, next};
  }

  void learn(thread& t, std::uint32_t id, bool now) {
    if (id == 0) return;
    if (t.known_.size() <= id) t.known_.resize(id + 64, 0);
    if (now) {
      join(t, id);
    } else if (t.known_[id] == 0) {
      t.known_[id] = 1;
      t.pending_.push_back(id);
    }
  }
  void join(thread& t, std::uint32_t id) {
    if (t.known_[id] == 2) return;
    t.known_[id] = 2;
    t.now_.join(*views_[id]);
  }

  void finish_late_of(thread& t, std::uint32_t index) {
    for (std::size_t i = t.late_.size(); i-- != 0;)
      if (t.late_[i].location == index) finish_one(t, i);
  }
  void finish_one(thread& t, std::size_t which) {
    const thread::late_read read = t.late_[which];
    t.late_.erase(t.late_.begin() + static_cast<std::ptrdiff_t>(which));
    const event& found = choose(t, locations_[read.location], read.not_before);
    t.now_.at[read.location] = std::max(t.now_.at[read.location], found.at);
    learn(t, found.view_id, false);
    std::memcpy(read.to, &found.value, read.bytes);
  }

  std::uint32_t new_view() {
    ++views_used_;
    while (views_.size() <= views_used_) views_.push_back(std::make_unique<view>());
    return views_used_;
  }
  std::uint32_t snapshot(const thread& t) {
    const std::uint32_t id = new_view();
    *views_[id] = t.now_;
    return id;
  }

  random random_{0};
  std::uint64_t capacity_bytes_ = 4096;
  std::vector<location> locations_;
  std::unique_ptr<arena> arena_;
  std::vector<std::unique_ptr<view>> views_;  // index 0 is unused: no view
  std::uint32_t views_used_ = 0;
  std::uint32_t now_ = 0;  // stores so far
  view seq_cst_{};
  std::uint32_t stale_percent_ = 0;
  std::uint32_t late_percent_ = 0;
  std::uint32_t lag_permille_ = 0;
  std::uint32_t newcomer_lag_percent_ = 0;
  bool newest_only_ = false;
};

}  // namespace model
