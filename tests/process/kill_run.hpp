#pragma once
/// kill_run: the duration and the seed of a program that kills at random. By hand: --seconds N
/// --seed S.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>

namespace test {

struct kill_run {
  double seconds;
  std::uint64_t seed = std::random_device{}();

  /// Prints the seed. Exits with 2 if the options are wrong.
  kill_run(int argc, char** argv, double seconds_unless_told) : seconds(seconds_unless_told) {
    for (int i = 1; i < argc; i += 2) {
      const std::string_view option = argv[i];
      if (option == "--seconds" && i + 1 < argc) {
        seconds = std::atof(argv[i + 1]);
      } else if (option == "--seed" && i + 1 < argc) {
        seed = std::strtoull(argv[i + 1], nullptr, 10);
      } else {
        std::fprintf(stderr, "usage: %s [--seconds N] [--seed S]\n", argv[0]);
        std::exit(2);
      }
    }
    std::printf("seed %llu (repeat with --seed)\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
  }

  std::chrono::milliseconds share(double of_the_time) const {
    return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000 * of_the_time));
  }
};

}  // namespace test
