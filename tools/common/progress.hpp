#pragma once
/// progress: shows the progress of long work in a line on the terminal. Does nothing if standard
/// error is not a terminal.

#include <chrono>
#include <cstdint>
#include <string>

namespace tools {

class progress_bar {
 public:
  progress_bar(std::string doing, bool wanted);
  void show(std::uint64_t done, std::uint64_t all);
  void done();

 private:
  std::string doing_;
  bool shows_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now(), next_ = begun_;
};

}  // namespace tools
