#pragma once
/// shared_field: a number in shared memory that other processes write, under a lock or in violation
/// of it. Each use is one load, so the value that was checked is the value that is used: the
/// compiler cannot load it again. It orders nothing: the lock does.

#include <type_traits>

namespace bus::base {

template <class T>
class shared_field {
 public:
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));

  shared_field() = default;
  constexpr shared_field(T value) noexcept : raw_(value) {}
  constexpr shared_field(const shared_field& other) noexcept : raw_(T(other)) {}
  shared_field& operator=(const shared_field& other) noexcept { return *this = T(other); }
  shared_field& operator=(T value) noexcept {
    __atomic_store_n(&raw_, value, __ATOMIC_RELAXED);
    return *this;
  }
  constexpr operator T() const noexcept {
    if (std::is_constant_evaluated()) return raw_;
    return __atomic_load_n(&raw_, __ATOMIC_RELAXED);
  }
  shared_field& operator+=(T by) noexcept { return *this = static_cast<T>(T(*this) + by); }
  shared_field& operator-=(T by) noexcept { return *this = static_cast<T>(T(*this) - by); }
  shared_field& operator++() noexcept { return *this += 1; }
  shared_field& operator--() noexcept { return *this -= 1; }
  T operator++(int) noexcept {
    const T before = *this;
    *this = static_cast<T>(before + 1);
    return before;
  }

  /// For an operation with a memory order.
  T& raw() noexcept { return raw_; }

 private:
  T raw_{};
};

using field32 = shared_field<unsigned>;
using field64 = shared_field<unsigned long>;
static_assert(sizeof(field32) == 4 && sizeof(field64) == 8);

}  // namespace bus::base
