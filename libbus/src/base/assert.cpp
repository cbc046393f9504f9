#include "base/assert.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unistd.h>

namespace bus::base {

namespace {

// Neither memory nor locks: the process may be in any state.
class line {
 public:
  line& operator<<(std::string_view text) noexcept {
    const std::size_t bytes = std::min(text.size(), sizeof text_ - used_);
    std::memcpy(text_ + used_, text.data(), bytes);
    used_ += bytes;
    return *this;
  }
  line& operator<<(std::uint64_t number) noexcept {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    return *this << std::string_view(digits, static_cast<std::size_t>(end - digits));
  }
  void print() const noexcept { [[maybe_unused]] const auto done = ::write(2, text_, used_); }

 private:
  char text_[1024];
  std::size_t used_ = 0;
};

}  // namespace

void assertion_failed(const char* condition, const char* file, int number, const char* names,
                      std::span<const std::uint64_t> values) noexcept {
  line out;
  out << "libbus: assertion failed: " << condition;
  if (!values.empty()) {
    out << " (" << names << " =";
    for (const std::uint64_t value : values) out << " " << value;
    out << ")";
  }
  out << " in " << file << ":" << static_cast<std::uint64_t>(number)
      << "; this is a bug in libbus, please report this line\n";
  out.print();
  std::abort();
}

}  // namespace bus::base
