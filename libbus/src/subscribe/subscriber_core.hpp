#pragma once
/// subscriber_core: the sources of one subscriber, the batch it hands out, its waits.
///
/// Threads    the subscriber's; stop() from any thread

#include <array>
#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include <bus/subscriber.hpp>

#include "registry/interest.hpp"
#include "subscribe/sleeper.hpp"
#include "subscribe/source.hpp"

namespace bus {

struct subscriber_core {
  static result<std::unique_ptr<subscriber_core>> make(std::shared_ptr<session_core> session,
                                                       std::span<const std::string_view> patterns,
                                                       subscriber_options options);
  ~subscriber_core();

  /// Fills the batch with up to `max` messages and returns how many. Gives the previous batch back.
  /// Throws what on_gap threw; the batch then still has `filled` messages.
  std::size_t refill(std::size_t max) {
    if (guard_.same_process() && !changed() && plain_source_ != nullptr) [[likely]] {
      detail::source& source = *plain_source_;
      if (source.reader.nothing_there()) [[likely]]
        return rest(source);
      if ((max == 1 || source.reader.keeps_up()) && take_one(source)) return 1;
      const std::size_t count = tell(refill_plain(max));
      if (count != 0 || plain_source_ != nullptr) return count;
    }
    return tell(refill_slowly(max));
  }
  const message* batch() const noexcept { return batch_.data(); }
  /// The caller is done with the batch.
  void release_all() noexcept {
    if (plain_source_ == nullptr) [[unlikely]]
      return release_each();
    release(*plain_source_);
  }

  bool wait(std::chrono::nanoseconds wait) noexcept;
  bool same_process() const noexcept { return guard_.same_process(); }
  void stop() noexcept { stopped_.store(true); }
  bool stopped() const noexcept { return stopped_.load(); }

  result<int> fd();
  bool arm() noexcept;
  void drain() noexcept;

  subscriber_stats stats() const noexcept;
  void expect_type(std::uint64_t type, std::size_t bytes) noexcept;

  std::shared_ptr<session_core> session;
  subscriber_options options;
  std::optional<error> failure;
  std::size_t filled = 0;

 private:
  struct batch_sink;
  static constexpr std::size_t batch_max = 64;
  static constexpr std::size_t held_chunks_max = 4;

  void refresh_sources(const start& from) noexcept;
  bool attach(const std::shared_ptr<registry::stream_handle>& stream, const start& from) noexcept;
  bool some_left_since(std::uint64_t generation) const;
  bool wants(const registry::stream_handle& stream) const noexcept;
  /// False: not all could be read.
  bool attach_to_leaving() noexcept;
  void pass_over_leaving() noexcept;
  std::size_t fill_from(detail::source& from, std::size_t max) noexcept;
  std::size_t fill_from_log(detail::source& from, std::size_t max) noexcept;
  void hold(const log::logged_record& record) noexcept;
  std::size_t rest(detail::source& source) noexcept;
  bool take_one(detail::source& from) noexcept;
  std::size_t refill_plain(std::size_t max) noexcept;
  void release_each() noexcept;
  static void release(detail::source& source) noexcept {
    if (source.reader.held_bytes() == 0) return;
    sync::reach(sync::failpoint::consume_delivered);
    source.release();
    // A reader that is never idle must still wake a waiting publisher.
    if (source.reader.unticked_bytes() >= source.reader.share_bytes() / 2) [[unlikely]]
      source.tick();
  }
  static void fill(message& m, detail::source& from, const std::byte* area, std::uint64_t seq,
                   std::uint64_t shape, std::uint64_t origin, std::uint64_t ticks,
                   std::uint64_t position) noexcept {
    m.area_ = area;
    m.source_ = &from;
    m.sequence_ = seq;
    m.shape_ = shape;
    m.origin_ = origin;
    m.ticks_ = ticks;
    m.position_ = position;
  }
  void report_gap(detail::source& from, std::uint64_t first, std::uint64_t count,
                  gap_reason reason = gap_reason::overwritten) noexcept;
  void retire(std::size_t index) noexcept;
  bool is_there(const registry::stream_handle& stream) const noexcept;
  void note_thread() noexcept;
  bool any_ready() noexcept;
  bool changed() const noexcept {
    return sync::load_acquire(*generation_word_) != generation_seen_;
  }
  std::size_t refill_slowly(std::size_t max) noexcept;
  /// Throws what on_gap threw, once the batch is complete.
  std::size_t tell(std::size_t count) {
    if (thrown_) [[unlikely]] {
      filled = count;
      std::rethrow_exception(std::exchange(thrown_, nullptr));
    }
    return count;
  }

  detail::source::wish wish_;
  std::vector<std::unique_ptr<detail::source>> sources_;
  std::size_t next_source_ = 0;
  detail::source* plain_source_ = nullptr;  // the only source, if there is just one
  const base::word* generation_word_ = nullptr;
  std::uint64_t generation_seen_ = 0;
  bool is_attached_ = false;  // to the streams that existed at the start
  sync::fork_guard guard_;
  std::array<message, batch_max> batch_;
  std::vector<std::byte> arena_;  // copies of records of overwriting lanes
  std::size_t arena_used_ = 0;
  // Chunks of a log that messages of the batch point into.
  std::array<log::chunk_ref, held_chunks_max> held_chunks_;
  std::size_t held_chunk_count_ = 0;
  registry::interest interest_;
  subscribe::sleeper sleeper_;
  subscriber_stats retired_;  // of retired sources
  // Lane keys of all sources there ever were, and of lanes that are none of this subscriber's.
  std::unordered_set<std::uint64_t> met_;
  std::uint64_t thread_ = 0;
  std::uint32_t idle_polls_ = 0;
  std::exception_ptr thrown_;  // from on_gap
  std::atomic<bool> stopped_{false};
};

// A reader that keeps up meets one message at a time: only what that needs is done here.
[[gnu::always_inline]] inline bool subscriber_core::take_one(detail::source& from) noexcept {
  if (from.reader.held_bytes() != 0) return false;
  const std::uint64_t position = from.reader.position(), seq = from.reader.next_seq();
  const bool taken = from.reader.take_one([&](const std::byte* data, std::uint64_t at,
                                              std::uint64_t sequence, std::uint64_t shape,
                                              std::uint64_t origin, std::uint64_t ticks) {
    if (!from.is_wanted(static_cast<std::uint32_t>(origin)) ||
        (wish_.type != 0 && (!layout::is_typed_origin(origin) ||
                             static_cast<std::uint32_t>(shape) != wish_.type_bytes))) [[unlikely]]
      return false;
    fill(batch_[0], from, data + layout::record_header_bytes, sequence, shape, origin, ticks, at);
    return true;
  });
  if (!taken) return false;
  // Messages handed out in place are intact only if our pin was not removed meanwhile.
  if (from.reader.was_overwritten(position)) [[unlikely]] {
    from.reader.set_position(position, seq);
    return false;
  }
  ++from.delivered;
  return true;
}

}  // namespace bus
