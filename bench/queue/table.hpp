#pragma once
/// table: the figures of a run, as tables and as one JSON object. Every figure is the median of its
/// rounds.

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "queue.hpp"

namespace bench {

struct queue_row {
  queue_peer system;
  std::vector<double> messages_per_s[queue_mode_count];
  std::string failure;  // of the first round that failed: then there is no figure
};

void print_table(const std::vector<queue_row>& rows, const queue_question& asked, int rounds);
nlohmann::ordered_json to_json(const std::vector<queue_row>& rows, const queue_question& asked,
                               int rounds);

}  // namespace bench
