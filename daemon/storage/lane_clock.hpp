#pragma once
/// lane_clock: measures the age of a lane's log. It follows CLOCK_BOOTTIME while the machine is up,
/// and is stored in the log's frames and state. The wall clock, which can be set at any time, is
/// used only to determine how long the machine was off, and only if the kernel considers it
/// synchronized before and after.
///
/// Invariants
///   CLOCK-1  It never goes back.
///   CLOCK-2  up_s never counts more than has passed.
///   CLOCK-3  The wall clock changes off_s only, and only at its first reading after a boot.
///
/// Threads    one

#include <algorithm>
#include <utility>

#include "layout/log.hpp"
#include "log/format.hpp"
#include "os/machine_time.hpp"

namespace bus::storage {

class lane_clock {
 public:
  void load(const layout::log_state& from) noexcept {
    up_ns_ = std::max(up_ns_, from.up_ns);
    off_s_ = std::max(off_s_, from.off_s);
    boot_ = from.boot;
    boot_ns_ = from.boot_ns;
    epoch_ns_ = std::uint64_t{from.epoch_s} * second;
  }
  void store(layout::log_state& to) const noexcept {
    to.up_ns = up_ns_;
    to.off_s = off_s_;
    to.boot = boot_;
    to.boot_ns = boot_ns_;
    // Rounded up, so that off_s is rather too small than too large.
    to.epoch_s =
        static_cast<std::uint32_t>(std::min<std::uint64_t>((epoch_ns_ + second - 1) / second, ~0u));
  }
  /// A time found in the log was reached: the state may be older, or lost.
  void note(const log::lane_time& seen) noexcept {
    // part of the time since then
    seen_up_ns_ = std::max(seen_up_ns_, std::uint64_t{seen.up_s} * second);
    off_s_ = std::max(off_s_, seen.off_s);
  }
  log::lane_time tick(const os::machine_time& now) noexcept {
    // A process does not outlive a boot. The state may be from an earlier boot, or from another
    // machine from which the log was copied: then this machine's uptime says nothing about it.
    if (has_ticked_ || (boot_ == now.boot && now.boot != 0)) {
      if (now.boot_ns > boot_ns_) up_ns_ += now.boot_ns - boot_ns_;
    } else {
      is_new_boot_ = boot_ != 0;
    }
    up_ns_ = std::max(up_ns_, seen_up_ns_);
    has_ticked_ = true;
    boot_ = now.boot;
    boot_ns_ = now.boot_ns;
    if (now.wall_ns != 0) {
      const std::uint64_t passed = up_ns_ + std::uint64_t{off_s_} * second;
      if (std::exchange(is_new_boot_, false) && epoch_ns_ != 0 && now.wall_ns > epoch_ns_ + passed)
        off_s_ += static_cast<std::uint32_t>(
            std::min<std::uint64_t>((now.wall_ns - epoch_ns_ - passed) / second, ~0u - off_s_));
      epoch_ns_ = now.wall_ns - std::min(now.wall_ns, up_ns_ + std::uint64_t{off_s_} * second);
    }
    return read();
  }
  log::lane_time read() const noexcept {
    return {static_cast<std::uint32_t>(std::min<std::uint64_t>(up_ns_ / second, ~0u)), off_s_};
  }

 private:
  static constexpr std::uint64_t second = 1'000'000'000;
  std::uint64_t up_ns_ = 0;
  std::uint64_t seen_up_ns_ = 0;
  std::uint32_t off_s_ = 0;
  std::uint32_t boot_ = 0;
  std::uint64_t boot_ns_ = 0;
  std::uint64_t epoch_ns_ = 0;
  bool has_ticked_ = false;
  bool is_new_boot_ = false;  // and the wall clock has not yet shown how long it was off
};

}  // namespace bus::storage
