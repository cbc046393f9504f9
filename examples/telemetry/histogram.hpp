#pragma once
/// histogram: counts of durations in buckets that are 3 % wide. It does not allocate, so it can be
/// placed in shared memory.
///
/// Threads    one writer; read after the writer has exited

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace telemetry {

class histogram {
 public:
  void add(std::uint64_t ns) noexcept {
    ++counts_[index_of(ns)];
    ++total_;
  }
  std::uint64_t total() const noexcept { return total_; }

  /// The duration in ns that `share` (0..1) of all durations do not exceed, to within 3 %. 0: none.
  double at(double share) const noexcept {
    const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > wanted || (seen == total_ && seen != 0)) return middle_of(i);
    }
    return 0;
  }

 private:
  // Each value below 32 has its own bucket; above, each power of two has 32 buckets.
  static constexpr unsigned bits = 5;
  static constexpr std::size_t per_octave = 1u << bits;

  static std::size_t index_of(std::uint64_t ns) noexcept {
    if (ns < per_octave) return ns;
    const unsigned shift = static_cast<unsigned>(std::bit_width(ns)) - bits - 1;
    return (shift + 1) * per_octave + ((ns >> shift) - per_octave);
  }
  static double middle_of(std::size_t index) noexcept {
    if (index < per_octave) return static_cast<double>(index);
    const std::size_t shift = index / per_octave - 1;
    const double width = static_cast<double>(std::uint64_t{1} << shift);
    return static_cast<double>((index % per_octave) + per_octave) * width + width / 2;
  }

  std::array<std::uint64_t, (64 - bits + 1) * per_octave> counts_{};
  std::uint64_t total_ = 0;
};

}  // namespace telemetry
