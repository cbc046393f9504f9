#pragma once
/// chunk: a buffer that was read from a segment. Every record that points into it holds a
/// reference, and its reader never writes into a chunk that anything else refers to, so a record's
/// bytes neither change nor disappear while the record exists.
///
/// Threads    one; the count is not atomic

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "base/assert.hpp"

namespace bus::log {

class chunk_ref {
 public:
  chunk_ref() noexcept = default;
  /// The bytes are uninitialised.
  static chunk_ref make(std::size_t bytes) {
    auto* made = static_cast<head*>(::operator new(sizeof(head) + bytes, alignment));
    new (made) head{1, bytes};
    return chunk_ref(made);
  }
  chunk_ref(const chunk_ref& other) noexcept : head_(other.head_) {
    if (head_ != nullptr) ++head_->references;
  }
  chunk_ref(chunk_ref&& other) noexcept : head_(std::exchange(other.head_, nullptr)) {}
  chunk_ref& operator=(const chunk_ref& other) noexcept {
    if (head_ == other.head_) return *this;
    chunk_ref copy(other);
    std::swap(head_, copy.head_);
    return *this;
  }
  chunk_ref& operator=(chunk_ref&& other) noexcept {
    std::swap(head_, other.head_);
    return *this;
  }
  ~chunk_ref() { reset(); }

  void reset() noexcept {
    if (head_ != nullptr && --head_->references == 0) ::operator delete(head_, alignment);
    head_ = nullptr;
  }

  explicit operator bool() const noexcept { return head_ != nullptr; }
  bool operator==(const chunk_ref& other) const noexcept { return head_ == other.head_; }
  /// True when nothing else refers to it, so that it may be written.
  bool is_unique() const noexcept { return head_ != nullptr && head_->references == 1; }
  std::size_t size() const noexcept { return head_ != nullptr ? head_->bytes : 0; }
  const std::byte* data() const noexcept { return reinterpret_cast<const std::byte*>(head_ + 1); }
  /// REQUIRES: is_unique()
  std::byte* writable() noexcept {
    BUS_ASSERT(is_unique(), size());
    return reinterpret_cast<std::byte*>(head_ + 1);
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct alignas(64) head {
    std::uint64_t references;
    std::size_t bytes;
  };
  explicit chunk_ref(head* made) noexcept : head_(made) {}

  head* head_ = nullptr;
};

}  // namespace bus::log
