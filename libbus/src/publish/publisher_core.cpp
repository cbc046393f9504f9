#include "publish/publisher_core.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/hash.hpp"
#include "publish/confirm.hpp"
#include "registry/keeper_link.hpp"
#include "sync/words.hpp"

namespace bus {

namespace {

constexpr std::size_t batch_max = layout::largest_batch_messages;

errc code_of(publish_status status) noexcept {
  switch (status) {
    case publish_status::rejected:
    case publish_status::dropped: return errc::no_space;
    case publish_status::timed_out: return errc::timed_out;
    case publish_status::would_deadlock: return errc::would_deadlock;
    case publish_status::too_large: return errc::too_large;
    case publish_status::busy: return errc::busy;
    case publish_status::conflict: return errc::conflict;
    case publish_status::invalid: return errc::invalid_argument;
    case publish_status::type_mismatch: return errc::type_mismatch;
    case publish_status::closed: return errc::closed;
    case publish_status::forked: return errc::forked;
    case publish_status::unavailable: return errc::unavailable;
    case publish_status::no_space: return errc::no_space;
    case publish_status::unconfirmed: return errc::timed_out;
    default: return errc::system;
  }
}

publish_status status_of(errc code) noexcept {
  switch (code) {
    case errc::conflict: return publish_status::conflict;
    case errc::busy:
    case errc::timed_out: return publish_status::busy;
    case errc::invalid_argument: return publish_status::invalid;
    case errc::unavailable: return publish_status::unavailable;
    case errc::no_space: return publish_status::no_space;
    case errc::closed: return publish_status::closed;
    case errc::too_large: return publish_status::too_large;
    default: return publish_status::failed;
  }
}

}  // namespace

result<std::unique_ptr<publisher_core>> publisher_core::make(std::shared_ptr<session_core> session,
                                                             std::string_view subject,
                                                             publisher_options options) {
  auto valid = subject::check(subject);
  if (!valid) return std::move(valid.error());
  auto core = std::make_unique<publisher_core>();
  core->session = std::move(session);
  core->options = std::move(options);
  core->subject = subject;
  core->id = core->session->next_object_id();
  core->area_ = std::make_unique<std::byte[]>(layout::header_area_max_bytes);
  core->generation_word = &core->session->directory->control().generation;
  core->generation_seen = core->session->directory->generation();
  auto stream = core->session->stream_of_subject(subject, nullptr,
                                                 core->session->directory->may_be_changing());
  if (!stream) return std::move(stream.error());
  if (const auto& config = (*stream)->facts().config;
      core->options.confirm == confirm::disk &&
      (config.storage != storage_class::durable || config.fsync == fsync_policy::never))
    return error{errc::invalid_argument, 0,
                 "cannot publish to '" + core->subject + "' with confirm disk",
                 "the storage of stream '" + config.name + "' is " + storage_name(config.storage) +
                     ", its fsync " + fsync_name(config.fsync) + ": nothing is confirmed on disk",
                 "recreate it with --storage durable --fsync batch, or choose another confirm"};
  publish_status status = core->bind(std::move(*stream));
  const auto is_gone = [&] {
    return status == publish_status::closed || core->last_error.code == errc::not_found;
  };
  for (int attempt = 0; status != publish_status::ok && is_gone() && attempt < 8; ++attempt) {
    auto now = core->session->stream_of_subject(subject);  // it has just been removed
    if (!now) return std::move(now.error());
    status = core->bind(std::move(*now));
  }
  if (status != publish_status::ok) {
    if (core->last_error.what.empty())
      core->last_error = {code_of(status), 0, "cannot publish to '" + core->subject + "'",
                          publish_status_name(status), ""};
    return std::move(core->last_error);
  }
  return core;
}

publisher_core::~publisher_core() {
  if (!session || !session->guard.same_process()) {
    for (auto& port : ports_) (void)port.release();  // the parent's, as is its memory
    return;
  }
  ports_.clear();
  if (slot_) session->me->give_back(*slot_);
}

publish_status publisher_core::fail(publish_status status, error why) noexcept {
  last_error = std::move(why);
  return status;
}

publish_status publisher_core::bind(std::shared_ptr<registry::stream_handle> to) {
  ports_.clear();
  main_port = nullptr;
  plain_below_ = shared_plain_below_ = 0;
  bound_ = false;
  forget_subjects();
  lent_ = nullptr;
  if (slot_) session->me->give_back(*slot_);
  slot_.reset();
  stream = std::move(to);
  const bool exclusive = options.mode == publish_mode::exclusive;
  auto slot = session->me->claim_slot(
      layout::slot_kind::publisher, id, stream->facts().stream_id, 0,
      options.name.empty() ? subject : options.name + " " + subject, stream->name(),
      exclusive ? std::uint64_t{layout::slot_exclusive} : 0);
  if (!slot) return fail(publish_status::failed, std::move(slot.error()));
  slot_ = *slot;
  slot_words_ = &session->me->slot(*slot_);
  const publish_status opened = open_ports();
  if (opened != publish_status::ok) return opened;
  sync::store_relaxed(slot_words_->lane, main_port->index());
  own_ = {};
  const publish_status resolved = resolve(subject, own_);
  if (resolved == publish_status::ok && type_ != 0 &&
      own_.subject_id != layout::inline_subject_id &&
      stream->claim_type(own_.subject_id, type_) != type_)
    return fail(publish_status::type_mismatch,
                {errc::type_mismatch, 0, "cannot publish to '" + subject + "'",
                 "stream '" + stream->name() + "' has a different type for it", ""});
  if (resolved == publish_status::ok && own_.subject_id != layout::inline_subject_id) {
    const std::size_t all = stream->facts().config.max_message_bytes + 1;
    if (!main_port->exclusive()) {
      shared_plain_below_ = all;
    } else if (main_port->stamps_are_cycles() && options.confirm != confirm::disk) {
      plain_below_ = std::min(all, base::short_copy_max_bytes + 1);
      if (options.early_bytes != 0) plain_below_ = std::min(plain_below_, options.early_bytes);
    }
    plain_origin_ = layout::pack_origin(own_.subject_id, own_id());
  }
  bound_ = resolved == publish_status::ok;
  forget_subjects();
  // What the log cannot take is not put into the ring: the first publish reports that.
  if (stream->has_log() && main_port->log_health() > layout::log_health::good) generation_seen = 0;
  return resolved;
}

// Forgets all subjects except its own.
void publisher_core::forget_subjects() {
  static std::atomic<std::uint64_t> last{0};
  acquaintance_ = ++last;
  ids_.clear();
  // Not of a typed publisher: only what it publishes to its own subject is typed, see build_head.
  if (bound_ && type_ == 0 && own_.subject_id != layout::inline_subject_id)
    ids_.add(subject, own_.subject_id);
}

publish_status publisher_core::open_ports() {
  const auto& config = stream->facts().config;
  const auto timeout = options.send_timeout.value_or(config.send_timeout);
  const auto open = [&](std::uint32_t index) -> publish_status {
    auto map = stream->lane(index, true);
    if (!map) return fail(status_of(map.error().code), std::move(map.error()));
    auto told = session->directory->announce_lane(stream->facts(), **map);
    if (!told) return fail(status_of(told.error().code), std::move(told.error()));
    if (ports_.size() <= index) ports_.resize(index + 1);
    ports_[index] = std::make_unique<publish::lane_port>(*session, stream, std::move(*map), timeout,
                                                         slot_words_);
    main_port = ports_[index].get();
    return publish_status::ok;
  };
  const auto open_exclusive = [&](std::uint32_t index) -> publish_status {
    publish_status status = open(index);
    if (status == publish_status::ok) {
      // Before the lease: see lane_port::time_unclaimed.
      sync::store_relaxed(slot_words_->lane, index);
      sync::store_release(slot_words_->flags,
                          sync::load_relaxed(slot_words_->flags) | layout::slot_leasing);
      status = main_port->take_lease();
      if (status != publish_status::ok) last_error = main_port->take_error();
    }
    return status;
  };
  if (config.mode == lane_mode::per_publisher) {
    for (;;) {
      const std::uint32_t lanes = stream->lane_count();
      for (std::uint32_t lane = 0; lane < lanes; ++lane) {
        const publish_status status = open_exclusive(lane);
        if (status != publish_status::conflict) return status;
        ports_[lane].reset();
      }
      if (lanes >= config.lanes)
        return fail(publish_status::conflict,
                    {errc::conflict, 0, "cannot publish to stream '" + config.name + "'",
                     "all its " + std::to_string(config.lanes) + " lanes have a publisher",
                     "recreate it with more --lanes"});
      if (stream->has_log()) {  // the log is made first
        auto asked =
            session->ask_keeper({{"do", "add_lane"}, {"name", config.name}, {"lane", lanes}});
        if (!asked && asked.error().code != errc::conflict)
          return fail(status_of(asked.error().code), std::move(asked.error()));
        continue;
      }
      auto lock = session->directory->lock_changes();
      if (!lock) return fail(publish_status::busy, std::move(lock.error()));
      auto made = session->directory->add_lane(stream->facts(), lanes);
      if (!made && made.error().code != errc::conflict)
        return fail(publish_status::failed, std::move(made.error()));
    }
  }
  if (options.lane && *options.lane >= config.lanes)
    return fail(
        publish_status::invalid,
        {errc::invalid_argument, 0, "cannot publish to lane " + std::to_string(*options.lane),
         "stream '" + config.name + "' has " + std::to_string(config.lanes) + " lane(s)", ""});
  if (options.mode == publish_mode::shared) return open(options.lane.value_or(id % config.lanes));
  if (options.lane) return open_exclusive(*options.lane);
  publish_status status = publish_status::conflict;
  for (std::uint32_t lane = 0; lane < config.lanes && status == publish_status::conflict; ++lane)
    status = open_exclusive(lane);
  return status;
}

// No other declared stream can capture the subjects of this one, but any may take over subjects of
// the default stream.
bool publisher_core::concerns_us(const registry::stream_changes& changes) const {
  if (changes.concerns(stream->name())) return true;
  return stream->is_default() &&
         std::any_of(changes.names.begin(), changes.names.end(), [&](const std::string& name) {
           const auto facts = session->directory->facts_of(name);
           if (!facts) return facts.error().code != errc::not_found;
           return registry::stream_handle::make({}, **facts, nullptr)->captures(subject);
         });
}

// A stream came, went or changed. The subject may belong to another one now.
publish_status publisher_core::follow_change() noexcept {
  const bool removed = session->directory->removed();
  if (bound_ && !main_port->closed() && !removed) {
    const std::uint64_t generation = session->directory->generation();
    const auto changes = session->directory->changes_between(generation_seen, generation);
    if (!stream->has_log() && !concerns_us(changes)) {
      if (stream->is_default() && !changes.names.empty()) forget_subjects();
      generation_seen = generation;
      return publish_status::ok;
    }
    const auto facts = session->directory->facts_of(stream->name());
    if (!facts || (*facts)->stream_id != stream->facts().stream_id) {
      std::size_t looked = 0;
      (void)stream->look_for_files(*session->directory, looked);
    } else if (!stream->is_default() && !(*facts)->sealed && !(*facts)->held) {
      // No other declared stream can capture these subjects: only the stream's own changes matter.
      if (stream->has_log() && main_port->log_health() > layout::log_health::good)
        return fail(publish_status::no_space, main_port->health_error());
      if (stream->has_log()) {
        if (const publish_status status = reopen_logs(); status != publish_status::ok)
          return status;
      }
      generation_seen = generation;
      return publish_status::ok;
    }
  }
  // The files were not removed on purpose: the stream that captures the subject now was not meant.
  if (bound_ && stream->is_lost() && !removed) {
    generation_seen = 0;
    return fail(publish_status::closed, stream->lost_error());
  }
  std::uint64_t seen = 0;
  auto now = session->stream_of_subject(subject, &seen, false);
  if (!now) {
    const publish_status status = status_of(now.error().code);
    return fail(status == publish_status::failed ? publish_status::closed : status,
                std::move(now.error()));
  }
  generation_seen = seen;  // 0: not all streams could be read
  forget_subjects();       // the subjects may belong to another stream now
  if (bound_ && (*now)->facts().stream_id == stream->facts().stream_id) {
    if (!main_port->closed()) {
      // The log's health may have changed: what it cannot take is not put into the ring.
      if (!stream->has_log()) return publish_status::ok;
      if (main_port->log_health() <= layout::log_health::good) {
        const publish_status told = reopen_logs();
        if (told != publish_status::ok) generation_seen = 0;
        return told;
      }
      generation_seen = 0;
      return fail(publish_status::no_space, main_port->health_error());
    }
    generation_seen = 0;
    return fail(publish_status::closed,
                {errc::closed, 0, "cannot publish to '" + subject + "'",
                 "stream '" + stream->name() + "' was removed, and its successor cannot be opened",
                 "free file descriptors or memory, and publish again"});
  }
  publish_status status = bind(std::move(*now));
  if (status == publish_status::failed && last_error.code == errc::not_found) {
    // Its files were deleted without an announcement.
    auto again = session->stream_of_subject(subject, &seen);
    if (again) status = bind(std::move(*again));
  }
  if (status != publish_status::ok) generation_seen = 0;  // try again at the next call
  if (status == publish_status::ok && stream->has_log() &&
      main_port->log_health() > layout::log_health::good)
    return fail(publish_status::no_space, main_port->health_error());
  return status;
}

// An exclusive publisher keeps its lease while busd is stopped.
publish_status publisher_core::reopen_logs() noexcept {
  for (auto& port : ports_) {
    if (!port || !port->exclusive() || !port->is_log_stopped()) continue;
    const publish_status status = port->reopen_log();
    if (status != publish_status::ok) return fail(status, port->take_error());
  }
  return publish_status::ok;
}

publish_status publisher_core::resolve(std::string_view to, target& found) noexcept {
  auto interned = stream->intern(to, session->me->lock_word(), *session->peers);
  if (!interned) return fail(status_of(interned.error().code), std::move(interned.error()));
  if (*interned)
    found = {(*interned)->id, {}};
  else
    found = {layout::inline_subject_id, to};
  return publish_status::ok;
}

publish_status publisher_core::build_head(const target& to, std::size_t payload_bytes,
                                          std::span<const header> headers, bool progress,
                                          std::byte* area, ring::record_head& head,
                                          std::size_t* progress_offset) noexcept {
  const auto too_large = [&](std::size_t bytes, std::uint64_t limit) {
    return fail(publish_status::too_large,
                {errc::too_large, 0,
                 "cannot publish " + std::to_string(bytes) + " bytes to '" + subject + "'",
                 "stream '" + stream->name() + "' accepts messages of up to " +
                     std::to_string(limit) + " bytes",
                 "recreate the stream with a larger --max-message-bytes"});
  };
  const std::uint64_t limit = stream->facts().config.max_message_bytes;
  if (payload_bytes > limit) return too_large(payload_bytes, limit);
  head.shape = {static_cast<std::uint32_t>(payload_bytes), 0, 0};
  head.subject_id = to.subject_id;
  head.publisher_id = is_own(to) ? own_id() : id;
  if (headers.empty() && !progress && to.subject_id != layout::inline_subject_id) [[likely]]
    return publish_status::ok;
  layout::header_area_builder builder(area);
  if (to.subject_id == layout::inline_subject_id) {
    builder.inline_subject(to.inline_text);
    if (type_ != 0 && is_own(to)) builder.extension(layout::ext_type, type_);
  }
  if (progress) builder.extension(layout::ext_progress, 0);
  builder.begin_user_headers();
  for (const header& h : headers) {
    if (!builder.user_header(h.key, h.value))
      return fail(publish_status::invalid,
                  {errc::invalid_argument, 0, "cannot publish to '" + subject + "'",
                   "header '" + std::string(h.key.substr(0, 64)) +
                       "': keys have 1-255 bytes, values up to 65535, all together up to 32 KiB",
                   ""});
  }
  head.header = area;
  head.shape.header_bytes = builder.finish();
  head.shape.flags =
      static_cast<std::uint16_t>(builder.flags() | (progress ? layout::flag_progress : 0));
  if (progress)
    *progress_offset = layout::record_header_bytes +
                       layout::header_area(area, head.shape.header_bytes, head.shape.flags)
                           .offset_of(layout::ext_progress);
  if (head.shape.total_bytes() > main_port->largest_bytes())
    return too_large(payload_bytes + head.shape.header_bytes, limit);
  return publish_status::ok;
}

publish::lane_port& publisher_core::port_for(std::span<const header> headers) noexcept {
  const auto& config = stream->facts().config;
  if (config.lanes == 1 || main_port->exclusive() || options.lane ||
      config.mode != lane_mode::fixed)
    return *main_port;
  for (const header& h : headers) {
    if (h.key != "key") continue;
    const auto lane = static_cast<std::uint32_t>(base::hash_bytes(h.value) % config.lanes);
    if (ports_.size() <= lane) ports_.resize(lane + 1);
    if (!ports_[lane]) {
      auto map = stream->lane(lane, true);
      if (!map || !session->directory->announce_lane(stream->facts(), **map)) return *main_port;
      ports_[lane] = std::make_unique<publish::lane_port>(
          *session, stream, std::move(*map), options.send_timeout.value_or(config.send_timeout),
          slot_words_);
    }
    return *ports_[lane];
  }
  return *main_port;
}

published publisher_core::finish(publish::lane_port& port, published outcome,
                                 std::uint64_t messages, std::uint64_t bytes) noexcept {
  if (outcome.status == publish_status::ok) [[likely]] {
    sync::bump(slot_words_->messages, messages);
    sync::bump(slot_words_->bytes, bytes);
    last_receipt_ = {port.index(), outcome.sequence + messages - 1};
    return options.confirm == confirm::disk ? confirmed(outcome) : outcome;
  }
  sync::bump(slot_words_->refused, messages);
  last_error = port.take_error();
  if (last_error.what.empty())
    last_error = {code_of(outcome.status), 0, "cannot publish to '" + subject + "'",
                  publish_status_name(outcome.status), ""};
  return outcome;
}

bool publisher_core::is_durable(const receipt& of) const noexcept {
  if (of.lane == main_port->index()) return main_port->durable_seq() >= of.sequence;
  const auto map = stream->lane(of.lane, true);
  // [D2]
  return map && stream->facts().config.storage == storage_class::durable &&
         sync::load_acquire((*map)->header().durability.durable_seq) >= of.sequence;
}

result<void> publisher_core::wait_durable(const receipt& of,
                                          std::chrono::nanoseconds wait) noexcept {
  if (!session->guard.same_process()) return session->forked_error();
  return publish::wait_durable(*session, *stream, of, wait);
}

std::size_t publisher_core::call_waiters() {
  std::size_t called = 0;
  for (std::size_t i = 0; i < waiters_.size();) {
    if (!is_durable(waiters_[i].of)) {
      ++i;
      continue;
    }
    // Removed first, because the call may add another.
    const waiter due = std::move(waiters_[i]);
    waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(i));
    due.fn(due.of);
    ++called;
  }
  if (!waiters_.empty()) registry::ring_keeper(session->directory->control());
  return called;
}

published publisher_core::confirmed(published outcome) noexcept {
  auto done = wait_durable(last_receipt_,
                           options.send_timeout.value_or(stream->facts().config.send_timeout));
  if (done) return outcome;
  last_error = std::move(done.error());
  return {publish_status::unconfirmed, outcome.sequence};
}

published publisher_core::finish_fast(std::uint64_t sequence) noexcept {
  main_port->finish_plain();
  return {publish_status::ok, sequence};
}

published publisher_core::publish_slowly(std::span<const std::byte> payload) noexcept {
  if (const publish_status status = admit(); status != publish_status::ok) [[unlikely]]
    return {status, 0};
  if (payload.size() < shared_plain_below_) [[likely]] {
    const std::uint64_t sequence = main_port->put_plain_shared(
        static_cast<std::uint32_t>(payload.size()), plain_origin_, payload.data());
    if (sequence != 0) [[likely]]
      return finish(*main_port, {publish_status::ok, sequence}, 1, payload.size());
  }
  const bool progress =
      options.early_bytes != 0 && payload.size() >= options.early_bytes && main_port->exclusive();
  if (own_.subject_id == layout::inline_subject_id || progress) [[unlikely]]
    return publish_with({}, payload, {});
  if (payload.size() > stream->facts().config.max_message_bytes) [[unlikely]]
    return publish_with({}, payload, {});
  publish::outgoing_record record;
  record.head.shape = {static_cast<std::uint32_t>(payload.size()), 0, 0};
  record.head.subject_id = own_.subject_id;
  record.head.publisher_id = own_id();
  record.payload = payload.data();
  return finish(*main_port, main_port->put(record), 1, payload.size());
}

published publisher_core::publish_to_new(known_subject& to,
                                         std::span<const std::byte> payload) noexcept {
  const published done = publish_with(to.text_, payload, {});
  // If the call has cached the subject, the next one is short.
  if (const std::uint32_t met = known_id(to.text_); met != publish::subject_cache::unknown) {
    to.acquaintance_ = acquaintance_;
    to.id_ = met;
  }
  return done;
}

// The default stream takes what no declared stream captures.
bool publisher_core::is_ours(std::string_view to) {
  if (!stream->is_default()) return stream->captures(to);
  auto owner = session->stream_of_subject(to, nullptr, false);
  return owner && (*owner)->facts().stream_id == stream->facts().stream_id;
}

published publisher_core::publish_with(std::string_view to, std::span<const std::byte> payload,
                                       std::span<const header> headers) noexcept {
  if (const publish_status status = admit(); status != publish_status::ok) return {status, 0};
  target where = own_;
  if (!to.empty() && to != subject) {
    where = {ids_.find(to), {}};
    if (where.subject_id == publish::subject_cache::unknown) {
      if (auto valid = subject::check(to); !valid)
        return {fail(publish_status::invalid, std::move(valid.error())), 0};
      if (!is_ours(to))
        return {fail(publish_status::invalid,
                     {errc::invalid_argument, 0, "cannot publish to '" + std::string(to) + "'",
                      "stream '" + stream->name() + "' does not capture it",
                      "open a publisher for that subject"}),
                0};
      if (const publish_status status = resolve(to, where); status != publish_status::ok)
        return {status, 0};
      if (where.subject_id != layout::inline_subject_id) ids_.add(to, where.subject_id);
    }
  } else if (own_.subject_id == layout::inline_subject_id) {
    where.inline_text = subject;
  }
  publish::lane_port& port = port_for(headers);
  const bool progress =
      options.early_bytes != 0 && payload.size() >= options.early_bytes && port.exclusive();
  publish::outgoing_record record;
  std::size_t progress_offset = 0;
  const publish_status status = build_head(where, payload.size(), headers, progress, area_.get(),
                                           record.head, &progress_offset);
  if (status != publish_status::ok) return {status, 0};
  record.payload = payload.data();
  return finish(port, progress ? port.put_open(record, progress_offset) : port.put(record), 1,
                payload.size());
}

published publisher_core::publish_batch(
    std::span<const std::span<const std::byte>> payloads) noexcept {
  if (const publish_status status = admit(); status != publish_status::ok) return {status, 0};
  const std::uint64_t limit = stream->facts().config.max_message_bytes;
  std::uint64_t total = 0, bytes = 0;
  for (const auto& payload : payloads) {
    total +=
        layout::record_shape{
            static_cast<std::uint32_t>(std::min<std::uint64_t>(payload.size(), limit)), 0, 0}
            .total_bytes();
    bytes += payload.size();
    if (payload.size() > limit) total = ~0ull / 2;
  }
  const bool plain =
      own_.subject_id != layout::inline_subject_id && total <= main_port->largest_batch_bytes();
  // the general path also words the refusal
  if (!plain || payloads.empty() || payloads.size() > batch_max) {
    std::vector<outgoing> messages(payloads.size());
    for (std::size_t i = 0; i < payloads.size(); ++i) messages[i].payload = payloads[i];
    return publish_batch(messages);
  }
  publish::outgoing_record record;
  record.head.subject_id = own_.subject_id;
  record.head.publisher_id = own_id();
  const auto at = [&](std::size_t i) -> const publish::outgoing_record& {
    record.head.shape = {static_cast<std::uint32_t>(payloads[i].size()), 0, 0};
    record.payload = payloads[i].data();
    return record;
  };
  return finish(*main_port, main_port->put_all(payloads.size(), at), payloads.size(), bytes);
}

published publisher_core::publish_batch(std::span<const outgoing> messages) noexcept {
  if (const publish_status status = admit(); status != publish_status::ok) return {status, 0};
  if (messages.empty()) return {publish_status::ok, 0};
  const auto refuse = [&](std::string why) {
    return published{fail(publish_status::too_large,
                          {errc::too_large, 0, "cannot publish a batch to '" + subject + "'",
                           std::move(why), "split it"}),
                     0};
  };
  if (messages.size() > batch_max) return refuse("it has more than 1000 messages");
  thread_local std::vector<publish::outgoing_record> records;
  thread_local std::vector<std::byte> areas;
  records.assign(messages.size(), {});
  areas.clear();
  // record and offset in areas, which may move while it grows
  std::vector<std::pair<std::size_t, std::size_t>> placed;
  std::uint64_t total = 0, bytes = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const outgoing& m = messages[i];
    target where = own_;
    if (own_.subject_id == layout::inline_subject_id) where.inline_text = subject;
    if (!m.subject.empty() && m.subject != subject) {
      if (auto valid = subject::check(m.subject); !valid)
        return {fail(publish_status::invalid, std::move(valid.error())), 0};
      if (!is_ours(m.subject))
        return {
            fail(publish_status::invalid,
                 {errc::invalid_argument, 0, "cannot publish to '" + std::string(m.subject) + "'",
                  "a batch belongs to one stream, '" + stream->name() + "'", ""}),
            0};
      if (const publish_status status = resolve(m.subject, where); status != publish_status::ok)
        return {status, 0};
    }
    const publish_status status = build_head(where, m.payload.size(), m.headers, false, area_.get(),
                                             records[i].head, nullptr);
    if (status != publish_status::ok) return {status, 0};
    if (records[i].head.shape.header_bytes != 0) {
      placed.emplace_back(i, areas.size());
      areas.insert(areas.end(), area_.get(), area_.get() + records[i].head.shape.header_bytes);
    }
    records[i].payload = m.payload.data();
    total += records[i].head.shape.total_bytes();
    bytes += m.payload.size();
  }
  for (const auto& [index, offset] : placed) records[index].head.header = areas.data() + offset;
  if (total > main_port->largest_bytes())
    return refuse("it needs " + std::to_string(total) + " bytes of ring; at most " +
                  std::to_string(main_port->largest_bytes()) + " are allowed per batch");
  if (messages.size() > 1 && total > main_port->largest_batch_bytes())
    return refuse("it has " + std::to_string(total) + " bytes, and busd writes at most " +
                  std::to_string(main_port->largest_batch_bytes()) +
                  " bytes of a durable stream at once (its --buffer-bytes)");
  return finish(*main_port,
                main_port->put_all(
                    records.size(), [&](std::size_t i) -> const auto& { return records[i]; }),
                messages.size(), bytes);
}

result<loan> publisher_core::make_loan(std::size_t bytes) noexcept {
  const auto failed = [&](publish_status status) {
    if (last_error.what.empty())
      last_error = {code_of(status), 0, "cannot lend space on '" + subject + "'",
                    publish_status_name(status), ""};
    return last_error;
  };
  last_error = {};
  if (const publish_status status = admit(); status != publish_status::ok) return failed(status);
  target where = own_;
  if (own_.subject_id == layout::inline_subject_id) where.inline_text = subject;
  ring::record_head head;
  const publish_status status = build_head(where, bytes, {}, false, area_.get(), head, nullptr);
  if (status != publish_status::ok) return failed(status);
  if (!main_port->exclusive()) {
    if (loan_buffer_.size() < bytes + 32) loan_buffer_.resize(bytes + 32);
    const auto start = base::round_up(reinterpret_cast<std::uintptr_t>(loan_buffer_.data()), 32);
    lent_ = reinterpret_cast<const std::byte*>(start);
    lent_messages_ = sync::load_relaxed(slot_words_->messages);
    return loan(this, {reinterpret_cast<std::byte*>(start), bytes}, 0);
  }
  publish_status roomy = publish_status::ok;
  std::byte* at = main_port->loan(head, roomy);
  if (at == nullptr) {
    last_error = main_port->take_error();
    return failed(roomy);
  }
  lent_ = at;
  lent_messages_ = sync::load_relaxed(slot_words_->messages);
  return loan(this, {at, bytes}, main_port->loan_ticket());
}

published publisher_core::commit_loan(std::span<std::byte> data, std::uint64_t ticket,
                                      std::size_t bytes) noexcept {
  if (const publish_status status = admit(); status != publish_status::ok) return {status, 0};
  const bool current = lent_ != nullptr && lent_ == data.data() &&
                       lent_messages_ == sync::load_relaxed(slot_words_->messages);
  lent_ = nullptr;
  if (current && ticket == 0) return publish_slowly(data.first(bytes));
  if (!current || !main_port->exclusive() || main_port->loan_ticket() != ticket)
    return {fail(publish_status::invalid,
                 {errc::invalid_argument, 0, "cannot commit a loan on '" + subject + "'",
                  "it was already committed, or another message was published since it was lent",
                  "use one loan at a time"}),
            0};
  target where = own_;
  if (own_.subject_id == layout::inline_subject_id) where.inline_text = subject;
  ring::record_head head;
  const publish_status status = build_head(where, bytes, {}, false, area_.get(), head, nullptr);
  if (status != publish_status::ok) return {status, 0};
  return finish(*main_port, main_port->commit_loan(head), 1, bytes);
}

bool publisher_core::would_block(std::size_t bytes) noexcept {
  if (admit() != publish_status::ok) return false;
  const layout::record_shape shape{static_cast<std::uint32_t>(bytes), 0, 0};
  return main_port->would_block(shape.total_bytes());
}

result<void> publisher_core::claim_type(std::uint64_t type, std::string_view type_name,
                                        std::size_t bytes) {
  type_ = type;
  plain_origin_ = layout::pack_origin(own_.subject_id, own_id());
  forget_subjects();  // messages to its own subject are typed
  if (own_.subject_id == layout::inline_subject_id) return {};
  if (stream->claim_type(own_.subject_id, type) == type) return {};
  return error{errc::type_mismatch, 0,
               "cannot publish " + std::string(type_name) + " to '" + subject + "'",
               "the subject carries another type, or another layout of it (this one has " +
                   std::to_string(bytes) + " bytes)",
               "use another subject, or publish with its type"};
}

}  // namespace bus
