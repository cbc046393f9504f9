#include <gtest/gtest.h>

#include "scratch.hpp"
#include "sync/fork_guard.hpp"

namespace bus::sync {
namespace {

TEST(ForkGuard, KnowsTheProcessThatMadeIt) {
  const fork_guard guard;
  EXPECT_TRUE(guard.same_process());
  EXPECT_TRUE(fork_guard(guard).same_process());
}

TEST(ForkGuard, OfTheParentIsStrangeInTheChild) {
  const fork_guard parents;
  test::child child([&] {
    if (parents.same_process()) return 1;
    const fork_guard own;
    if (!own.same_process()) return 2;
    return parents.same_process() ? 3 : 0;
  });
  EXPECT_TRUE(child.succeeded());
  EXPECT_TRUE(parents.same_process());
}

TEST(ForkGuard, OfTheChildIsStrangeInTheGrandchild) {
  const fork_guard parents;
  test::child child([&] {
    const fork_guard childs;
    test::child grandchild([&] {
      const fork_guard own;
      return own.same_process() && !childs.same_process() && !parents.same_process() ? 0 : 1;
    });
    return grandchild.succeeded() && childs.same_process() ? 0 : 1;
  });
  EXPECT_TRUE(child.succeeded());
}

TEST(ProcessToken, ChangesInAForkedChild) {
  const std::uint32_t mine = process_token();
  EXPECT_EQ(process_token(), mine);
  test::child child(
      [&] { return process_token() != mine && process_token() == process_token() ? 0 : 1; });
  EXPECT_TRUE(child.succeeded());
}

}  // namespace
}  // namespace bus::sync
