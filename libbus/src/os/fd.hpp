#pragma once
/// fd: an owned file descriptor. Always close-on-exec, and never 0, 1 or 2: a program started with
/// one of these closed would otherwise print into a file of the bus, or read one as its input.

#include <utility>

namespace bus::os {

class fd {
 public:
  fd() = default;
  /// Takes the return value of a system call. A negative one is no descriptor and keeps errno.
  explicit fd(int value) noexcept : value_(value < 0 || value > 2 ? value : moved_up(value)) {}
  fd(fd&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  fd& operator=(fd&& other) noexcept {
    if (this != &other) {
      reset();
      value_ = std::exchange(other.value_, -1);
    }
    return *this;
  }
  ~fd() { reset(); }

  int get() const noexcept { return value_; }
  explicit operator bool() const noexcept { return value_ >= 0; }
  int release() noexcept { return std::exchange(value_, -1); }
  void reset() noexcept;

  /// Duplicates to a number above 2 and closes the old one. Returns -1, with errno, when no
  /// descriptor is left.
  static int moved_up(int value) noexcept;

 private:
  int value_ = -1;
};

}  // namespace bus::os
