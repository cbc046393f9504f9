#pragma once
/// fork_guard: distinguishes a handle that was inherited from the parent process, however the fork
/// was made.
///
/// Cost       one load and one compare per use

#include <cstdint>

namespace bus::sync {

/// Number of this process; every forked child gets another.
std::uint32_t process_token() noexcept;

class fork_guard {
 public:
  fork_guard() noexcept;
  bool same_process() const noexcept { return *word_ == token_; }

 private:
  const volatile std::uint32_t* word_;
  std::uint32_t token_;
};

}  // namespace bus::sync
