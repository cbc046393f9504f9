#pragma once
/// line_sink: lines of a log on a descriptor, without waiting for whoever reads them: a pipe whose reader was
/// stopped, a terminal on hold. What does not fit is left out, and counted.
///
/// Threads    any

#include <cstddef>
#include <mutex>
#include <string_view>

#include <spdlog/sinks/base_sink.h>

namespace bus {

class line_sink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit line_sink(int file) : file_(file) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}
  bool put(std::string_view line);

  const int file_;
  std::size_t left_out_ = 0;
};

}  // namespace bus
