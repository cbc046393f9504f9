// Runs each stored input once. A crash that a fuzzer found stays covered, even in builds without
// clang.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "target.hpp"

namespace bus::fuzz {
namespace {

struct target {
  const char* name;
  void (*run)(input bytes);
};

constexpr target targets[] = {
    {"log_reader", log_reader},       {"log_index", log_index}, {"log_state", log_state},
    {"log_subjects", log_subjects},   {"control", control},
#if defined(BUS_FUZZ_CONFIGURATION)
    {"configuration", configuration},
#endif
};

class FuzzSeeds : public ::testing::TestWithParam<target> {};

std::vector<std::string> seeds_of(const char* name) {
  std::vector<std::string> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(BUS_FUZZ_SEEDS "/") + name))
    if (entry.is_regular_file()) paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST_P(FuzzSeeds, KeepEveryPromise) {
  const auto paths = seeds_of(GetParam().name);
  ASSERT_FALSE(paths.empty());
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary);
    ASSERT_TRUE(file) << path;
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)),
                                  std::istreambuf_iterator<char>());
    std::cout << path << std::endl;  // the last path printed is the input that aborts
    // An exact copy: AddressSanitizer sees the first byte that is read past its end.
    const std::vector<std::uint8_t> exact(bytes.begin(), bytes.end());
    GetParam().run(exact);
  }
}

TEST_P(FuzzSeeds, KeepEveryPromiseWhenCutShort) {
  for (const std::string& path : seeds_of(GetParam().name)) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)),
                                  std::istreambuf_iterator<char>());
    const std::size_t step = std::max<std::size_t>(1, bytes.size() / 40);
    for (std::size_t length = 0; length < bytes.size(); length += step) {
      const std::vector<std::uint8_t> part(bytes.begin(),
                                           bytes.begin() + static_cast<std::ptrdiff_t>(length));
      GetParam().run(part);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Of, FuzzSeeds, ::testing::ValuesIn(targets),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace bus::fuzz
