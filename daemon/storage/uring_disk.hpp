#pragma once
/// uring_disk: the disk through io_uring. A group commit is a write linked with a sync, from
/// registered buffers, submitted together. Everything else is rare and uses plain calls.
///
/// Threads    as disk: the ring takes submissions from the thread that made it; plain calls come
///            from any

#include <memory>

#include <bus/error.hpp>

#include "log/posix_disk.hpp"

namespace bus::storage {

class uring_disk final : public log::posix_disk {
 public:
  /// Errors: unavailable (no io_uring here: a kernel, container or sysctl that forbids it, or one
  /// that lacks what is needed)
  static result<std::unique_ptr<uring_disk>> make();
  ~uring_disk() override;

  const char* name() const noexcept override { return "io_uring"; }
  void begin_write(log::disk_file file, std::span<const std::byte> from, std::uint64_t offset,
                   bool sync, std::uint64_t token, int buffer) override;
  void begin_sync(log::disk_file file, std::uint64_t token) override;
  std::size_t reap(std::span<log::disk_completion> into, std::uint64_t wait_ns) override;
  bool register_buffers(std::span<const std::span<std::byte>> buffers) override;

 private:
  struct ring;
  explicit uring_disk(std::unique_ptr<ring> made) noexcept;
  std::unique_ptr<ring> ring_;
};

}  // namespace bus::storage
