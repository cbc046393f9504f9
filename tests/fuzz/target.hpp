#pragma once
/// target: what a fuzz target is: a function that takes any bytes, and aborts when a promise does
/// not hold.
///
/// The same functions run in two programs: fuzz_NAME (libFuzzer, preset `fuzz`) looks for inputs,
/// fuzz_seeds (every test build) runs the inputs that are kept under seeds/NAME.
///
/// Where a checksum would stop every mutation at once, the first byte of the input says whether
/// checksums are made right before the bytes are read: so what lies behind them is reached, too.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace bus::fuzz {

using input = std::span<const std::uint8_t>;

/// A segment: walked by segment_reader, and by history, alone or as two segments.
void log_reader(input bytes);
/// An index beside a segment that is whole: whatever it says, a reader finds what it asks for.
void log_index(input bytes);
/// `state` of a lane.
void log_state(input bytes);
/// `subjects` of a stream.
void log_subjects(input bytes);
/// Head and body of a control message, requests and answers.
void control(input bytes);
/// busd's TOML file. Only in builds with busd.
void configuration(input bytes);

/// REQUIRES nothing of the input: a promise of the code under test did not hold.
inline void require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: broken promise: %s\n", promise);
  std::abort();
}

/// Takes the input apart from the front; zeroes when it is used up.
class reader {
 public:
  explicit reader(input bytes) noexcept : rest_(bytes) {}
  std::uint8_t byte() noexcept {
    if (rest_.empty()) return 0;
    const std::uint8_t first = rest_.front();
    rest_ = rest_.subspan(1);
    return first;
  }
  input take(std::size_t bytes) noexcept {
    const input taken = rest_.first(bytes < rest_.size() ? bytes : rest_.size());
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  input rest() noexcept { return take(rest_.size()); }

 private:
  input rest_;
};

}  // namespace bus::fuzz
