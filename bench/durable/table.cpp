#include "table.hpp"

#include <cstdio>

#include "rounds.hpp"

namespace bench {

namespace {

constexpr const char* notes[] = {
    "JetStream confirms a publish before it is on the disk: its files are synced every 2 minutes "
    "(sync_interval), so a "
    "power failure can lose what was confirmed. The others confirm after a sync.",
    "libbus pins its client to core 0 and busd to core 1; the other clients and servers are left "
    "to the scheduler.",
};

std::uint32_t bytes_of(const durable_row& row, const durable_question& asked) {
  return row.system.bytes != 0 ? row.system.bytes : asked.bytes;
}

double floor_p50_ns(const std::vector<durable_row>& rows) {
  for (const durable_row& row : rows)
    if (row.system.id == "floor" && not_measured(row).empty()) return middle(row.p50_ns);
  return 0;
}

double over(double value, double floor) { return floor > 0 ? value / floor : 0; }

}  // namespace

void print_table(const std::vector<durable_row>& rows, const durable_question& asked, int rounds) {
  std::printf("%u-byte messages, medians of %d rounds of %g s\n\n", asked.bytes, rounds,
              asked.seconds);
  std::printf("  %-30s %12s %12s %8s %14s %10s\n", "confirmed", "p50 us", "p99 us", "x floor",
              "messages/s", "MB/s");
  const double floor = floor_p50_ns(rows);
  for (const durable_row& row : rows) {
    if (!not_measured(row).empty()) {
      std::printf("  %-30s not measured: %s\n", row.system.title.c_str(),
                  not_measured(row).c_str());
      continue;
    }
    const double p50 = middle(row.p50_ns), rate = middle(row.messages_per_s);
    std::printf("  %-30s %12.1f %12.1f %8.2f %14.0f %10.1f\n", row.system.title.c_str(), p50 / 1e3,
                middle(row.p99_ns) / 1e3, over(p50, floor), rate,
                rate * bytes_of(row, asked) / 1e6);
  }
  std::printf("\n");
  for (const durable_row& row : rows)
    if (not_measured(row).empty())
      std::printf("%s: %s\n", row.system.title.c_str(), row.system.how.c_str());
  for (const char* note : notes) std::printf("%s\n", note);
}

nlohmann::ordered_json to_json(const std::vector<durable_row>& rows, const durable_question& asked,
                               int rounds, const std::string& directory) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  const double floor = floor_p50_ns(rows);
  for (const durable_row& row : rows) {
    nlohmann::ordered_json one = {
        {"system", row.system.id}, {"title", row.system.title}, {"how", row.system.how}};
    if (!not_measured(row).empty()) {
      one["not_measured"] = not_measured(row);
    } else {
      const double rate = middle(row.messages_per_s);
      one["size"] = bytes_of(row, asked);
      one["confirm_p50_us"] = middle(row.p50_ns) / 1e3;
      one["confirm_p99_us"] = middle(row.p99_ns) / 1e3;
      one["ratio_p50"] = over(middle(row.p50_ns), floor);
      one["messages_per_s"] = rate;
      one["bytes_per_s"] = rate * bytes_of(row, asked);
      one["rounds_p50_us"] = nlohmann::ordered_json::array();
      for (const double each : row.p50_ns) one["rounds_p50_us"].push_back(each / 1e3);
      one["rounds_p99_us"] = nlohmann::ordered_json::array();
      for (const double each : row.p99_ns) one["rounds_p99_us"].push_back(each / 1e3);
      one["rounds_messages_per_s"] = row.messages_per_s;
    }
    results.push_back(std::move(one));
  }
  return {{"size", asked.bytes},    {"seconds", asked.seconds},      {"rounds", rounds},
          {"directory", directory}, {"results", std::move(results)}, {"notes", notes}};
}

}  // namespace bench
