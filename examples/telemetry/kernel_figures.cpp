#include "telemetry/kernel_figures.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <utility>

namespace telemetry {

namespace {

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// Removes the next word from `rest` and returns it; empty at the end.
std::string_view next_word(std::string_view& rest) {
  const std::size_t begin = rest.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return rest = {};
  const std::size_t end = std::min(rest.find_first_of(" \t", begin), rest.size());
  const std::string_view word = rest.substr(begin, end - begin);
  rest.remove_prefix(end);
  return word;
}

std::string_view next_line(std::string_view& rest) {
  const std::size_t end = std::min(rest.find('\n'), rest.size());
  const std::string_view line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return line;
}

template <std::size_t Count>
std::array<std::uint64_t, Count> numbers(std::string_view rest) {
  std::array<std::uint64_t, Count> all{};
  for (auto& one : all) one = number(next_word(rest));
  return all;
}

class decimal {
 public:
  explicit decimal(std::uint64_t value) {
    size_ = static_cast<std::size_t>(
        std::to_chars(digits_.data(), digits_.data() + digits_.size(), value).ptr - digits_.data());
  }
  operator std::string_view() const { return {digits_.data(), size_}; }

 private:
  std::array<char, 20> digits_;
  std::size_t size_;
};

/// Emits PREFIX.NAME.FIGURE for several figures of one object.
class group {
 public:
  group(const kernel_figures::sink& emit, std::string& subject, std::string_view prefix,
        std::string_view name)
      : emit_(emit), subject_(subject) {
    subject_.assign(prefix).append(".").append(name).append(".");
    stem_ = subject_.size();
  }
  void emit(std::string_view figure, std::string_view value) {
    subject_.resize(stem_);
    subject_.append(figure);
    emit_(subject_, value);
  }
  void emit(std::string_view figure, std::uint64_t value) {
    emit(figure, std::string_view(decimal(value)));
  }

 private:
  const kernel_figures::sink& emit_;
  std::string& subject_;
  std::size_t stem_;
};

}  // namespace

std::string token(std::string_view name) {
  std::string made(name.empty() ? "_" : name);
  for (char& c : made) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    if (!plain) c = '_';
  }
  return made;
}

kernel_figures::kernel_figures() : proc_(::opendir("/proc"), &::closedir) {
  if (!proc_) throw std::runtime_error("cannot read /proc");
}

/// Empty if there is no such file: a process may have exited, a container may hide files.
std::string_view kernel_figures::read(const std::string& path) {
  text_.resize(64 * 1024);
  const int file = ::openat(::dirfd(proc_.get()), path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  std::size_t size = 0;
  for (ssize_t got;
       size < text_.size() && (got = ::read(file, text_.data() + size, text_.size() - size)) > 0;)
    size += static_cast<std::size_t>(got);
  ::close(file);
  return std::string_view(text_).substr(0, size);
}

void kernel_figures::sweep(const sink& emit) {
  cpus(emit);
  memory(emit);
  disks(emit);
  network(emit);
  processes(emit);
}

void kernel_figures::cpus(const sink& emit) {
  for (std::string_view text = read("stat"); !text.empty();) {
    std::string_view line = next_line(text);
    std::string_view name = next_word(line);
    if (!name.starts_with("cpu")) return;
    name.remove_prefix(3);
    const auto [user, nice, system, idle, iowait, irq, softirq] = numbers<7>(line);
    group cpu(emit, subject_, "host.cpu", name.empty() ? "all" : name);
    cpu.emit("user", user + nice);
    cpu.emit("system", system + irq + softirq);
    cpu.emit("idle", idle + iowait);
  }
}

void kernel_figures::memory(const sink& emit) {
  static constexpr std::pair<std::string_view, std::string_view> wanted[] = {
      {"MemTotal:", "host.mem.total"},         {"MemFree:", "host.mem.free"},
      {"MemAvailable:", "host.mem.available"}, {"Buffers:", "host.mem.buffers"},
      {"Cached:", "host.mem.cached"},          {"SwapFree:", "host.mem.swap_free"}};
  for (std::string_view text = read("meminfo"); !text.empty();) {
    std::string_view line = next_line(text);
    const std::string_view name = next_word(line);
    for (const auto& [key, subject] : wanted)
      if (name == key) emit(subject, decimal(number(next_word(line)) * 1024));
  }
}

void kernel_figures::disks(const sink& emit) {
  constexpr std::uint64_t sector_bytes = 512;
  for (std::string_view text = read("diskstats"); !text.empty();) {
    std::string_view line = next_line(text);
    next_word(line), next_word(line);  // device numbers
    const std::string_view name = next_word(line);
    if (name.starts_with("loop") || name.starts_with("ram")) continue;
    const auto [reads, merged, read_sectors, read_ms, writes, merged_writes, written_sectors] =
        numbers<7>(line);
    group disk(emit, subject_, "host.disk", token(name));
    disk.emit("reads", reads);
    disk.emit("read_bytes", read_sectors * sector_bytes);
    disk.emit("writes", writes);
    disk.emit("written_bytes", written_sectors * sector_bytes);
  }
}

void kernel_figures::network(const sink& emit) {
  std::string_view text = read("net/dev");
  next_line(text), next_line(text);  // headings
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    const std::size_t colon = line.rfind(':');
    if (colon == std::string_view::npos) continue;
    std::string_view name = line.substr(0, colon);
    name = next_word(name);
    const auto of = numbers<10>(line.substr(colon + 1));
    group interface(emit, subject_, "host.net", token(name));
    interface.emit("rx_bytes", of[0]);
    interface.emit("rx_packets", of[1]);
    interface.emit("tx_bytes", of[8]);
    interface.emit("tx_packets", of[9]);
  }
}

void kernel_figures::processes(const sink& emit) {
  ::rewinddir(proc_.get());
  while (const dirent* entry = ::readdir(proc_.get()))
    if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') process(entry->d_name, emit);
}

void kernel_figures::process(std::string_view pid, const sink& emit) {
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::string path(pid);
  // PID (NAME) STATE ...: the name may contain any character, so the last ) ends it.
  const std::string_view stat = read(path + "/stat");
  const std::size_t begin = stat.find('('), end = stat.rfind(')');
  // it has exited
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) return;
  const std::string name(stat.substr(begin + 1, end - begin - 1));
  std::string_view rest = stat.substr(end + 1);
  for (int skipped = 0; skipped < 11; ++skipped) next_word(rest);
  const auto [user, system] = numbers<2>(rest);

  std::string_view statm = read(path + "/statm");
  next_word(statm);  // size of the address space
  group one(emit, subject_, "host.proc", pid);
  one.emit("name", name);
  one.emit("rss", number(next_word(statm)) * page_bytes);
  one.emit("cpu_ticks", user + system);
}

}  // namespace telemetry
