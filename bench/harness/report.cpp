#include "report.hpp"

#include <sys/utsname.h>

#include <cstdio>
#include <ctime>
#include <fstream>

#include "samples.hpp"

namespace bench {

namespace {

std::string size_text(std::uint32_t bytes) {
  if (bytes >= 1 << 20 && bytes % (1 << 20) == 0) return std::to_string(bytes >> 20) + " MiB";
  if (bytes >= 1 << 10 && bytes % (1 << 10) == 0) return std::to_string(bytes >> 10) + " KiB";
  return std::to_string(bytes) + " B";
}

std::string number(double value, const char* format) {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string duration_text(double ns) {
  if (ns < 1e3) return number(ns, "%.0f ns");
  if (ns < 1e5) return number(ns / 1e3, "%.2f us");
  return number(ns / 1e3, "%.0f us");
}

std::string rate_text(double per_second) {
  if (per_second >= 1e6) return number(per_second / 1e6, "%.2f M/s");
  return number(per_second / 1e3, "%.1f k/s");
}

std::string ratio_text(double ratio) {
  return ratio > 0 ? number(ratio, ratio < 0.1 ? "%.3f" : ratio < 10 ? "%.2f" : "%.1f") : "";
}

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name") || line.starts_with("Model"))
      if (const auto at = line.find(": "); at != std::string::npos) return line.substr(at + 2);
  return "unknown";
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

nlohmann::ordered_json machine_facts() {
  utsname system{};
  uname(&system);
#ifdef __clang__
  const std::string compiler = "clang " __clang_version__;
#else
  const std::string compiler = "g++ " __VERSION__;
#endif
  return {{"cpu", cpu_model()},
          {"cores", sysconf(_SC_NPROCESSORS_ONLN)},
          {"kernel", system.release},
          {"architecture", system.machine},
          {"ticks_per_ns", ticks_per_ns()},
          {"compiler", compiler},
          {"date", now_text()}};
}

void print_failure(const figure& each) {
  std::printf("  %-24s %8s not measured: %s\n", each.title.c_str(),
              size_text(each.asked.bytes).c_str(), each.failure.c_str());
}

// For streams larger is better, for round trips smaller. The ratio is the system's figure over the
// floor's in both.
double ratio_of(const figure& each, const figure* floor) {
  if (floor == nullptr || !floor->measured() || !each.measured()) return 0;
  const bool stream = each.asked.kind == what::stream;
  const double base = median(stream ? floor->messages_per_s : floor->p50_ns);
  return base > 0 ? median(stream ? each.messages_per_s : each.p50_ns) / base : 0;
}

}  // namespace

/// 64 B: the best that the machine can do; larger: the minimal ring of the same size; sleeping: the
/// raw futex.
const figure* report::floor_of(const figure& each) const {
  const plan& asked = each.asked;
  const bool stream = asked.kind == what::stream,
             sleeping = !stream && asked.wait == waiting::block;
  const char* system = sleeping                     ? "futex"
                       : stream || asked.bytes > 64 ? "minimal_ring"
                                                    : "cache_line";
  for (const figure& other : figures_) {
    if (other.system != system || other.asked.kind != asked.kind) continue;
    if (other.asked.same_core() != asked.same_core()) continue;
    if (sleeping || other.asked.bytes == asked.bytes) return &other;
  }
  return nullptr;
}

bool report::failed(const std::string& system) const {
  return std::any_of(figures_.begin(), figures_.end(), [&](const figure& each) {
    return each.system == system && !each.failure.empty();
  });
}

nlohmann::ordered_json report::to_json(double seconds, int rounds) const {
  nlohmann::ordered_json results = nlohmann::ordered_json::array(),
                         absent = nlohmann::ordered_json::array();
  for (const figure& each : figures_) {
    const plan& asked = each.asked;
    nlohmann::ordered_json one = {{"system", each.system},
                                  {"title", each.title},
                                  {"kind", asked.kind == what::stream ? "stream" : "round_trip"},
                                  {"wait", asked.wait == waiting::spin ? "spin" : "block"},
                                  {"size", asked.bytes},
                                  {"same_core", asked.same_core()}};
    if (!each.measured()) {
      one["not_measured"] = each.failure;
    } else {
      if (asked.kind == what::stream) {
        one["messages_per_s"] = median(each.messages_per_s);
        one["bytes_per_s"] = median(each.messages_per_s) * asked.bytes;
      } else {
        one["p50_ns"] = median(each.p50_ns);
        one["p99_ns"] = median(each.p99_ns);
      }
      if (const figure* floor = floor_of(each); floor != nullptr && floor->measured()) {
        one["floor"] = floor->system;
        one["ratio"] = ratio_of(each, floor);
      }
    }
    results.push_back(std::move(one));
  }
  for (const absence& each : absent_)
    absent.push_back({{"system", each.system}, {"title", each.title}, {"not_measured", each.why}});
  return {{"machine", machine_facts()},
          {"seconds", seconds},
          {"rounds", rounds},
          {"results", std::move(results)},
          {"absent", std::move(absent)}};
}

void report::print_round_trips(waiting wait, bool same_core) const {
  bool any = false;
  for (const figure& each : figures_) {
    const plan& asked = each.asked;
    if (asked.kind != what::round_trip || asked.wait != wait || asked.same_core() != same_core)
      continue;
    if (!any)
      std::printf("\nround trip, %s%s\n  %-24s %8s %12s %12s   %s\n",
                  wait == waiting::spin ? "busy polling" : "sleeping",
                  same_core ? ", both processes on one core" : "", "system", "size", "p50", "p99",
                  "x floor");
    any = true;
    if (!each.measured()) {
      print_failure(each);
      continue;
    }
    std::printf("  %-24s %8s %12s %12s   %s\n", each.title.c_str(), size_text(asked.bytes).c_str(),
                duration_text(median(each.p50_ns)).c_str(),
                duration_text(median(each.p99_ns)).c_str(),
                ratio_text(ratio_of(each, floor_of(each))).c_str());
  }
}

void report::print_streams() const {
  bool any = false;
  for (const figure& each : figures_) {
    const plan& asked = each.asked;
    if (asked.kind != what::stream) continue;
    if (!any)
      std::printf("\nstream, one way\n  %-24s %8s %12s %12s   %s\n", "system", "size", "messages",
                  "GB/s", "x floor");
    any = true;
    if (!each.measured()) {
      print_failure(each);
      continue;
    }
    const double rate = median(each.messages_per_s);
    std::printf("  %-24s %8s %12s %12.2f   %s\n", each.title.c_str(),
                size_text(asked.bytes).c_str(), rate_text(rate).c_str(), rate * asked.bytes / 1e9,
                ratio_text(ratio_of(each, floor_of(each))).c_str());
  }
}

void report::print() const {
  print_round_trips(waiting::spin, false);
  print_round_trips(waiting::block, false);
  print_round_trips(waiting::block, true);
  print_streams();
  for (const absence& each : absent_)
    std::printf("\n%s: not measured: %s\n", each.title.c_str(), each.why.c_str());
  std::printf(
      "\nfloor: of 64 B the cache line, of larger sizes and streams the minimal ring, of sleeping "
      "the futex\n");
}

}  // namespace bench
