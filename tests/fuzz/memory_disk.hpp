#pragma once
/// memory_disk: read-only files in memory.
///
/// Threads    one

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "target.hpp"
#include "log/disk.hpp"

namespace bus::fuzz {

class memory_disk final : public log::disk {
 public:
  /// By whole path; directories do not exist.
  std::map<std::string, std::vector<std::byte>> files;
  std::uint64_t reads = 0;
  std::uint64_t bytes_read = 0;

  void put(const std::string& path, input bytes) {
    const auto* from = reinterpret_cast<const std::byte*>(bytes.data());
    files[path].assign(from, from + bytes.size());
  }

  const char* name() const noexcept override { return "memory"; }
  int open(const std::string& path, log::disk_mode mode, bool) override {
    if (mode != log::disk_mode::read) return -EROFS;
    const auto found = files.find(path);
    if (found == files.end()) return -ENOENT;
    open_.push_back(&found->second);
    return static_cast<int>(open_.size()) - 1;
  }
  void close(log::disk_file file) override { open_.at(static_cast<std::size_t>(file)) = nullptr; }
  std::int64_t read(log::disk_file file, std::span<std::byte> into, std::uint64_t offset) override {
    const std::vector<std::byte>& from = *open_.at(static_cast<std::size_t>(file));
    if (offset >= from.size() || into.empty()) return 0;
    const std::size_t bytes = std::min<std::size_t>(into.size(), from.size() - offset);
    std::memcpy(into.data(), from.data() + offset, bytes);
    ++reads;
    bytes_read += bytes;
    return static_cast<std::int64_t>(bytes);
  }
  std::int64_t size(log::disk_file file) override {
    return static_cast<std::int64_t>(open_.at(static_cast<std::size_t>(file))->size());
  }
  std::uint32_t alignment(log::disk_file) override { return 512; }
  int list(const std::string& path, std::vector<std::string>& names) override {
    for (const auto& [file, bytes] : files)
      if (file.starts_with(path + "/")) names.push_back(file.substr(path.size() + 1));
    return 0;
  }
  int space(const std::string&, log::disk_space&) override { return -ENOSYS; }

  int write(log::disk_file, std::span<const std::byte>, std::uint64_t) override { return -EROFS; }
  int reserve(log::disk_file, std::uint64_t) override { return -EROFS; }
  int sync(log::disk_file) override { return -EROFS; }
  int rename(const std::string&, const std::string&) override { return -EROFS; }
  int remove(const std::string&) override { return -EROFS; }
  int make_directory(const std::string&) override { return -EROFS; }
  int sync_directory(const std::string&) override { return -EROFS; }
  void begin_write(log::disk_file, std::span<const std::byte>, std::uint64_t, bool, std::uint64_t,
                   int) override {}
  void begin_sync(log::disk_file, std::uint64_t) override {}
  std::size_t reap(std::span<log::disk_completion>, std::uint64_t) override { return 0; }
  bool register_buffers(std::span<const std::span<std::byte>>) override { return false; }

 private:
  std::vector<const std::vector<std::byte>*> open_;  // by descriptor
};

}  // namespace bus::fuzz
