// watchdog: no test of these programs may hang. At the deadline of a test, SIGALRM ends the
// process.

#include <gtest/gtest.h>
#include <unistd.h>

namespace {

constexpr unsigned patience_s = 100;

class watchdog : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { ::alarm(patience_s); }
  void OnTestEnd(const testing::TestInfo&) override { ::alarm(0); }
};

[[maybe_unused]] const bool installed = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new watchdog);
  return true;
}();

}  // namespace
