#pragma once
/// rounds: measures systems in turns, so that changes of the machine's state affect all of them. A
/// row has a `system` with `title` and `absent`, and the `failure` of the first round that failed:
/// then there is no figure.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "processes.hpp"

namespace bench {

/// The median; the mean of the middle two if their number is even.
inline double middle(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return (values[values.size() / 2] + values[(values.size() - 1) / 2]) / 2;
}

/// Why there is no figure; empty: there is one.
template <class Row>
const std::string& not_measured(const Row& row) {
  return row.system.absent.empty() ? row.failure : row.system.absent;
}

/// Measures the rows in order, and in reverse order in every other round. Returns false when the
/// run was interrupted.
template <class Row, class Measure>
bool in_turns(std::vector<Row>& rows, int rounds, bool quiet, Measure&& measure) {
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Row& row = rows[round % 2 == 0 ? i : rows.size() - 1 - i];
      if (!quiet)
        std::fprintf(stderr, "\r\033[Kround %d of %d: %s", round + 1, rounds,
                     row.system.title.c_str());
      if (not_measured(row).empty()) measure(row);
      if (interrupted()) return false;
    }
  }
  if (!quiet) std::fprintf(stderr, "\r\033[K");
  return true;
}

/// A system that cannot be started fails this measurement.
template <class Work>
outcome guarded(Work&& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    outcome result;
    result.failure = error.what();
    return result;
  }
}

}  // namespace bench
