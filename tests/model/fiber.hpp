#pragma once
/// fiber: a simulated thread with its own stack. A killed fiber is never resumed; its stack is
/// reused.

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace model {

class fiber {
 public:
  static constexpr std::size_t stack_bytes = 128 * 1024;

  fiber() : stack_(new std::byte[stack_bytes]) {}
  ~fiber() { drop(); }
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  void start(std::function<void()> body) {
    drop();
    body_ = std::move(body);
    ::getcontext(&context_);
    context_.uc_stack.ss_sp = stack_.get();
    context_.uc_stack.ss_size = stack_bytes;
    context_.uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    ::makecontext(&context_, reinterpret_cast<void (*)()>(&fiber::enter), 2,
                  static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
#if defined(__SANITIZE_THREAD__)
    sanitizer_ = __tsan_create_fiber(0);
#endif
    finished_ = false;
  }
  bool finished() const { return finished_; }

  /// Called by the scheduler: runs the fiber until it yields or ends.
  void resume() {
#if defined(__SANITIZE_THREAD__)
    sanitizer_caller_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(sanitizer_, 0);
#endif
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack_.get(), stack_bytes);
#endif
    ::swapcontext(&caller_, &context_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }
  /// Called by the fiber: returns to the scheduler.
  void yield() {
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(sanitizer_caller_, 0);
#endif
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, caller_stack_, caller_stack_bytes_);
#endif
    ::swapcontext(&context_, &caller_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &caller_stack_, &caller_stack_bytes_);
#endif
  }
  /// Marks it finished: it must not be resumed.
  void drop() {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack_.get(), stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    if (sanitizer_ != nullptr) __tsan_destroy_fiber(sanitizer_);
    sanitizer_ = nullptr;
#endif
    finished_ = true;
  }

 private:
  static void enter(unsigned high, unsigned low) {
    auto* self = reinterpret_cast<fiber*>(std::uintptr_t{high} << 32 | low);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_stack_bytes_);
#endif
    self->body_();
    self->finished_ = true;
    self->yield();
    std::abort();  // resumed after its end
  }

  std::unique_ptr<std::byte[]> stack_;
  std::function<void()> body_;
  ucontext_t context_{};
  ucontext_t caller_{};
  bool finished_ = true;
#if defined(__SANITIZE_ADDRESS__)
  const void* caller_stack_ = nullptr;
  std::size_t caller_stack_bytes_ = 0;
#endif
#if defined(__SANITIZE_THREAD__)
  void* sanitizer_ = nullptr;
  void* sanitizer_caller_ = nullptr;
#endif
};

}  // namespace model
