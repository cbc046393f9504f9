#pragma once
/// target: a fuzz target is a function that takes any bytes and aborts when a promise does not
/// hold.
///
/// The same functions run in two programs: fuzz_NAME (libFuzzer, preset `fuzz`) searches for
/// inputs, fuzz_seeds (every test build) runs the inputs stored under seeds/NAME.
///
/// Where a checksum would stop every mutation at once, a bit of the first byte makes the target
/// correct the checksums first, so that the code after them is reached, too.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace bus::fuzz {

using input = std::span<const std::uint8_t>;

/// A segment: read by segment_reader and by history, alone or as two segments.
void log_reader(input bytes);
/// An index beside an intact segment: whatever it contains, a reader finds the record it looks
/// for.
void log_index(input bytes);
/// `state` of a lane.
void log_state(input bytes);
/// `subjects` of a stream.
void log_subjects(input bytes);
/// Head and body of a control message, requests and answers.
void control(input bytes);
/// busd's TOML file. Only in builds with busd.
void configuration(input bytes);

/// Aborts unless `holds`: the code under test broke `promise`.
inline void require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: broken promise: %s\n", promise);
  std::abort();
}

/// Takes the input apart from the front; yields zeros when it is used up.
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
