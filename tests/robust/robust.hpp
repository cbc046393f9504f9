#pragma once
/// robust: shared parts of the tests of hostile input: children whose death is a finding, and
/// files that are damaged on purpose.

#include <bus/bus.hpp>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "scratch.hpp"

namespace robust {

/// Checks that failed in this test so far.
inline int failures() {
  const auto* result = ::testing::UnitTest::GetInstance()->current_test_info()->result();
  int failed = 0;
  for (int i = 0; i < result->total_part_count(); ++i)
    failed += result->GetTestPartResult(i).failed() ? 1 : 0;
  return failed;
}

/// Runs `work` in a child. Empty: success; otherwise, for people: "killed by signal 7 (Bus
/// error)", "a check failed", "hung".
template <class Work>
std::string run_in_child(unsigned watchdog_seconds, Work&& work) {
  test::child runner([&] {
    const int before = failures();
    ::alarm(watchdog_seconds);
    work();
    std::fflush(nullptr);
    return failures() == before ? 0 : 1;
  });
  const int status = runner.wait();
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    if (number == SIGALRM) return "hung";
    return "killed by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")";
  }
  return WEXITSTATUS(status) == 0 ? "" : "a check failed";
}

/// True if `failure` has this code, names `names` and has a what and a why.
inline ::testing::AssertionResult is_error(const bus::error& failure, bus::errc code,
                                           const std::string& names = {}) {
  const std::string shown = std::string(bus::errc_name(failure.code)) + ": " + failure.message();
  if (failure.code != code)
    return ::testing::AssertionFailure()
           << "expected " << bus::errc_name(code) << ", got " << shown;
  if (failure.what.empty() || failure.why.empty())
    return ::testing::AssertionFailure() << "says too little: " << shown;
  if (shown.find(names) == std::string::npos)
    return ::testing::AssertionFailure() << "does not name " << names << ": " << shown;
  return ::testing::AssertionSuccess();
}
template <class T>
::testing::AssertionResult fails_with(const bus::result<T>& outcome, bus::errc code,
                                      const std::string& names = {}) {
  if (outcome) return ::testing::AssertionFailure() << "it worked";
  return is_error(outcome.error(), code, names);
}

using bytes = std::vector<char>;

inline bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return bytes(std::istreambuf_iterator<char>(in), {});
}
/// Writes in place: the file stays the same inode. Creates it if it does not exist.
inline void write_file(const std::string& path, const bytes& content) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0) << path;
  ASSERT_EQ(::ftruncate(file, static_cast<off_t>(content.size())), 0);
  ASSERT_EQ(::pwrite(file, content.data(), content.size(), 0),
            static_cast<ssize_t>(content.size()));
  ::close(file);
}
template <class T>
void poke(const std::string& path, std::uint64_t offset, T value) {
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(file, 0) << path;
  ASSERT_EQ(::pwrite(file, &value, sizeof value, static_cast<off_t>(offset)),
            static_cast<ssize_t>(sizeof value));
  ::close(file);
}

/// Ends this child: what follows would harm the machine, or test nothing.
inline void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s: %s\n", what, ::strerror(errno));
  ::_exit(111);
}

/// Makes this child an ordinary user, so that file modes matter.
inline void become_ordinary() {
  if (::geteuid() != 0) return;
  must(::setgroups(0, nullptr) == 0, "setgroups");
  must(::setresgid(65534, 65534, 65534) == 0, "setresgid");
  must(::setresuid(65534, 65534, 65534) == 0, "setresuid");
}

/// Mounts a tmpfs at `at` that only this child sees.
inline void mount_small_tmpfs(const std::string& at, const std::string& options) {
  const uid_t user = ::geteuid();
  const gid_t group = ::getegid();
  must(::unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) == 0,
       "a private mount namespace is needed: root, or unprivileged user namespaces");
  if (user != 0) {
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << user << ' ' << user << " 1";
    std::ofstream("/proc/self/gid_map") << group << ' ' << group << " 1";
  }
  must(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "mount --make-private");
  must(::mount("tmpfs", at.c_str(), "tmpfs", 0, ("mode=700," + options).c_str()) == 0,
       "mount of a small tmpfs");
}

}  // namespace robust
