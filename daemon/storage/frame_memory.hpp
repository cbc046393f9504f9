#pragma once
/// frame_memory: aligned memory for frames; direct writes need it.

#include <cstddef>
#include <span>

namespace bus::storage {

/// Direct writes and headers are multiples of it.
inline constexpr std::size_t page = 4096;

class frame_memory {
 public:
  /// Zeroed; `bytes` rounded up to whole pages.
  explicit frame_memory(std::size_t bytes);
  frame_memory(frame_memory&&) noexcept;
  frame_memory& operator=(frame_memory&&) noexcept;
  ~frame_memory();
  std::span<std::byte> bytes() const noexcept { return {data_, bytes_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace bus::storage
