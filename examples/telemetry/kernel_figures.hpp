#pragma once
/// kernel_figures: this machine's current figures from the kernel.
///
///   host.cpu.N.{user,system,idle}   ticks since boot; N = 0, 1, ... and `all`
///   host.mem.{total,free,available,buffers,cached,swap_free}   bytes
///   host.disk.NAME.{reads,read_bytes,writes,written_bytes}     since boot
///   host.net.NAME.{rx_bytes,rx_packets,tx_bytes,tx_packets}    since boot
///   host.proc.PID.{name,rss,cpu_ticks}   rss in bytes
///
/// Threads    one

#include <dirent.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace telemetry {

/// A name as one token of a subject: characters other than letters, digits, - and _ become `_`.
std::string token(std::string_view name);

class kernel_figures {
 public:
  using sink = std::function<void(std::string_view subject, std::string_view value)>;

  kernel_figures();
  kernel_figures(const kernel_figures&) = delete;
  kernel_figures& operator=(const kernel_figures&) = delete;

  /// Reads all figures once; calls `emit` for each as soon as it is read.
  void sweep(const sink& emit);

 private:
  void cpus(const sink& emit);
  void memory(const sink& emit);
  void disks(const sink& emit);
  void network(const sink& emit);
  void processes(const sink& emit);
  void process(std::string_view pid, const sink& emit);
  std::string_view read(const std::string& path);

  std::unique_ptr<DIR, int (*)(DIR*)> proc_;
  std::string text_;     // of the last file read
  std::string subject_;  // the subject being built
};

}  // namespace telemetry
