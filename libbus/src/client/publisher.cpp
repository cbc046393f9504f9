#include <bus/publisher.hpp>

#include "publish/publisher_core.hpp"

#include <bus/typed.hpp>

namespace bus {

const char* publish_status_name(publish_status status) noexcept {
  switch (status) {
    case publish_status::ok: return "ok";
    case publish_status::dropped: return "dropped";
    case publish_status::rejected: return "rejected";
    case publish_status::timed_out: return "timed_out";
    case publish_status::would_deadlock: return "would_deadlock";
    case publish_status::too_large: return "too_large";
    case publish_status::busy: return "busy";
    case publish_status::conflict: return "conflict";
    case publish_status::invalid: return "invalid";
    case publish_status::type_mismatch: return "type_mismatch";
    case publish_status::closed: return "closed";
    case publish_status::forked: return "forked";
    case publish_status::unavailable: return "unavailable";
    case publish_status::no_space: return "no_space";
    case publish_status::unconfirmed: return "unconfirmed";
    case publish_status::failed: return "failed";
  }
  return "unknown";
}

publisher::publisher(std::unique_ptr<publisher_core> core) noexcept : core_(std::move(core)) {}
publisher::publisher(publisher&&) noexcept = default;
publisher& publisher::operator=(publisher&&) noexcept = default;
publisher::~publisher() = default;

published publisher::publish(std::span<const std::byte> payload) noexcept {
  publisher_core& core = *core_;
  if (!core.is_plain(payload)) [[unlikely]]
    return core.publish_slowly(payload);
  bool settled = true;
  const std::uint64_t sequence = core.publish_plain(payload, core.own_origin(), settled);
  if (!settled) [[unlikely]]
    return core.finish_fast(sequence);
  return {publish_status::ok, sequence};
}

published publisher::publish(std::span<const std::byte> payload,
                             std::span<const header> headers) noexcept {
  return core_->publish_with({}, payload, headers);
}

published publisher::publish_to(std::string_view subject, std::span<const std::byte> payload,
                                std::span<const header> headers) noexcept {
  publisher_core& core = *core_;
  if (!headers.empty() || !core.is_plain(payload)) [[unlikely]]
    return core.publish_with(subject, payload, headers);
  const std::uint32_t id = core.known_id(subject);
  if (id == publish::subject_cache::unknown) [[unlikely]]
    return core.publish_with(subject, payload, headers);
  bool settled = true;
  const std::uint64_t sequence = core.publish_plain(payload, core.origin_of(id), settled);
  if (!settled) [[unlikely]]
    return core.finish_fast(sequence);
  return {publish_status::ok, sequence};
}

published publisher::publish_to(known_subject& subject,
                                std::span<const std::byte> payload) noexcept {
  publisher_core& core = *core_;
  if (!core.is_plain(payload) || !core.knows(subject)) [[unlikely]]
    return core.publish_to_new(subject, payload);
  bool settled = true;
  const std::uint64_t sequence = core.publish_plain(payload, core.origin_of(subject), settled);
  if (!settled) [[unlikely]]
    return core.finish_fast(sequence);
  return {publish_status::ok, sequence};
}

published publisher::publish_batch(std::span<const outgoing> messages) noexcept {
  return core_->publish_batch(messages);
}

published publisher::publish_batch(std::span<const std::span<const std::byte>> payloads) noexcept {
  return core_->publish_batch(payloads);
}

result<loan> publisher::loan(std::size_t bytes) noexcept { return core_->make_loan(bytes); }

published loan::commit() noexcept {
  if (core_ == nullptr) return {publish_status::invalid, 0};
  return std::exchange(core_, nullptr)->commit_loan(data_, ticket_, data_.size());
}

bool publisher::would_block(std::size_t bytes) noexcept { return core_->would_block(bytes); }

receipt publisher::last_receipt() const noexcept { return core_->last_receipt(); }

bool publisher::is_confirmed(const receipt& of, confirm level) const noexcept {
  return level != confirm::disk || core_->is_durable(of);
}

result<void> publisher::wait_confirmed(const receipt& of, std::chrono::nanoseconds wait) {
  return core_->wait_durable(of, wait);
}

void publisher::when_confirmed(const receipt& of, std::function<void(const receipt&)> fn) {
  core_->add_waiter(of, std::move(fn));
}

std::size_t publisher::poll_confirms() { return core_->call_waiters(); }

error publisher::last_error() const {
  if (!core_->session->guard.same_process()) return core_->session->forked_error();
  return core_->last_error;
}

std::uint32_t publisher::id() const noexcept { return core_->id; }
std::string_view publisher::stream() const noexcept { return core_->stream->name(); }
std::string_view publisher::subject() const noexcept { return core_->subject; }
std::uint32_t publisher::lane() const noexcept { return core_->port().index(); }

result<void> detail::claim_type(publisher_core& core, std::uint64_t type,
                                std::string_view type_name, std::size_t bytes) {
  return core.claim_type(type, type_name, bytes);
}

}  // namespace bus
