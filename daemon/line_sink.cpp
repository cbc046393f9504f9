#include "line_sink.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>

namespace bus {

namespace {

constexpr int patience_ms = 20;

}  // namespace

// A pipe takes PIPE_BUF bytes at once, or nothing.
bool line_sink::put(std::string_view line) {
  while (!line.empty()) {
    ::pollfd one{file_, POLLOUT, 0};
    const int ready = ::poll(&one, 1, left_out_ == 0 ? patience_ms : 0);
    if (ready < 0 && errno == EINTR) continue;
    // a write to a pipe without a reader would raise a signal
    if (ready <= 0 || one.revents != POLLOUT) return false;
    const ::ssize_t done =
        ::write(file_, line.data(), std::min<std::size_t>(line.size(), PIPE_BUF));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    line.remove_prefix(static_cast<std::size_t>(done));
  }
  return true;
}

void line_sink::sink_it_(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t line;
  formatter_->format(message, line);
  if (left_out_ != 0 && put("busd: " + std::to_string(left_out_) +
                            " log lines are missing here, because standard error was not read\n"))
    left_out_ = 0;
  if (left_out_ != 0 || !put({line.data(), line.size()})) ++left_out_;
}

}  // namespace bus
