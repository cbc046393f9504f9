#pragma once
/// files: making, opening, naming and locking the files of a bus. A file is built nameless and
/// linked when it is complete, so a creator that dies leaves nothing behind; its space is reserved
/// before it is mapped, so a full tmpfs is an error here and never a SIGBUS later.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <bus/error.hpp>

#include "os/fd.hpp"

namespace bus::os {

/// A nameless file of `bytes` zero bytes in `directory`, all of it reserved.
/// Errors: no_space, permission, unavailable (file system without O_TMPFILE)
result<fd> create_nameless(const std::string& directory, std::uint64_t bytes, unsigned mode);
/// As above, `reserved_bytes` of it reserved, the rest a hole to be reserved by reserve() before it
/// is used.
result<fd> create_nameless(const std::string& directory, std::uint64_t bytes,
                           std::uint64_t reserved_bytes, unsigned mode);
result<void> reserve(int file, std::uint64_t offset, std::uint64_t bytes, const std::string& what);
/// All its memory is free again.
bool empty_file(int file) noexcept;
/// Gives it a name. conflict: the name is taken.
result<void> give_name(int file, const std::string& path);

/// Tells one file from another that took its name.
struct file_stamp {
  std::uint64_t inode = 0, changed_ns = 0;
  bool operator==(const file_stamp&) const = default;
};
/// Empty: it is not there, or cannot be looked at.
std::optional<file_stamp> stamp_of(const std::string& path) noexcept;

/// Which file it is, for as long as somebody has it open or mapped.
struct file_id {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const file_id&) const = default;
};
file_id id_of(int file) noexcept;
/// False: the name is gone, or another file has it. A failure to look is no answer: true.
/// Cost: a system call; no descriptor.
bool still_names(const std::string& path, const file_id& of) noexcept;

struct opened {
  fd file;
  std::uint64_t bytes = 0;
  std::uint32_t owner_uid = 0;
  file_stamp stamp;
  file_id id;
};
/// A regular file, not through a symbolic link.
/// Errors: not_found, permission, corrupt (not a regular file)
result<opened> open_existing(const std::string& path, bool writable);
/// The first `bytes` of an open file.
/// Errors: system; corrupt: it has fewer
result<void> read_start(int file, void* into, std::size_t bytes, const std::string& path);

/// Small helpers over directories. Missing things are not errors for the remove functions.
result<void> make_directory(const std::string& path, unsigned mode);
result<std::vector<std::string>> list_directory(const std::string& path);
struct directory_entry {
  std::string name;
  std::uint64_t inode = 0;  // another one when the name was given to something new
};
result<std::vector<directory_entry>> list_entries(const std::string& path);
/// For one that is listed when there are no descriptors left. Empty: it cannot be opened.
fd open_directory(const std::string& path) noexcept;
/// Names in it.
/// REQUIRES: nobody else lists it at the same time. Empty: it cannot be read.
std::vector<std::string> list_open_directory(int directory);
void remove_file(const std::string& path) noexcept;
void remove_tree(const std::string& path) noexcept;
result<void> rename_path(const std::string& from, const std::string& to);
/// A symbolic link that holds a text. conflict: the name is taken.
result<void> make_text_link(const std::string& path, const std::string& text);
/// A symbolic link at `path`, in place of the one that was there.
result<void> make_link(const std::string& path, const std::string& target);
/// Empty: there is none.
std::string link_target(const std::string& path);
bool is_tmpfs(const std::string& path) noexcept;
/// An empty file, durable with its name. It may be there already.
result<void> leave_mark(const std::string& directory, const std::string& name);
bool exists(const std::string& path) noexcept;
/// Not there, for certain: any other failure to look is not an answer.
bool surely_missing(const std::string& path) noexcept;
bool directory_owner(const std::string& path, std::uint32_t& uid, unsigned& mode) noexcept;

/// An advisory lock on a whole file; goes with the process, however it ends.
class file_lock {
 public:
  /// Waits until `wait` has passed. busy names the holder as it wrote itself into the file.
  static result<file_lock> take(const std::string& path, unsigned mode,
                                std::chrono::milliseconds wait);
  file_lock(file_lock&&) noexcept = default;
  file_lock& operator=(file_lock&&) noexcept = default;
  ~file_lock();
  /// False: the file was removed while we waited; what it guarded is gone.
  bool still_named() const noexcept;

 private:
  explicit file_lock(fd file) noexcept : file_(static_cast<fd&&>(file)) {}
  fd file_;
};
/// A locked file: locked as long as this very process lives and keeps its descriptor; not inherited
/// by a fork, gone with an exec.
/// REQUIRES: nobody in this process opens it again: closing any descriptor of it would end the
/// lock.
result<fd> make_held(const std::string& path, unsigned mode);
/// make_held() of this process's own: from now on it may be opened, and is not held any more.
void forget_held(const std::string& path) noexcept;
/// A question that may have no answer just now: no descriptor left, no memory, no right to look.
enum class certainty : std::uint8_t { no, yes, unknown };
/// Is it locked, in whatever pid namespace? One that this process holds is not opened.
certainty is_held(const std::string& path) noexcept;

/// A descriptor of nothing: whether there is one, or one for later.
fd open_nothing() noexcept;

/// A named pipe, opened for both ends and non-blocking.
result<fd> make_fifo(const std::string& path, unsigned mode);
/// Its writing end; not_found when it is gone.
result<fd> open_fifo_to_write(const std::string& path);
void poke(int fifo) noexcept;
void drain(int file) noexcept;

std::string bus_root();
std::uint32_t user_id() noexcept;

}  // namespace bus::os
