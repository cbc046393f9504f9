#pragma once
/// fd: an owned file descriptor. Always close-on-exec, and never 0, 1 or 2: a program that was
/// started with one of these closed would print into a file of the bus, or read one as its input.

#include <utility>

namespace bus::os {

class fd {
 public:
  fd() = default;
  /// Takes what a call returned: a negative value is none, and leaves errno as it is.
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

  /// The same open file under a number above 2; the old number is closed. -1, with errno: there is
  /// none.
  static int moved_up(int value) noexcept;

 private:
  int value_ = -1;
};

}  // namespace bus::os
