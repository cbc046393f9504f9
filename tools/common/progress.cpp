#include "progress.hpp"

#include <unistd.h>

#include <cstdio>

#include "text.hpp"

namespace tools {

namespace {

constexpr auto draw_every = std::chrono::milliseconds(200);
constexpr int width = 30;

}  // namespace

progress_bar::progress_bar(std::string doing, bool wanted)
    : doing_(std::move(doing)), shows_(wanted && ::isatty(2) == 1) {
  next_ += draw_every;
}

void progress_bar::show(std::uint64_t done, std::uint64_t all) {
  const auto now = std::chrono::steady_clock::now();
  if (!shows_ || now < next_ || all == 0) return;
  next_ = now + draw_every;
  drawn_ = true;
  const double share = static_cast<double>(done) / static_cast<double>(all);
  const double taken = std::chrono::duration<double>(now - begun_).count();
  const int filled = static_cast<int>(share * width);
  std::fprintf(
      stderr, "\r%s [%s%s] %3.0f %%  %s of %s  %s/s  %.0f s left ", doing_.c_str(),
      std::string(static_cast<std::size_t>(filled), '=').c_str(),
      std::string(static_cast<std::size_t>(width - filled), ' ').c_str(), share * 100,
      show_bytes(static_cast<double>(done)).c_str(), show_bytes(static_cast<double>(all)).c_str(),
      show_bytes(static_cast<double>(done) / taken).c_str(), share > 0 ? taken / share - taken : 0);
}

void progress_bar::done() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
}

}  // namespace tools
