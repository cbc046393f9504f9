#pragma once
/// disk: the interface between the log and a disk. Implemented with io_uring, with plain POSIX
/// calls, and by a simulated disk for tests.
///
/// Results are 0, a count, or a negative errno. An interrupted call is repeated inside.
/// A failed write or sync is final for the bytes that it covered: it is never repeated on them.
///
/// Threads    any, but begin_write, begin_sync, reap and register_buffers are called by one thread

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace bus::log {

using disk_file = int;

enum class disk_mode : std::uint8_t {
  read,
  write,   // must exist; may be read, too
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

  /// The descriptor, or a negative errno. `direct`: bypasses the page cache where that is possible.
  virtual int open(const std::string& path, disk_mode mode, bool direct) = 0;
  virtual void close(disk_file file) = 0;
  /// Closes a file that has lost its name and was opened for writing. Its space is freed in small
  /// steps, so that a concurrent sync does not wait for all of it; all at once if it is still open
  /// elsewhere.
  virtual void close_removed(disk_file file) { close(file); }
  /// Returns the bytes read: fewer than requested only at the end of the file.
  virtual std::int64_t read(disk_file file, std::span<std::byte> into, std::uint64_t offset) = 0;
  virtual int write(disk_file file, std::span<const std::byte> from, std::uint64_t offset) = 0;
  virtual int reserve(disk_file file, std::uint64_t bytes) = 0;
  /// Syncs data and length.
  virtual int sync(disk_file file) = 0;
  virtual std::int64_t size(disk_file file) = 0;
  /// Offset and length of a direct write must be multiples of it.
  virtual std::uint32_t alignment(disk_file file) = 0;

  virtual int rename(const std::string& from, const std::string& to) = 0;
  virtual int remove(const std::string& path) = 0;
  virtual int make_directory(const std::string& path) = 0;  // 0 if it exists, too
  virtual int sync_directory(const std::string& path) = 0;
  virtual int list(const std::string& path, std::vector<std::string>& names) = 0;
  virtual int space(const std::string& path, disk_space& found) = 0;

  /// Begins a write, and with `sync` a sync of its data after it; reap() returns the result with
  /// `token`. The bytes must not change until then. `buffer`: index of the registered buffer that
  /// holds them, or -1.
  virtual void begin_write(disk_file file, std::span<const std::byte> from, std::uint64_t offset,
                           bool sync, std::uint64_t token, int buffer) = 0;
  virtual void begin_sync(disk_file file, std::uint64_t token) = 0;
  /// Submits everything that was begun. If no result has come yet, waits for one, at most
  /// `wait_ns`.
  virtual std::size_t reap(std::span<disk_completion> into, std::uint64_t wait_ns) = 0;
  /// Registers memory that begin_write names by index. False: that has no effect here.
  virtual bool register_buffers(std::span<const std::span<std::byte>> buffers) = 0;
};

/// Reads all of it. 0 or a negative errno; -EIO when the file ends before.
inline int read_all(disk& from, disk_file file, std::span<std::byte> into, std::uint64_t offset) {
  const std::int64_t got = from.read(file, into, offset);
  if (got < 0) return static_cast<int>(got);
  return static_cast<std::size_t>(got) == into.size() ? 0 : -5;
}

}  // namespace bus::log
