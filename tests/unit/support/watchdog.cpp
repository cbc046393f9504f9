// watchdog: no test of these programs may hang. Each one has a deadline, after which the process is
// ended by SIGALRM.

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
