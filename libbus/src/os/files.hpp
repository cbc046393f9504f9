#pragma once
/// files: making, opening, naming and locking the files of a bus. A file is built nameless and
/// linked when it is complete, so a creator that dies leaves no file. Its space is reserved before
/// it is mapped, so a full tmpfs is an error here and never a SIGBUS later.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <bus/error.hpp>

#include "os/fd.hpp"

namespace bus::os {

/// A nameless file of `bytes` zero bytes in `directory`, fully reserved.
/// Errors: no_space, permission, unavailable (file system without O_TMPFILE)
result<fd> create_nameless(const std::string& directory, std::uint64_t bytes, unsigned mode);
/// As above, but with only the first `reserved_bytes` reserved. The rest is a hole: the caller
/// reserves it with reserve() before use.
result<fd> create_nameless(const std::string& directory, std::uint64_t bytes,
                           std::uint64_t reserved_bytes, unsigned mode);
result<void> reserve(int file, std::uint64_t offset, std::uint64_t bytes, const std::string& what);
/// Truncates the file to 0 bytes, which frees its memory.
bool empty_file(int file) noexcept;
/// Links the file at `path`. conflict: the name is taken.
result<void> give_name(int file, const std::string& path);

/// Distinguishes a file from another one that took its name.
struct file_stamp {
  std::uint64_t inode = 0, changed_ns = 0;
  bool operator==(const file_stamp&) const = default;
};
/// Empty: the file does not exist, or lstat failed.
std::optional<file_stamp> stamp_of(const std::string& path) noexcept;

/// Identifies a file for as long as any process has it open or mapped.
struct file_id {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const file_id&) const = default;
};
file_id id_of(int file) noexcept;
/// False: the name does not exist, or another file has it. True when lstat fails otherwise.
/// Cost: a system call; no descriptor.
bool still_names(const std::string& path, const file_id& of) noexcept;

struct opened {
  fd file;
  std::uint64_t bytes = 0;
  std::uint32_t owner_uid = 0;
  file_stamp stamp;
  file_id id;
};
/// Opens a regular file; does not follow a symbolic link.
/// Errors: not_found, permission, corrupt (not a regular file)
result<opened> open_existing(const std::string& path, bool writable);
/// Reads the first `bytes` of an open file.
/// Errors: system; corrupt: it has fewer
result<void> read_start(int file, void* into, std::size_t bytes, const std::string& path);

/// Helpers for directories. The remove functions ignore a missing file.
result<void> make_directory(const std::string& path, unsigned mode);
result<std::vector<std::string>> list_directory(const std::string& path);
struct directory_entry {
  std::string name;
  std::uint64_t inode = 0;  // differs when the name was given to a new file
};
result<std::vector<directory_entry>> list_entries(const std::string& path);
/// For a directory that is to be listed when no descriptors are left. Empty: open failed.
fd open_directory(const std::string& path) noexcept;
/// Names in an open directory. Empty: it cannot be read.
/// REQUIRES: no other thread lists it at the same time.
std::vector<std::string> list_open_directory(int directory);
void remove_file(const std::string& path) noexcept;
void remove_tree(const std::string& path) noexcept;
result<void> rename_path(const std::string& from, const std::string& to);
/// Makes a symbolic link whose target is a text. conflict: the name is taken.
result<void> make_text_link(const std::string& path, const std::string& text);
/// Makes a symbolic link at `path`, replacing an existing one.
result<void> make_link(const std::string& path, const std::string& target);
/// Empty: no such link.
std::string link_target(const std::string& path);
bool is_tmpfs(const std::string& path) noexcept;
/// Makes an empty file durable, with its name. The file may exist already.
result<void> leave_mark(const std::string& directory, const std::string& name);
bool exists(const std::string& path) noexcept;
/// True only when the path certainly does not exist; false when access() fails otherwise.
bool surely_missing(const std::string& path) noexcept;
bool directory_owner(const std::string& path, std::uint32_t& uid, unsigned& mode) noexcept;

/// An advisory lock on a whole file; the kernel releases it when the process ends.
class file_lock {
 public:
  /// Waits for at most `wait`. The error `busy` names the holder, as the file names it.
  static result<file_lock> take(const std::string& path, unsigned mode,
                                std::chrono::milliseconds wait);
  file_lock(file_lock&&) noexcept = default;
  file_lock& operator=(file_lock&&) noexcept = default;
  ~file_lock();
  /// False: the file was removed during the wait, and what it guarded with it.
  bool still_named() const noexcept;

 private:
  explicit file_lock(fd file) noexcept : file_(static_cast<fd&&>(file)) {}
  fd file_;
};
/// Makes a file that is locked as long as this process lives and keeps the descriptor. A forked
/// child does not inherit the lock; exec ends it.
/// REQUIRES: this process does not open the file again: closing any descriptor of it would end
/// the lock.
result<fd> make_held(const std::string& path, unsigned mode);
/// Undoes make_held() in this process: the file may be opened again, which ends the lock.
void forget_held(const std::string& path) noexcept;
/// `unknown`: it cannot be determined now, for lack of a descriptor, memory or permission.
enum class certainty : std::uint8_t { no, yes, unknown };
/// Does any process, in any pid namespace, hold the file? Never opens one that this process holds.
certainty is_held(const std::string& path) noexcept;

/// A placeholder descriptor: shows whether one is available, or keeps one for later.
fd open_nothing() noexcept;

/// Makes a named pipe and opens it for both ends, non-blocking.
result<fd> make_fifo(const std::string& path, unsigned mode);
/// Opens an existing pipe for writing. not_found: it was removed.
result<fd> open_fifo_to_write(const std::string& path);
void poke(int fifo) noexcept;
void drain(int file) noexcept;

std::string bus_root();
std::uint32_t user_id() noexcept;

}  // namespace bus::os
