#include "os/files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>

#include "os/failure.hpp"
#include "os/size_limit.hpp"

namespace bus::os {

void fd::reset() noexcept {
  if (value_ >= 0) ::close(value_);
  value_ = -1;
}

int fd::moved_up(int value) noexcept {
  const int moved = ::fcntl(value, F_DUPFD_CLOEXEC, 3);
  const int failed = errno;
  ::close(value);
  errno = failed;
  return moved;
}

error failure(int os_errno, std::string what, std::string fix) {
  errc code = errc::system;
  switch (os_errno) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH: code = errc::not_found; break;
    case ELOOP:
    case EISDIR:
    case ENXIO: code = errc::corrupt; break;
    case EACCES:
    case EPERM:
    case EROFS: code = errc::permission; break;
    case EEXIST:
    case ENOTEMPTY: code = errc::conflict; break;
    case ENOSPC:
    case EFBIG:  // RLIMIT_FSIZE
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE: code = errc::no_space; break;
    case ETIMEDOUT: code = errc::timed_out; break;
    case EOPNOTSUPP:
    case ENOSYS: code = errc::unavailable; break;
    case EINVAL:
    case ENAMETOOLONG: code = errc::invalid_argument; break;
    default: break;
  }
  return {code, os_errno, std::move(what), std::strerror(os_errno), std::move(fix)};
}

namespace {

// thread-self: the fd directory of a process whose main thread has exited is empty.
std::string proc_path(int file) { return "/proc/thread-self/fd/" + std::to_string(file); }

file_stamp stamp_of(const struct stat& facts) noexcept {
  return {facts.st_ino, static_cast<std::uint64_t>(facts.st_ctim.tv_sec) * 1'000'000'000u +
                            static_cast<std::uint64_t>(facts.st_ctim.tv_nsec)};
}

constexpr const char* size_limit_fix = "raise the limit of the process (ulimit -f)";
constexpr const char* space_fix =
    "free shared memory (df -h /dev/shm, bus stream ls, bus ls), or use a smaller ring_bytes";

}  // namespace

result<fd> create_nameless(const std::string& directory, std::uint64_t bytes,
                           std::uint64_t reserved_bytes, unsigned mode) {
  fd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, mode));
  if (!file)
    return failure(errno, "cannot create a file in " + directory, errno == ENOSPC ? space_fix : "");
  if (::fchmod(file.get(), mode) != 0)
    return failure(errno, "cannot set the mode of a file in " + directory);
  {
    size_limit_guard guard;
    if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
      const int failed = errno;
      if (failed == EFBIG) guard.failed();
      return failure(failed, "cannot set the size of a file in " + directory,
                     failed == EFBIG ? size_limit_fix : space_fix);
    }
  }
  auto reserved = reserve(file.get(), 0, reserved_bytes, directory);
  if (!reserved) return std::move(reserved.error());
  return file;
}

result<fd> create_nameless(const std::string& directory, std::uint64_t bytes, unsigned mode) {
  return create_nameless(directory, bytes, bytes, mode);
}

// In steps, with a pause between them: one large step would occupy its processor throughout, and
// delay the completion of other writes there.
result<void> reserve(int file, std::uint64_t offset, std::uint64_t bytes, const std::string& what) {
  constexpr std::uint64_t step_bytes = 16u << 20;
  size_limit_guard guard;
  for (std::uint64_t done = 0;;) {
    const std::uint64_t step = std::min(step_bytes, bytes - done);
    const int failed =
        ::posix_fallocate(file, static_cast<off_t>(offset + done), static_cast<off_t>(step));
    if (failed == 0) done += step;
    if (failed == 0 && done >= bytes) return {};
    if (failed == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (failed == 0 || failed == EINTR) continue;
    if (failed == EFBIG) guard.failed();
    return failure(failed,
                   "cannot reserve " + std::to_string(bytes) + " bytes of shared memory in " + what,
                   failed == EFBIG ? size_limit_fix : space_fix);
  }
}

bool empty_file(int file) noexcept { return ::ftruncate(file, 0) == 0; }

result<void> give_name(int file, const std::string& path) {
  if (::linkat(AT_FDCWD, proc_path(file).c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0)
    return {};
  return failure(errno, "cannot link " + path);
}

result<opened> open_existing(const std::string& path, bool writable) {
  opened found;
  found.file = fd(
      ::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!found.file) return failure(errno, "cannot open " + path);
  struct stat facts {};
  if (::fstat(found.file.get(), &facts) != 0) return failure(errno, "cannot stat " + path);
  if (!S_ISREG(facts.st_mode))
    return error{errc::corrupt, 0, "cannot use " + path, "it is not a regular file",
                 "find out what put it there, and move it away"};
  found.bytes = static_cast<std::uint64_t>(facts.st_size);
  found.owner_uid = facts.st_uid;
  found.stamp = stamp_of(facts);
  found.id = {facts.st_dev, facts.st_ino};
  return found;
}

std::optional<file_stamp> stamp_of(const std::string& path) noexcept {
  struct stat facts {};
  if (::lstat(path.c_str(), &facts) != 0) return std::nullopt;
  return stamp_of(facts);
}

file_id id_of(int file) noexcept {
  struct stat facts {};
  if (::fstat(file, &facts) != 0) return {};
  return {facts.st_dev, facts.st_ino};
}

bool still_names(const std::string& path, const file_id& of) noexcept {
  struct stat facts {};
  if (::lstat(path.c_str(), &facts) != 0) return errno != ENOENT && errno != ENOTDIR;
  return file_id{facts.st_dev, facts.st_ino} == of;
}

result<void> read_start(int file, void* into, std::size_t bytes, const std::string& path) {
  std::size_t done = 0;
  while (done < bytes) {
    const auto got =
        ::pread(file, static_cast<char*>(into) + done, bytes - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(errno, "cannot read " + path);
    if (got == 0)
      return error{errc::corrupt, 0, "cannot use " + path, "it is too short: truncated",
                   "bus doctor shows what is damaged"};
    done += static_cast<std::size_t>(got);
  }
  return {};
}

result<void> make_directory(const std::string& path, unsigned mode) {
  if (::mkdir(path.c_str(), mode) == 0) {
    ::chmod(path.c_str(), mode);
    return {};
  }
  if (errno == EEXIST) return {};
  return failure(errno, "cannot create the directory " + path, errno == ENOSPC ? space_fix : "");
}

result<std::vector<directory_entry>> list_entries(const std::string& path) {
  fd file(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* dir = file ? ::fdopendir(file.get()) : nullptr;
  if (dir == nullptr) return failure(errno, "cannot list " + path);
  (void)file.release();
  std::vector<directory_entry> all;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") all.push_back({std::string(name), entry->d_ino});
  }
  ::closedir(dir);
  return all;
}

fd open_directory(const std::string& path) noexcept {
  return fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

std::vector<std::string> list_open_directory(int directory) {
  std::vector<std::string> names;
  if (::lseek(directory, 0, SEEK_SET) != 0) return names;
  alignas(dirent64) char block[8192];
  for (;;) {
    const ssize_t bytes = ::getdents64(directory, block, sizeof block);
    if (bytes <= 0) return names;
    for (ssize_t at = 0; at < bytes;) {
      const auto* entry = reinterpret_cast<const dirent64*>(block + at);
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
      at += entry->d_reclen;
    }
  }
}

result<std::vector<std::string>> list_directory(const std::string& path) {
  auto all = list_entries(path);
  if (!all) return std::move(all.error());
  std::vector<std::string> names;
  names.reserve(all->size());
  for (directory_entry& entry : *all) names.push_back(std::move(entry.name));
  return names;
}

void remove_file(const std::string& path) noexcept { ::unlink(path.c_str()); }

void remove_tree(const std::string& path) noexcept {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

result<void> rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return {};
  return failure(errno, "cannot rename " + from + " to " + to);
}

result<void> make_text_link(const std::string& path, const std::string& text) {
  if (::symlink(text.c_str(), path.c_str()) == 0) return {};
  return failure(errno, "cannot create " + path);
}

result<void> make_link(const std::string& path, const std::string& target) {
  const std::string early = path + ".new";
  ::unlink(early.c_str());
  if (::symlink(target.c_str(), early.c_str()) != 0 || ::rename(early.c_str(), path.c_str()) != 0)
    return failure(errno, "cannot create the link " + path);
  return {};
}

std::string link_target(const std::string& path) {
  std::string target(4096, '\0');
  const ssize_t bytes = ::readlink(path.c_str(), target.data(), target.size());
  target.resize(bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
  return target;
}

bool exists(const std::string& path) noexcept { return ::access(path.c_str(), F_OK) == 0; }

bool is_tmpfs(const std::string& path) noexcept {
  struct statfs facts {};
  return ::statfs(path.c_str(), &facts) == 0 && facts.f_type == TMPFS_MAGIC;
}

result<void> leave_mark(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  const fd file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!file || ::fsync(file.get()) != 0) return failure(errno, "cannot create " + path);
  const fd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent || ::fsync(parent.get()) != 0) return failure(errno, "cannot create " + path);
  return {};
}

bool surely_missing(const std::string& path) noexcept {
  return ::access(path.c_str(), F_OK) != 0 && errno == ENOENT;
}

bool directory_owner(const std::string& path, std::uint32_t& uid, unsigned& mode) noexcept {
  struct stat facts {};
  if (::lstat(path.c_str(), &facts) != 0 || !S_ISDIR(facts.st_mode)) return false;
  uid = facts.st_uid;
  mode = facts.st_mode & 07777u;
  return true;
}

result<file_lock> file_lock::take(const std::string& path, unsigned mode,
                                  std::chrono::milliseconds wait) {
  fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!file) return failure(errno, "cannot open the lock " + path);
  (void)::fchmod(file.get(), mode);  // independent of the umask
  const auto deadline = std::chrono::steady_clock::now() + wait;
  auto pause = std::chrono::microseconds(50);
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return failure(errno, "cannot lock " + path);
    if (std::chrono::steady_clock::now() >= deadline) {
      char holder[64] = {};
      const auto got = ::pread(file.get(), holder, sizeof holder - 1, 0);
      return error{errc::busy, 0, "cannot lock " + path,
                   "held by " + (got > 0 ? std::string(holder) : std::string("another process")) +
                       " for longer than " + std::to_string(wait.count()) + " ms",
                   "wait for it, continue it (kill -CONT PID), or end it"};
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(2000));
  }
  const std::string holder = "pid " + std::to_string(::getpid());
  if (::ftruncate(file.get(), 0) != 0 ||
      ::pwrite(file.get(), holder.data(), holder.size(), 0) < 0) {
    // only the holder's name in an error message is lost
  }
  return file_lock(std::move(file));
}

file_lock::~file_lock() {
  // Unlocks explicitly: a child forked meanwhile shares the open file and would keep the lock.
  if (file_) ::flock(file_.get(), LOCK_UN);
}

namespace {

// Closing any descriptor of a file releases this process's record locks on it, so a file that it
// holds is never opened again. In a forked child "held" stays right: its parent has the locks.
std::mutex held_mutex;
std::set<std::string>& held_paths() {
  static auto* paths = new std::set<std::string>;  // leaked for threads that outlive main
  return *paths;
}

}  // namespace

// A POSIX record lock belongs to the process: a forked child does not keep it.
result<fd> make_held(const std::string& path, unsigned mode) {
  const std::lock_guard guard(held_mutex);
  fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (!file || ::fchmod(file.get(), mode) != 0 || ::fcntl(file.get(), F_SETLK, &whole) != 0)
    return failure(errno, "cannot lock " + path);
  held_paths().insert(path);
  return file;
}

void forget_held(const std::string& path) noexcept {
  const std::lock_guard guard(held_mutex);
  held_paths().erase(path);
}

certainty is_held(const std::string& path) noexcept {
  const std::lock_guard guard(held_mutex);
  if (held_paths().contains(path)) return certainty::yes;
  const fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return errno == ENOENT ? certainty::no : certainty::unknown;
  struct flock whole {};
  whole.l_type = F_RDLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_GETLK, &whole) != 0) return certainty::unknown;
  return whole.l_type != F_UNLCK ? certainty::yes : certainty::no;
}

bool file_lock::still_named() const noexcept {
  struct stat facts {};
  return ::fstat(file_.get(), &facts) == 0 && facts.st_nlink > 0;
}

fd open_nothing() noexcept { return fd(::open("/", O_PATH | O_CLOEXEC)); }

result<fd> make_fifo(const std::string& path, unsigned mode) {
  if (::mkfifo(path.c_str(), mode) != 0) return failure(errno, "cannot create doorbell " + path);
  (void)::chmod(path.c_str(), mode);  // independent of the umask
  fd both(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  if (!both) {
    const int failed = errno;
    ::unlink(path.c_str());
    return failure(failed, "cannot open the doorbell " + path);
  }
  return both;
}

result<fd> open_fifo_to_write(const std::string& path) {
  // Opened for both ends: it is its own reader, so a dead reader causes no SIGPIPE here.
  fd end(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
  if (!end) return failure(errno, "cannot open the doorbell " + path);
  struct stat facts {};
  if (::fstat(end.get(), &facts) != 0 || !S_ISFIFO(facts.st_mode))
    return error{errc::corrupt, 0, "cannot use " + path, "it is not a named pipe", ""};
  return end;
}

void poke(int fifo) noexcept {
  const char byte = 1;
  if (::write(fifo, &byte, 1) < 0) {
    // full: the pipe is readable already
  }
}

void drain(int file) noexcept {
  char bytes[64];
  while (::read(file, bytes, sizeof bytes) == static_cast<ssize_t>(sizeof bytes)) {
  }
}

std::string bus_root() {
  const char* root = std::getenv("BUS_ROOT");
  return root != nullptr && *root != '\0' ? root : "/dev/shm";
}

std::uint32_t user_id() noexcept { return ::geteuid(); }

}  // namespace bus::os
