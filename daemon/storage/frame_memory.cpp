#include "storage/frame_memory.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "base/bits.hpp"

namespace bus::storage {

frame_memory::frame_memory(std::size_t bytes)
    : data_(static_cast<std::byte*>(std::aligned_alloc(page, base::round_up(bytes, page)))),
      bytes_(base::round_up(bytes, page)) {
  if (data_ == nullptr) throw std::bad_alloc();
  std::memset(data_, 0, bytes_);
}
frame_memory::frame_memory(frame_memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
frame_memory& frame_memory::operator=(frame_memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}
frame_memory::~frame_memory() { std::free(data_); }

}  // namespace bus::storage
