#pragma once
/// posix_disk: a disk by plain system calls. Writes complete at once; reap() only returns their
/// results.

#include <deque>

#include "log/disk.hpp"

namespace bus::log {

class posix_disk : public disk {
 public:
  const char* name() const noexcept override { return "posix"; }
  int open(const std::string& path, disk_mode mode, bool direct) override;
  void close(disk_file file) override;
  void close_removed(disk_file file) override;
  std::int64_t read(disk_file file, std::span<std::byte> into, std::uint64_t offset) override;
  int write(disk_file file, std::span<const std::byte> from, std::uint64_t offset) override;
  int reserve(disk_file file, std::uint64_t bytes) override;
  int sync(disk_file file) override;
  std::int64_t size(disk_file file) override;
  std::uint32_t alignment(disk_file file) override;
  int rename(const std::string& from, const std::string& to) override;
  int remove(const std::string& path) override;
  int make_directory(const std::string& path) override;
  int sync_directory(const std::string& path) override;
  int list(const std::string& path, std::vector<std::string>& names) override;
  int space(const std::string& path, disk_space& found) override;
  void begin_write(disk_file file, std::span<const std::byte> from, std::uint64_t offset, bool sync,
                   std::uint64_t token, int buffer) override;
  void begin_sync(disk_file file, std::uint64_t token) override;
  std::size_t reap(std::span<disk_completion> into, std::uint64_t wait_ns) override;
  bool register_buffers(std::span<const std::span<std::byte>>) override { return false; }

 private:
  std::deque<disk_completion> done_;
};

}  // namespace bus::log
