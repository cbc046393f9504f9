#pragma once
/// line_sink: writes log lines to a descriptor and never blocks. When the reader does not take them
/// (a stopped process behind a pipe, a terminal on hold), lines are dropped and counted.
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
