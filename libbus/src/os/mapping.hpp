#pragma once
/// mapping: maps files into memory, through Boost.Interprocess. A forked child does not inherit it.

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
  /// Maps the same bytes twice, back to back.
  static result<mapping> map_twice(int file, std::uint64_t offset, std::uint64_t bytes,
                                   bool writable, bool populate);

  /// For a mapping of which little is touched: it is unmapped in one step.
  void unmap_at_once() noexcept { at_once_ = true; }

  std::byte* data() const noexcept { return data_; }
  std::uint64_t size() const noexcept { return bytes_; }

 private:
  struct regions;
  void drop() noexcept;

  std::unique_ptr<regions> regions_;
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
  bool at_once_ = false;
};

/// A word of memory that reads 0 in every forked child until it is set there, however the child was
/// forked. Its initial value is 1. Where the kernel cannot wipe it, a child reads the parent's.
const volatile std::uint32_t* same_process_word() noexcept;

}  // namespace bus::os
