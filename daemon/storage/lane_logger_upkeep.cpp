/// lane_logger, upkeep: what is due besides writing: retention, full segments, marks when idle, and
/// the end of a logger. The invariants are those of lane_logger.hpp.

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/assert.hpp"
#include "os/futex.hpp"
#include "registry/lane_fence.hpp"
#include "storage/lane_logger.hpp"
#include "sync/words.hpp"

namespace bus::storage {

namespace {

constexpr auto mark_after = std::chrono::milliseconds(200);
constexpr auto retention_every = std::chrono::seconds(1);
// while the space of removed segments is freed little by little
constexpr auto drop_again_after = std::chrono::milliseconds(100);
constexpr auto upkeep_again_after = std::chrono::minutes(1);  // after a failure

}  // namespace

void lane_logger::take_copies(clock::time_point now) {
  auto done = worker_.take(log_->directory());
  if (!done) return;
  if (const auto* compressed = std::get_if<compressed_segment_file>(&*done)) {
    switch (compressed->copy.outcome) {
      case compress_outcome::done: {
        const std::uint64_t before = log_->full_bytes();
        (void)log_->replace_segment(compressed->what.base_seq, compressed->path,
                                    compressed->copy.bytes);
        // Growth is measured against what is left of the thinned segments.
        if (thinned_ && compressed->what.base_seq < thinned_->upto)
          thinned_->bytes -= std::min(thinned_->bytes, before - log_->full_bytes());
        break;
      }
      case compress_outcome::left: log_->mark_compress_skipped(compressed->what.base_seq); break;
      case compress_outcome::stopped: break;
      case compress_outcome::failed: next_upkeep_ = now + upkeep_again_after; break;
    }
    return;
  }
  const auto& [what, copies] = std::get<thinned_log>(*done);
  if (copies.outcome == thin_outcome::done && log_->replace_segments(copies.made) != 0)
    next_upkeep_ = now + upkeep_again_after;
  if (copies.outcome == thin_outcome::failed) next_upkeep_ = now + upkeep_again_after;
  if (copies.outcome > thin_outcome::left || now < next_upkeep_) return;
  thinned_ = {what.bases.back(), log_->full_bytes()};
}

// Full segments are compressed one by one, and thinned together, each time they have grown by a
// quarter.
void lane_logger::keep_up(clock::time_point now) {
  take_copies(now);
  if (spills() || now < next_upkeep_) return;
  if (config_.max_messages_per_subject != 0) {
    if (!thinned_) thinned_ = log_->thinned();
    auto bases = log_->bases();
    if (bases.size() > 1 && bases.back() > thinned_->upto &&
        log_->full_bytes() >= thinned_->bytes + thinned_->bytes / 4) {
      (void)worker_.begin(thinning{log_->directory(), log_->log_id(), std::move(bases),
                                   config_.max_messages_per_subject, subjects_->count(),
                                   static_cast<std::uint64_t>(config_.max_age.count()), log_->now(),
                                   log_->segment_bytes()});
      return;
    }
  }
  if (config_.compress == compression::none) return;
  if (const auto base_seq = log_->next_full_segment())
    (void)worker_.begin(compression_job{log_->directory(), log_->log_id(), *base_seq});
}

void lane_logger::set_config(const stream_config& config) {
  // thins all segments again
  if (config.max_messages_per_subject != config_.max_messages_per_subject) thinned_.emplace();
  config_ = config;
  if (config_.max_messages != 0 || config_.max_messages_per_subject != 0) log_->learn_counts();
  next_retention_ = {};
}

result<void> lane_logger::sync() {
  BUS_ASSERT(!log_->in_flight());
  if (problem_) return *problem_;
  return log_->written_seq() > log_->durable_seq() ? log_->sync() : result<void>();
}

void lane_logger::housekeep(clock::time_point now) {
  keep_up(now);
  publish_facts();
  if (problem_ || log_->in_flight()) return;
  // Synced by an order, not by a commit.
  if (!spills() && config_.fsync != fsync_policy::never &&
      sync::load_relaxed(words().durable_seq) < log_->durable_seq()) {
    sync::store_release(words().durable_seq, log_->durable_seq());
    publish_progress(stored_position_);
  }
  if (config_.fsync == fsync_policy::interval && !spills() &&
      log_->written_seq() > log_->durable_seq() && now - last_sync_ >= config_.fsync_interval) {
    last_sync_ = now;
    auto synced = log_->sync();
    if (!synced) return report_problem(std::move(synced.error()));
    sync::store_release(words().durable_seq, log_->durable_seq());  // LOGGER-2
    publish_progress(stored_position_);
  }
  if (!marked_ && now - last_commit_ > mark_after) {
    marked_ = true;
    auto marked = log_->write_mark();
    if (!marked) return report_problem(std::move(marked.error()));
  }
  if (now < next_retention_) return;
  if (spills())
    log_->drop_consumed(std::min(gate_.lowest_wanted(), log_->next_seq()));
  else if (log_->is_dropping())
    log_->drop_consumed(log_->first_seq());
  else
    log_->retain({static_cast<std::uint64_t>(config_.max_age.count()), config_.max_bytes,
                  config_.max_messages});
  next_retention_ = now + (log_->is_dropping() ? drop_again_after : retention_every);
  publish_readable();
  publish_facts();
}

result<void> lane_logger::purge(std::uint64_t below) {
  auto purged = log_->purge(std::min(below, log_->next_seq()));
  next_retention_ = {};
  publish_readable();
  publish_facts();
  return purged;
}

// Also holds for what is still in the ring.
void lane_logger::publish_readable() noexcept {
  if (spills()) return;
  auto& readable = lane_->header().counters.readable_from;
  if (log_->first_seq() > sync::load_relaxed(readable))
    sync::store_release(readable, log_->first_seq());
}

void lane_logger::stop_publishing() {
  if (spills() || problem_) return;
  log_->forget_reopening();  // of an earlier stop
  // Before the fence: an exclusive publisher that ends meanwhile leaves the lane parked.
  sync::store_release(words().stopped, session_.me->id());  // another number at every stop
  const auto fence = registry::raise_fence(*lane_, layout::lease_parked, session_.me->lock_word(),
                                           *session_.peers);
  if (fence == registry::fence::busy) return sync::store_release(words().stopped, 0);
  session_.directory->announce_change(layout::change_kind::changed, config_.name);
  // FENCE-2. A call that began before the fence ends during the rounds that follow, or its messages
  // count in beyond_.
  beyond_ = fence == registry::fence::raised ? 0 : layout::largest_batch_messages;
}

void lane_logger::close() {
  // Sequences of messages that could not be written were given out nevertheless.
  if (problem_ || filling_ || reader_.ready()) beyond_.reset();
  auto closed = log_->close(beyond_);
  if (!closed) {
    news_ = std::move(closed.error());
    return;
  }
  if (!spills() && config_.fsync != fsync_policy::never)
    sync::store_release(words().durable_seq, log_->durable_seq());
  publish_progress(stored_position_);
}

}  // namespace bus::storage
