/// posix_disk: the special behaviour of files on a real disk.

#include <gtest/gtest.h>

#include <unistd.h>

#include <string>

#include "log/posix_disk.hpp"
#include "scratch.hpp"

namespace bus {
namespace {

// Space is given back in small steps, and only when no reader and no name can miss it.
class CloseRemoved : public ::testing::Test {
 protected:
  CloseRemoved() {
    const log::disk_file file = disk_.open(path_, log::disk_mode::create, false);
    EXPECT_EQ(disk_.write(file, std::as_bytes(std::span(contents_)), 0), 0);
    disk_.close(file);
  }
  bool is_whole(log::disk_file file) {
    std::string found(contents_.size(), '\0');
    return disk_.read(file, std::as_writable_bytes(std::span(found)), 0) ==
               static_cast<std::int64_t>(contents_.size()) &&
           found == contents_;
  }

  test::scratch place_{"/tmp"};
  log::posix_disk disk_;
  const std::string path_ = place_.root() + "/file";
  const std::string contents_ = std::string(7 << 20, 'x') + "end";
};

TEST_F(CloseRemoved, LeavesWhatSomebodyReads) {
  const log::disk_file reader = disk_.open(path_, log::disk_mode::read, false);
  const log::disk_file file = disk_.open(path_, log::disk_mode::write, false);
  ASSERT_EQ(disk_.remove(path_), 0);
  disk_.close_removed(file);
  EXPECT_TRUE(is_whole(reader));
  disk_.close(reader);
}

TEST_F(CloseRemoved, LeavesWhatHasAnotherName) {
  const std::string other = place_.root() + "/other";
  ASSERT_EQ(::link(path_.c_str(), other.c_str()), 0);
  const log::disk_file file = disk_.open(path_, log::disk_mode::write, false);
  ASSERT_EQ(disk_.remove(path_), 0);
  disk_.close_removed(file);
  const log::disk_file reader = disk_.open(other, log::disk_mode::read, false);
  EXPECT_TRUE(is_whole(reader));
  disk_.close(reader);
}

TEST_F(CloseRemoved, LeavesWhatStillHasItsName) {
  disk_.close_removed(disk_.open(path_, log::disk_mode::write, false));
  const log::disk_file reader = disk_.open(path_, log::disk_mode::read, false);
  EXPECT_TRUE(is_whole(reader));
  disk_.close(reader);
}

TEST_F(CloseRemoved, GivesTheSpaceBack) {
  const log::disk_file file = disk_.open(path_, log::disk_mode::write, false);
  const log::disk_file cut = ::dup(file);  // the same open file: it sees what happens to it
  ASSERT_EQ(disk_.remove(path_), 0);
  disk_.close_removed(file);
  EXPECT_LE(disk_.size(cut), 2 << 20) << "nobody else had it open";
  disk_.close(cut);
}

}  // namespace
}  // namespace bus
