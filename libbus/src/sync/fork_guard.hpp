#pragma once
/// fork_guard: tells a handle of the parent from one of this process, however the fork was made.
///
/// Cost       one load and one compare per use

#include <cstdint>

namespace bus::sync {

/// Number of this process: changes in every forked child.
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
