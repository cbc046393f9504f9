#include "log/posix_disk.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "os/fd.hpp"
#include "os/size_limit.hpp"

namespace bus::log {

namespace {

int answer(int outcome) noexcept { return outcome == 0 ? 0 : -errno; }

}  // namespace

int posix_disk::open(const std::string& path, disk_mode mode, bool direct) {
  // O_NONBLOCK: there may be a FIFO in place of the file
  int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  if (mode == disk_mode::read) flags |= O_RDONLY;
  if (mode == disk_mode::write) flags |= O_RDWR;
  if (mode == disk_mode::create) flags |= O_RDWR | O_CREAT | O_EXCL;
  os::fd opened(::open(path.c_str(), flags, 0600));
  if (!opened) return -errno;
  struct ::stat found {};
  if (::fstat(opened.get(), &found) != 0) return -errno;
  // Only a regular file is read: a FIFO, a socket or a device in its place might block the reader.
  if (!S_ISREG(found.st_mode) && (mode == disk_mode::read || !S_ISCHR(found.st_mode)))
    return -ENXIO;
  if (mode == disk_mode::create) (void)::fchmod(opened.get(), 0600);  // whatever the umask is
  const int file = opened.release();
  // Not with open(), which fails on a file system without O_DIRECT after it has created the file.
  if (direct) (void)::fcntl(file, F_SETFL, O_DIRECT);
  // Readers of a log read in large portions and know where they continue, so read-ahead would only
  // fetch what is being written.
  if (mode == disk_mode::read) (void)::posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
  return file;
}

void posix_disk::close(disk_file file) {
  if (file >= 0) ::close(file);
}

// A journal commit that follows a large free first writes, and discards, all of it.
void posix_disk::close_removed(disk_file file) {
  constexpr std::int64_t freed_at_once = 2 << 20;
  struct ::stat found {};
  // The file may have another name. A write lease is granted only if nothing else has the file
  // open. If another process opens it while we hold the lease, the signal is one that is ignored.
  (void)::fcntl(file, F_SETSIG, SIGURG);
  if (::fstat(file, &found) == 0 && found.st_nlink == 0 &&
      ::fcntl(file, F_SETLEASE, F_WRLCK) == 0) {
    (void)::fcntl(file, F_SETLEASE, F_UNLCK);
    const std::int64_t last = found.st_size - 1;
    for (std::int64_t left = last - last % freed_at_once; left > 0; left -= freed_at_once) {
      if (::ftruncate(file, left) != 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  close(file);
}

std::int64_t posix_disk::read(disk_file file, std::span<std::byte> into, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        ::pread(file, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return static_cast<std::int64_t>(done);
}

int posix_disk::write(disk_file file, std::span<const std::byte> from, std::uint64_t offset) {
  os::size_limit_guard guard;
  std::size_t done = 0;
  while (done < from.size()) {
    const ssize_t put =
        ::pwrite(file, from.data() + done, from.size() - done, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EFBIG) guard.failed();
    if (put < 0) return -errno;
    if (put == 0) return -EIO;
    done += static_cast<std::size_t>(put);
  }
  return 0;
}

int posix_disk::reserve(disk_file file, std::uint64_t bytes) {
  os::size_limit_guard guard;
  for (;;) {
    const int failed = ::posix_fallocate(file, 0, static_cast<off_t>(bytes));
    if (failed == EFBIG) guard.failed();
    if (failed != EINTR) return -failed;
  }
}

int posix_disk::sync(disk_file file) { return answer(::fdatasync(file)); }

std::int64_t posix_disk::size(disk_file file) {
  struct ::stat found {};
  return ::fstat(file, &found) == 0 ? static_cast<std::int64_t>(found.st_size) : -errno;
}

std::uint32_t posix_disk::alignment(disk_file file) {
  if ((::fcntl(file, F_GETFL) & O_DIRECT) == 0) return 512;
#if defined(STATX_DIOALIGN)
  struct ::statx found {};
  if (::statx(file, "", AT_EMPTY_PATH, STATX_DIOALIGN, &found) == 0 &&
      (found.stx_mask & STATX_DIOALIGN) != 0 && found.stx_dio_offset_align != 0)
    return std::max<std::uint32_t>(512, found.stx_dio_offset_align);
#endif
  return 4096;  // the kernel does not report it: what every disk accepts
}

int posix_disk::rename(const std::string& from, const std::string& to) {
  return answer(::rename(from.c_str(), to.c_str()));
}

int posix_disk::remove(const std::string& path) { return answer(std::remove(path.c_str())); }

int posix_disk::make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0) return errno == EEXIST ? 0 : -errno;
  return answer(::chmod(path.c_str(), 0700));
}

int posix_disk::sync_directory(const std::string& path) {
  const os::fd file(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return file ? answer(::fsync(file.get())) : -errno;
}

int posix_disk::list(const std::string& path, std::vector<std::string>& names) {
  os::fd file(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* directory = file ? ::fdopendir(file.get()) : nullptr;
  if (directory == nullptr) return -errno;
  (void)file.release();
  errno = 0;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  const int failed = errno;
  ::closedir(directory);
  return -failed;
}

int posix_disk::space(const std::string& path, disk_space& found) {
  struct ::statvfs facts {};
  if (::statvfs(path.c_str(), &facts) != 0) return -errno;
  // As df counts: blocks reserved for root are neither used nor free.
  const std::uint64_t used = std::uint64_t{facts.f_blocks} - facts.f_bfree;
  found.total_bytes = (used + facts.f_bavail) * facts.f_frsize;
  found.free_bytes = std::uint64_t{facts.f_bavail} * facts.f_frsize;
  return 0;
}

void posix_disk::begin_write(disk_file file, std::span<const std::byte> from, std::uint64_t offset,
                             bool sync_too, std::uint64_t token, int) {
  int failure = write(file, from, offset);
  if (failure == 0 && sync_too) failure = sync(file);
  done_.push_back({token, failure});
}

void posix_disk::begin_sync(disk_file file, std::uint64_t token) {
  done_.push_back({token, sync(file)});
}

std::size_t posix_disk::reap(std::span<disk_completion> into, std::uint64_t) {
  std::size_t count = 0;
  while (count < into.size() && !done_.empty()) {
    into[count++] = done_.front();
    done_.pop_front();
  }
  return count;
}

}  // namespace bus::log
