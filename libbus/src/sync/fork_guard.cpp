#include "sync/fork_guard.hpp"

#include <atomic>

#include "os/mapping.hpp"

namespace bus::sync {

std::uint32_t process_token() noexcept {
  // Survives a fork, unlike the word, which the fork wipes.
  static std::atomic<std::uint32_t> last_token{1};
  auto& word = *reinterpret_cast<std::atomic<std::uint32_t>*>(
      const_cast<std::uint32_t*>(os::same_process_word()));
  // relaxed: only this process writes it, and it publishes no data
  std::uint32_t seen = word.load(std::memory_order_relaxed);
  if (seen == 0) {
    const std::uint32_t fresh = last_token.fetch_add(1, std::memory_order_relaxed) + 1;
    if (word.compare_exchange_strong(seen, fresh, std::memory_order_relaxed)) seen = fresh;
  }
  return seen;
}

fork_guard::fork_guard() noexcept : word_(os::same_process_word()), token_(process_token()) {}

}  // namespace bus::sync
