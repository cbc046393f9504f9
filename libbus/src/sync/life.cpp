#include "sync/life.hpp"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <cstddef>
#include <mutex>
#include <vector>

#include "os/failure.hpp"
#include "os/futex.hpp"
#include "sync/fork_guard.hpp"

namespace bus::sync {

static_assert(futex_owner_died == FUTEX_OWNER_DIED);
static_assert(sizeof(robust_list) == sizeof(layout::life_cell::robust_next));

namespace {

constexpr auto look_every = std::chrono::seconds(1);

// What the parked thread needs. Never freed: the kernel walks the list when the process ends.
struct keeper {
  robust_list_head head{};
  std::atomic<std::uint32_t> thread{0};  // written once by the parked thread; futex for the starter
  std::mutex changes;
  std::mutex watching;  // held while the watchers run
  std::vector<watcher*> watchers;
  std::atomic<std::uint32_t> watched{0};  // number of watchers; futex for the parked thread
};

robust_list* node_of(layout::life_cell& cell) noexcept {
  return reinterpret_cast<robust_list*>(&cell.robust_next);
}

void* park(void* argument) {
  auto& k = *static_cast<keeper*>(argument);
  ::prctl(PR_SET_NAME, "bus-life");
  // Replaces the C library's list for this thread, which locks no robust mutex.
  ::syscall(SYS_set_robust_list, &k.head, sizeof k.head);
  // release: the list is registered; pairs with the acquire in start
  k.thread.store(static_cast<std::uint32_t>(::syscall(SYS_gettid)), std::memory_order_release);
  os::futex_wake(reinterpret_cast<std::uint32_t*>(&k.thread), INT_MAX);
  using clock = std::chrono::steady_clock;
  for (auto due = clock::now() + look_every;;) {
    // relaxed: the list is read under its mutex
    const std::uint32_t count = k.watched.load(std::memory_order_relaxed);
    os::futex_wait(reinterpret_cast<std::uint32_t*>(&k.watched), count,
                   count == 0 ? std::chrono::hours(24)
                              : std::chrono::duration_cast<std::chrono::nanoseconds>(look_every));
    if (clock::now() < due) continue;  // a watcher was added or removed
    due = clock::now() + look_every;
    const std::lock_guard guard(k.watching);
    for (watcher* one : k.watchers) one->look();
  }
}

result<keeper*> start() {
  auto* k = new keeper;
  k->head.list.next = &k->head.list;
  k->head.futex_offset = static_cast<long>(offsetof(layout::life_cell, word)) -
                         static_cast<long>(offsetof(layout::life_cell, robust_next));
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, 256 * 1024);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread{};
  const int failed = ::pthread_create(&thread, &attributes, park, k);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  if (failed != 0)
    return os::failure(failed, "cannot start the thread that proves that this process is alive");
  // acquire: pairs with the release in park
  while (k->thread.load(std::memory_order_acquire) == 0)
    os::futex_wait(reinterpret_cast<std::uint32_t*>(&k->thread), 0, std::chrono::milliseconds(10));
  return k;
}

std::mutex keeper_mutex;
keeper* the_keeper = nullptr;
std::uint32_t keeper_token = 0;

result<keeper*> keeper_of_this_process() {
  const std::uint32_t token = process_token();
  const std::lock_guard guard(keeper_mutex);
  if (the_keeper == nullptr || keeper_token != token) {
    auto made = start();
    if (!made) return made;
    the_keeper = *made;
    keeper_token = token;
  }
  return the_keeper;
}

// Another thread may be in here during a fork: the child gets the mutex unlocked.
[[maybe_unused]] const int registered = ::pthread_atfork(
    [] { keeper_mutex.lock(); }, [] { keeper_mutex.unlock(); }, [] { keeper_mutex.unlock(); });

}  // namespace

result<void> hold_life(layout::life_cell& cell) {
  auto found = keeper_of_this_process();
  if (!found) return std::move(found.error());
  keeper& k = **found;
  const std::lock_guard guard(k.changes);
  auto* node = node_of(cell);
  auto& word = reinterpret_cast<std::atomic<std::uint32_t>&>(cell.word);
  // FUTEX_WAITERS from the start: observers have read-only maps and cannot set it.
  // relaxed both: later system calls or stores of this thread give the file its name, or the list
  // its entry
  word.store(k.thread.load(std::memory_order_relaxed) | FUTEX_WAITERS, std::memory_order_relaxed);
  // The kernel may walk the list at any moment, so the entry is complete before it is linked.
  node->next = k.head.list.next;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  k.head.list.next = node;
  return {};
}

result<void> watch(watcher& one) {
  auto found = keeper_of_this_process();
  if (!found) return std::move(found.error());
  keeper& k = **found;
  const std::lock_guard guard(k.watching);
  k.watchers.push_back(&one);
  k.watched.store(static_cast<std::uint32_t>(k.watchers.size()), std::memory_order_relaxed);
  if (k.watchers.size() == 1) os::futex_wake(reinterpret_cast<std::uint32_t*>(&k.watched), INT_MAX);
  return {};
}

void unwatch(watcher& one) noexcept {
  auto found = keeper_of_this_process();
  if (!found) return;
  keeper& k = **found;
  const std::lock_guard guard(k.watching);
  std::erase(k.watchers, &one);
  k.watched.store(static_cast<std::uint32_t>(k.watchers.size()), std::memory_order_relaxed);
}

std::int64_t life_thread(const layout::life_cell& cell) noexcept {
  // relaxed: this process stored it
  return reinterpret_cast<const std::atomic<std::uint32_t>&>(cell.word).load(
             std::memory_order_relaxed) &
         FUTEX_TID_MASK;
}

void release_life(layout::life_cell& cell) noexcept {
  auto found = keeper_of_this_process();
  if (!found) return;
  keeper& k = **found;
  const std::lock_guard guard(k.changes);
  auto* node = node_of(cell);
  auto& word = reinterpret_cast<std::atomic<std::uint32_t>&>(cell.word);
  // Before it is unlinked: a process that is killed in between counts as having left.
  // release: everything this process stored before it leaves; pairs with the acquire in read_life
  word.store(0, std::memory_order_release);
  for (robust_list* at = &k.head.list; at->next != &k.head.list; at = at->next) {
    if (at->next == node) {
      at->next = node->next;
      break;
    }
  }
  os::futex_wake(&cell.word, INT_MAX);
}

}  // namespace bus::sync
