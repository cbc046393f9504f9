#pragma once
/// disk: the one seam between the log and a disk. io_uring, plain POSIX and a simulated disk
/// (tests) stand behind it.
///
/// Answers are 0, or a count, or a negative errno. A call that was interrupted is repeated inside.
/// A failed write or sync is final for what it covered: it is never repeated on the same bytes.
///
/// Threads    any, but for begin_write, begin_sync, reap and register_buffers: those from one

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace bus::log {

using disk_file = int;

enum class disk_mode : std::uint8_t {
  read,
  write,   // exists; may be read, too
  create,  // must not exist; may be read, too
};

struct disk_completion {
  std::uint64_t token = 0;
  int failure = 0;  // 0 or a negative errno
};

struct disk_space {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
};

class disk {
 public:
  virtual ~disk() = default;
  virtual const char* name() const noexcept = 0;

  /// The descriptor, or a negative errno. `direct`: past the page cache where the file system can.
  virtual int open(const std::string& path, disk_mode mode, bool direct) = 0;
  virtual void close(disk_file file) = 0;
  /// Of a file that has lost its name and was opened for writing: its space goes back a little at a
  /// time, so that whoever syncs meanwhile does not wait for all of it. Unless somebody else still
  /// reads it.
  virtual void close_removed(disk_file file) { close(file); }
  /// Bytes read: fewer than asked for at the end of the file only.
  virtual std::int64_t read(disk_file file, std::span<std::byte> into, std::uint64_t offset) = 0;
  virtual int write(disk_file file, std::span<const std::byte> from, std::uint64_t offset) = 0;
  virtual int reserve(disk_file file, std::uint64_t bytes) = 0;
  /// Data and length.
  virtual int sync(disk_file file) = 0;
  virtual std::int64_t size(disk_file file) = 0;
  /// What offset and length of a direct write must be a multiple of.
  virtual std::uint32_t alignment(disk_file file) = 0;

  virtual int rename(const std::string& from, const std::string& to) = 0;
  virtual int remove(const std::string& path) = 0;
  virtual int make_directory(const std::string& path) = 0;  // 0 also when it exists
  virtual int sync_directory(const std::string& path) = 0;
  virtual int list(const std::string& path, std::vector<std::string>& names) = 0;
  virtual int space(const std::string& path, disk_space& found) = 0;

  /// A write, and a sync of its data after it: answered by reap() with `token`. The bytes stay as
  /// they are until then. `buffer`: index of a registered buffer that holds them, or -1.
  virtual void begin_write(disk_file file, std::span<const std::byte> from, std::uint64_t offset,
                           bool sync, std::uint64_t token, int buffer) = 0;
  virtual void begin_sync(disk_file file, std::uint64_t token) = 0;
  /// Everything begun is on its way; waits for an answer at most `wait_ns` when there is none yet.
  virtual std::size_t reap(std::span<disk_completion> into, std::uint64_t wait_ns) = 0;
  /// Memory that begin_write will name by index. Answers false where that brings nothing.
  virtual bool register_buffers(std::span<const std::span<std::byte>> buffers) = 0;
};

/// All of it or a negative errno; -EIO when the file ends before.
inline int read_all(disk& from, disk_file file, std::span<std::byte> into, std::uint64_t offset) {
  const std::int64_t got = from.read(file, into, offset);
  if (got < 0) return static_cast<int>(got);
  return static_cast<std::size_t>(got) == into.size() ? 0 : -5;
}

}  // namespace bus::log
