#pragma once
/// mapping: files in memory, through Boost.Interprocess. Not inherited by forked children.

#include <cstddef>
#include <cstdint>
#include <memory>

#include <bus/error.hpp>

namespace bus::os {

class mapping {
 public:
  mapping() noexcept;
  mapping(mapping&&) noexcept;
  mapping& operator=(mapping&&) noexcept;
  ~mapping();

  /// Errors: no_space (address space, locked memory), permission, system
  static result<mapping> map(int file, std::uint64_t offset, std::uint64_t bytes, bool writable,
                             bool populate);
  /// The same bytes twice, back to back.
  static result<mapping> map_twice(int file, std::uint64_t offset, std::uint64_t bytes,
                                   bool writable, bool populate);

  std::byte* data() const noexcept { return data_; }
  std::uint64_t size() const noexcept { return bytes_; }

 private:
  struct regions;
  void drop() noexcept;

  std::unique_ptr<regions> regions_;
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

/// A word of memory that reads 1 here and 0 in every forked child, however it was forked.
const volatile std::uint32_t* same_process_word() noexcept;

}  // namespace bus::os
