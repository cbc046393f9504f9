#pragma once
/// fd: an owned file descriptor. Always close-on-exec.

#include <utility>

namespace bus::os {

class fd {
 public:
  fd() = default;
  explicit fd(int value) noexcept : value_(value) {}
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

 private:
  int value_ = -1;
};

}  // namespace bus::os
