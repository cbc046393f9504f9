#pragma once
/// table: the figures of a run, as tables and as one JSON object. Every figure is the median of its
/// rounds.

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "durable.hpp"

namespace bench {

struct durable_row {
  durable_peer system;
  std::vector<double> p50_ns, p99_ns, messages_per_s;
  std::string failure;  // of the first round that failed: then there is no figure
};

void print_table(const std::vector<durable_row>& rows, const durable_question& asked, int rounds);
nlohmann::ordered_json to_json(const std::vector<durable_row>& rows, const durable_question& asked,
                               int rounds, const std::string& directory);

}  // namespace bench
