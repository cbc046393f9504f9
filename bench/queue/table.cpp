#include "table.hpp"

#include <cstdio>

#include "rounds.hpp"

namespace bench {

namespace {

constexpr const char* notes[] = {
    "Messages that wait are claimed and acknowledged; nothing is published meanwhile.",
    "Of two placements of a peer the better one counts, in each column.",
};

struct comparison {
  double libbus = 0, best = 0;  // messages/s
  std::string best_id;
  double ratio() const { return best > 0 ? libbus / best : 0; }
};

comparison compare(const std::vector<queue_row>& rows, std::size_t mode) {
  comparison result;
  for (const queue_row& row : rows) {
    if (!not_measured(row).empty()) continue;
    const double rate = middle(row.messages_per_s[mode]);
    if (row.system.id == "libbus") {
      result.libbus = rate;
    } else if (rate > result.best) {
      result.best = rate;
      result.best_id = row.system.id;
    }
  }
  return result;
}

std::string title(const queue_mode& mode) {
  return std::to_string(mode.consumers) + (mode.consumers == 1 ? " consumer" : " consumers") +
         ", " + (mode.batch == 1 ? "one by one" : "by " + std::to_string(mode.batch));
}

}  // namespace

void print_table(const std::vector<queue_row>& rows, const queue_question& asked, int rounds) {
  std::printf(
      "%u-byte messages, claimed and acknowledged per second; medians of %d rounds of %g s\n\n",
      asked.bytes, rounds, asked.seconds);
  std::printf("  %-32s", "");
  for (const queue_mode& mode : queue_modes) std::printf(" %24s", title(mode).c_str());
  std::printf("\n");
  for (const queue_row& row : rows) {
    std::printf("  %-32s", row.system.title.c_str());
    if (!not_measured(row).empty()) {
      std::printf(" not measured: %s\n", not_measured(row).c_str());
      continue;
    }
    for (const auto& rates : row.messages_per_s) std::printf(" %24.0f", middle(rates));
    std::printf("\n");
  }
  std::printf("  %-32s", "libbus / best peer");
  for (std::size_t mode = 0; mode < queue_mode_count; ++mode)
    std::printf(" %24.1f", compare(rows, mode).ratio());
  std::printf("\n\n");
  for (const queue_row& row : rows)
    if (not_measured(row).empty())
      std::printf("%s: %s\n", row.system.title.c_str(), row.system.how.c_str());
  for (const char* note : notes) std::printf("%s\n", note);
}

nlohmann::ordered_json to_json(const std::vector<queue_row>& rows, const queue_question& asked,
                               int rounds) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array(),
                         modes = nlohmann::ordered_json::array();
  for (const queue_row& row : rows) {
    nlohmann::ordered_json one = {
        {"system", row.system.id}, {"title", row.system.title}, {"how", row.system.how}};
    if (!not_measured(row).empty())
      one["not_measured"] = not_measured(row);
    else
      for (std::size_t mode = 0; mode < queue_mode_count; ++mode)
        one["modes"].push_back({{"consumers", queue_modes[mode].consumers},
                                {"batch", queue_modes[mode].batch},
                                {"messages_per_s", middle(row.messages_per_s[mode])},
                                {"rounds_messages_per_s", row.messages_per_s[mode]}});
    results.push_back(std::move(one));
  }
  for (std::size_t mode = 0; mode < queue_mode_count; ++mode) {
    const comparison found = compare(rows, mode);
    modes.push_back({{"consumers", queue_modes[mode].consumers},
                     {"batch", queue_modes[mode].batch},
                     {"best_peer", found.best_id},
                     {"ratio", found.ratio()}});
  }
  return {{"size", asked.bytes},           {"seconds", asked.seconds},   {"rounds", rounds},
          {"results", std::move(results)}, {"ratios", std::move(modes)}, {"notes", notes}};
}

}  // namespace bench
