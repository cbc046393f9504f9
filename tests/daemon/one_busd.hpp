#pragma once
/// one_busd: a bus with its own busd and a session. When a test fails, the output of busd is
/// printed.

#include <gtest/gtest.h>

#include <optional>

#include "busd_process.hpp"

namespace test {

class one_busd : public ::testing::Test {
 protected:
  void SetUp() override {
    ::alarm(200);
    ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
    auto opened = bus::open(place_.url());
    ASSERT_TRUE(opened) << opened.error().message();
    session_.emplace(std::move(*opened));
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "busd said:\n%s\n", busd_.log_tail().c_str());
    ::alarm(0);
  }

  scratch place_, disk_{disk_directory()};
  busd_process busd_{place_.root(), disk_.root(), {"--buffer-bytes", "262144"}};
  std::optional<bus::session> session_;
};

}  // namespace test
