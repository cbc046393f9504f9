#pragma once
/// report: the figures of a run, as tables and as one JSON object. Every figure is the median of
/// its rounds.

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "peer.hpp"

namespace bench {

/// One system and one measurement, all rounds.
struct figure {
  std::string system, title;
  plan asked;
  std::vector<double> p50_ns, p99_ns, messages_per_s;
  std::string failure;  // of the first round that failed: then there is no figure

  bool measured() const { return failure.empty() && !(p50_ns.empty() && messages_per_s.empty()); }
};

struct absence {
  std::string system, title, why;
};

class report {
 public:
  void add(figure each) { figures_.push_back(std::move(each)); }
  void leave_out(absence each) { absent_.push_back(std::move(each)); }
  std::vector<figure>& figures() { return figures_; }

  nlohmann::ordered_json to_json(double seconds, int rounds) const;
  void print() const;
  /// Whether the system failed, which is a defect. One that is absent here is not.
  bool failed(const std::string& system) const;

 private:
  const figure* floor_of(const figure& each) const;
  void print_round_trips(waiting wait, bool same_core) const;
  void print_streams() const;

  std::vector<figure> figures_;
  std::vector<absence> absent_;
};

}  // namespace bench
