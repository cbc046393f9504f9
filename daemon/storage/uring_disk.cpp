#include "storage/uring_disk.hpp"

#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "os/failure.hpp"

namespace bus::storage {

namespace {

constexpr unsigned ring_entries = 256;

}  // namespace

struct uring_disk::ring {
  // One commit: a write, and if requested a sync after it.
  struct commit {
    std::uint64_t token = 0;
    std::uint64_t bytes = 0;
    std::uint64_t done = 0;
    log::disk_file file = -1;
    const std::byte* from = nullptr;
    std::uint64_t offset = 0;
    bool sync = false;
    int answers_due = 0;
    int failure = 0;
  };

  ::io_uring uring{};
  std::vector<commit> commits;
  std::vector<std::size_t> free;
  bool has_buffers = false;

  std::size_t take() {
    if (free.empty()) {
      commits.emplace_back();
      free.push_back(commits.size() - 1);
    }
    const std::size_t index = free.back();
    free.pop_back();
    commits[index] = {};
    return index;
  }
  ::io_uring_sqe* entry() {
    ::io_uring_sqe* made = ::io_uring_get_sqe(&uring);
    while (made == nullptr) {
      ::io_uring_submit(&uring);
      made = ::io_uring_get_sqe(&uring);
    }
    return made;
  }
};

uring_disk::uring_disk(std::unique_ptr<ring> made) noexcept : ring_(std::move(made)) {}

uring_disk::~uring_disk() { ::io_uring_queue_exit(&ring_->uring); }

result<std::unique_ptr<uring_disk>> uring_disk::make() {
  auto made = std::make_unique<ring>();
  // With deferred task work the completions of write and sync arrive in the call that waits for
  // them, 100 us sooner than through an interrupt.
  ::io_uring_params wish{};
  wish.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  int failed = ::io_uring_queue_init_params(ring_entries, &made->uring, &wish);
  if (failed == -EINVAL) {
    wish = {};
    failed = ::io_uring_queue_init_params(ring_entries, &made->uring, &wish);
  }
  if (failed != 0)
    return error{errc::unavailable, -failed, "cannot use io_uring", os::failure(-failed, "").why,
                 "nothing to do: plain system calls are used instead"};
  ::io_uring_probe* probe = ::io_uring_get_probe_ring(&made->uring);
  const bool able = probe != nullptr && ::io_uring_opcode_supported(probe, IORING_OP_WRITE) != 0 &&
                    ::io_uring_opcode_supported(probe, IORING_OP_WRITE_FIXED) != 0 &&
                    ::io_uring_opcode_supported(probe, IORING_OP_FSYNC) != 0;
  if (probe != nullptr) ::io_uring_free_probe(probe);
  std::unique_ptr<uring_disk> disk(new uring_disk(std::move(made)));
  if (!able)
    return error{errc::unavailable, 0, "cannot use io_uring",
                 "io_uring of this kernel lacks writes or syncs",
                 "nothing to do: plain system calls are used instead"};
  return disk;
}

bool uring_disk::register_buffers(std::span<const std::span<std::byte>> buffers) {
  std::vector<::iovec> parts;
  for (const auto& buffer : buffers) parts.push_back({buffer.data(), buffer.size()});
  if (ring_->has_buffers) ::io_uring_unregister_buffers(&ring_->uring);
  ring_->has_buffers = ::io_uring_register_buffers(&ring_->uring, parts.data(),
                                                   static_cast<unsigned>(parts.size())) == 0;
  return ring_->has_buffers;
}

void uring_disk::begin_write(log::disk_file file, std::span<const std::byte> from,
                             std::uint64_t offset, bool sync, std::uint64_t token, int buffer) {
  const std::size_t index = ring_->take();
  ring::commit& commit = ring_->commits[index];
  commit.token = token;
  commit.bytes = from.size();
  commit.file = file;
  commit.from = from.data();
  commit.offset = offset;
  commit.sync = sync;
  commit.answers_due = sync ? 2 : 1;
  // Both or neither in one submission: a link does not extend into the next.
  if (::io_uring_sq_space_left(&ring_->uring) < 2) ::io_uring_submit(&ring_->uring);
  ::io_uring_sqe* write = ring_->entry();
  const auto bytes = static_cast<unsigned>(from.size());
  if (buffer >= 0 && ring_->has_buffers)
    ::io_uring_prep_write_fixed(write, file, from.data(), bytes, offset, buffer);
  else
    ::io_uring_prep_write(write, file, from.data(), bytes, offset);
  ::io_uring_sqe_set_data64(write, index * 2);
  if (sync) {
    write->flags |= IOSQE_IO_LINK;
    ::io_uring_sqe* after = ring_->entry();
    ::io_uring_prep_fsync(after, file, IORING_FSYNC_DATASYNC);
    ::io_uring_sqe_set_data64(after, index * 2 + 1);
  }
}

void uring_disk::begin_sync(log::disk_file file, std::uint64_t token) {
  const std::size_t index = ring_->take();
  ring::commit& commit = ring_->commits[index];
  commit.token = token;
  commit.answers_due = 1;
  ::io_uring_sqe* entry = ring_->entry();
  ::io_uring_prep_fsync(entry, file, IORING_FSYNC_DATASYNC);
  ::io_uring_sqe_set_data64(entry, index * 2 + 1);
}

std::size_t uring_disk::reap(std::span<log::disk_completion> into, std::uint64_t wait_ns) {
  ::io_uring& uring = ring_->uring;
  ::io_uring_cqe* first = nullptr;
  if (wait_ns != 0) {
    ::__kernel_timespec timeout{static_cast<long long>(wait_ns / 1'000'000'000),
                                static_cast<long long>(wait_ns % 1'000'000'000)};
    (void)::io_uring_submit_and_wait_timeout(&uring, &first, 1, &timeout, nullptr);
  } else {
    (void)::io_uring_submit_and_get_events(&uring);
  }
  std::size_t count = 0;
  while (count < into.size() && ::io_uring_peek_cqe(&uring, &first) == 0 && first != nullptr) {
    const std::uint64_t data = ::io_uring_cqe_get_data64(first);
    const int outcome = first->res;
    ::io_uring_cqe_seen(&uring, first);
    const std::size_t index = data / 2;
    ring::commit& commit = ring_->commits[index];
    const bool is_short = commit.done < commit.bytes;
    if (data % 2 == 0) {
      if (outcome < 0)
        commit.failure = outcome;
      else
        commit.done = static_cast<std::uint64_t>(outcome);
    } else if (outcome < 0 && commit.failure == 0 && !(is_short && outcome == -ECANCELED)) {
      commit.failure = outcome;
    }
    if (--commit.answers_due != 0) continue;
    if (commit.failure == 0 && commit.done < commit.bytes) {
      // A short write is no failure, but it cancelled the linked sync.
      commit.failure = write(commit.file, {commit.from + commit.done, commit.bytes - commit.done},
                             commit.offset + commit.done);
      if (commit.failure == 0 && commit.sync) commit.failure = posix_disk::sync(commit.file);
    }
    into[count++] = {commit.token, commit.failure};
    ring_->free.push_back(index);
  }
  return count;
}

}  // namespace bus::storage
