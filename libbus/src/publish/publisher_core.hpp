#pragma once
/// publisher_core: the state of a publisher: its subject as the stream knows it, its ports to
/// lanes, its slot.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <bus/publisher.hpp>

#include "layout/header_area.hpp"
#include "publish/lane_port.hpp"
#include "publish/subject_cache.hpp"
#include "registry/session_core.hpp"
#include "sync/words.hpp"

namespace bus {

struct publisher_core {
  static result<std::unique_ptr<publisher_core>> make(std::shared_ptr<session_core> session,
                                                      std::string_view subject,
                                                      publisher_options options);
  ~publisher_core();

  /// Whether this handle may publish now. Follows the subject to another stream when streams
  /// changed.
  /// Cost: two loads.
  publish_status admit() noexcept {
    if (!session->guard.same_process()) [[unlikely]]
      return publish_status::forked;
    if (sync::load_acquire(*generation_word) != generation_seen) [[unlikely]]
      return follow_change();
    return publish_status::ok;
  }

  /// True if the message may take the shortest path. One comparison checks that the publisher is
  /// bound and exclusive, its subject interned, and the payload neither large nor early.
  [[gnu::always_inline]] bool is_plain(std::span<const std::byte> payload) const noexcept {
    return payload.size() < plain_below_ && session_guard_.same_process() &&
           sync::load_acquire(*generation_word) == generation_seen &&
           main_port->is_plain(payload.size());
  }
  /// Id of a subject that publish_to has used, or subject_cache::unknown.
  std::uint32_t known_id(std::string_view to) const noexcept { return ids_.find(to); }
  std::uint64_t own_origin() const noexcept { return plain_origin_; }
  std::uint64_t origin_of(std::uint32_t subject_id) const noexcept {
    return layout::pack_origin(subject_id, id);
  }
  /// Returns the sequence. Unless `settled`, finish_fast() follows. It comes last, so that no call
  /// happens and no register is saved before the message is out.
  /// REQUIRES: is_plain(payload)
  [[gnu::always_inline]] std::uint64_t publish_plain(std::span<const std::byte> payload,
                                                     std::uint64_t origin, bool& settled) noexcept {
    const std::uint64_t sequence =
        main_port->put_plain(payload.size(), origin, payload.data(), settled);
    layout::slot& slot = *slot_words_;
    sync::bump(slot.messages, 1);
    sync::bump(slot.bytes, payload.size());
    return sequence;
  }
  published finish_fast(std::uint64_t sequence) noexcept;
  bool knows(const known_subject& to) const noexcept { return to.acquaintance_ == acquaintance_; }
  std::uint64_t origin_of(const known_subject& to) const noexcept { return origin_of(to.id_); }
  published publish_to_new(known_subject& to, std::span<const std::byte> payload) noexcept;
  published publish_slowly(std::span<const std::byte> payload) noexcept;
  published publish_with(std::string_view subject, std::span<const std::byte> payload,
                         std::span<const header> headers) noexcept;
  published publish_batch(std::span<const outgoing> messages) noexcept;
  published publish_batch(std::span<const std::span<const std::byte>> payloads) noexcept;
  result<loan> make_loan(std::size_t bytes) noexcept;
  published commit_loan(std::span<std::byte> data, std::uint64_t ticket,
                        std::size_t bytes) noexcept;
  bool would_block(std::size_t bytes) noexcept;
  result<void> claim_type(std::uint64_t type, std::string_view type_name, std::size_t bytes);

  receipt last_receipt() const noexcept {
    return main_port->exclusive() ? receipt{main_port->index(), main_port->next_seq() - 1}
                                  : last_receipt_;
  }
  bool is_durable(const receipt& of) const noexcept;
  result<void> wait_durable(const receipt& of, std::chrono::nanoseconds wait) noexcept;
  void add_waiter(const receipt& of, std::function<void(const receipt&)> fn) {
    waiters_.push_back({of, std::move(fn)});
  }
  std::size_t call_waiters();

  std::shared_ptr<session_core> session;
  publisher_options options;
  std::string subject;
  std::shared_ptr<registry::stream_handle> stream;
  std::uint32_t id = 0;
  error last_error;

  publish::lane_port& port() noexcept { return *main_port; }

 private:
  struct target {
    std::uint32_t subject_id = layout::inline_subject_id;
    std::string_view inline_text;  // when the subject is not interned
  };

  bool is_own(const target& to) const noexcept {
    return to.subject_id == own_.subject_id &&
           (to.subject_id != layout::inline_subject_id || to.inline_text == subject);
  }
  /// Publisher id in the records of its own subject.
  std::uint32_t own_id() const noexcept {
    return type_ != 0 ? id | layout::publisher_is_typed : id;
  }

  publish_status bind(std::shared_ptr<registry::stream_handle> to);
  void forget_subjects();
  publish_status open_ports();
  publish_status follow_change() noexcept;
  bool concerns_us(const registry::stream_changes& changes) const;
  bool is_ours(std::string_view to);
  publish_status reopen_logs() noexcept;
  publish_status resolve(std::string_view to, target& found) noexcept;
  publish_status build_head(const target& to, std::size_t payload_bytes,
                            std::span<const header> headers, bool progress, std::byte* area,
                            ring::record_head& head, std::size_t* progress_offset) noexcept;
  publish::lane_port& port_for(std::span<const header> headers) noexcept;
  published confirmed(published outcome) noexcept;
  published finish(publish::lane_port& port, published outcome, std::uint64_t messages,
                   std::uint64_t bytes) noexcept;
  publish_status fail(publish_status status, error why) noexcept;

  struct waiter {
    receipt of;
    std::function<void(const receipt&)> fn;
  };

  receipt last_receipt_;  // of a shared publisher
  std::vector<waiter> waiters_;
  bool bound_ = false;  // the last bind succeeded
  const base::word* generation_word = nullptr;
  std::uint64_t generation_seen = 0;
  std::size_t plain_below_ = 0;  // payloads smaller than this may take the shortest path; 0: none
  std::size_t shared_plain_below_ = 0;  // the same on a shared lane
  std::uint64_t plain_origin_ = 0;
  sync::fork_guard session_guard_;
  target own_;
  std::uint64_t type_ = 0;                                  // of a typed publisher
  std::vector<std::unique_ptr<publish::lane_port>> ports_;  // by lane, made on first use
  publish::lane_port* main_port = nullptr;
  std::optional<std::uint32_t> slot_;
  layout::slot* slot_words_ = nullptr;
  publish::subject_cache ids_;          // of publish_to
  std::uint64_t acquaintance_ = 0;      // unique in this process: renewed whenever ids_ is cleared
  std::unique_ptr<std::byte[]> area_;   // for header areas
  std::vector<std::byte> loan_buffer_;  // of a shared publisher
  std::uint64_t lent_messages_ = 0;     // messages published when the loan was made
  const std::byte* lent_ = nullptr;     // the loan that may be committed
};

}  // namespace bus
