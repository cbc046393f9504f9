#include "picture.hpp"

#include <algorithm>

#include "text.hpp"

namespace top {

double observer::rate(const std::string& key, double value, double seconds) {
  now_[key] = value;
  const auto known = before_.find(key);
  return known == before_.end() || seconds <= 0 ? 0 : (value - known->second) / seconds;
}

bus::result<picture> observer::look() {
  auto streams = session_.streams();
  if (!streams) return std::move(streams.error());
  auto processes = session_.processes();
  if (!processes) return std::move(processes.error());
  const auto time = std::chrono::steady_clock::now();
  const double seconds = last_ ? std::chrono::duration<double>(time - *last_).count() : 0;
  last_ = time;
  now_.clear();
  picture seen;
  for (auto& info : *streams) {
    stream_row row;
    double bytes = 0;
    std::uint64_t refused = 0;
    for (const auto& lane : info.lanes) {
      bytes += static_cast<double>(lane.bytes_published);
      refused += lane.dropped + lane.rejected;
      row.fill = std::max(row.fill, static_cast<double>(lane.used_bytes) /
                                        static_cast<double>(info.config.ring_bytes));
    }
    const std::string key = "s" + std::to_string(info.stream_id);
    row.messages_per_s = rate(key + "m", static_cast<double>(info.messages()), seconds);
    row.bytes_per_s = rate(key + "b", bytes, seconds);
    const double refused_per_s = rate(key + "r", static_cast<double>(refused), seconds);
    if (refused_per_s > 0)
      row.state = "refusing",
      row.reason = "ring full: " + tools::show_count(refused_per_s) + " refused/s";
    else if (row.fill > 0.9)
      row.state = "full", row.reason = "its slowest reader holds publishers back";
    else
      row.state = row.messages_per_s > 0 ? "flowing" : "idle";
    row.info = std::move(info);
    seen.streams.push_back(std::move(row));
  }
  for (auto& process : *processes) {
    const std::string name = process.name;
    const std::string process_state = tools::state_name(process.state);
    for (const auto& p : process.publishers) {
      publisher_row row{
          p,    process.pid,
          name, rate("p" + std::to_string(p.id), static_cast<double>(p.messages), seconds),
          {},   {}};
      row.state = process.state != bus::process_state::running ? process_state
                  : p.blocked                                  ? "blocked"
                  : row.messages_per_s > 0                     ? "flowing"
                                                               : "idle";
      if (p.blocked) row.reason = "waits for space on stream " + p.stream;
      seen.publishers.push_back(std::move(row));
    }
    for (const auto& r : process.readers) {
      subscriber_row row{r, process.pid, name, 0, 0, 0, {}, {}};
      const std::string key = "r" + std::to_string(r.id) + r.stream + "/" + std::to_string(r.lane);
      row.messages_per_s = rate(key + "d", static_cast<double>(r.delivered), seconds);
      row.lost_per_s = rate(key + "l", static_cast<double>(r.lost), seconds);
      row.growth_per_s = rate(key + "g", static_cast<double>(r.lag_messages), seconds);
      if (process.state != bus::process_state::running)
        row.state = process_state;
      else if (row.lost_per_s > 0)
        row.state = "losing",
        row.reason = "too slow for the ring: " + tools::show_count(row.lost_per_s) + " lost/s";
      else if (row.growth_per_s > 0 && r.lag_messages > 1000)
        row.state = "lagging",
        row.reason = "grows by " + tools::show_count(row.growth_per_s) + "/s";
      else
        row.state = r.sleeping ? "sleeping" : row.messages_per_s > 0 ? "flowing" : "idle";
      seen.subscribers.push_back(std::move(row));
    }
    process_row row{std::move(process), process_state, {}};
    if (row.info.state == bus::process_state::stopped)
      row.reason = "stopped by a signal: it still holds its locks and ring space";
    if (row.info.state == bus::process_state::dead)
      row.reason = "died; the next process that opens the bus cleans up after it";
    seen.processes.push_back(std::move(row));
  }
  before_ = now_;
  return seen;
}

tools::json picture::to_json() const {
  tools::json s = tools::json::array(), p = s, r = s, q = s;
  const auto with = [](tools::json base, tools::json more) {
    base.update(more);
    return base;
  };
  for (const auto& row : streams)
    s.push_back(with(tools::to_json(row.info), {{"messages_per_s", row.messages_per_s},
                                                {"bytes_per_s", row.bytes_per_s},
                                                {"fill", row.fill},
                                                {"state", row.state},
                                                {"reason", row.reason}}));
  for (const auto& row : publishers)
    p.push_back(with(tools::to_json(row.info), {{"pid", row.pid},
                                                {"process", row.process},
                                                {"messages_per_s", row.messages_per_s},
                                                {"state", row.state},
                                                {"reason", row.reason}}));
  for (const auto& row : subscribers)
    r.push_back(with(tools::to_json(row.info), {{"pid", row.pid},
                                                {"process", row.process},
                                                {"messages_per_s", row.messages_per_s},
                                                {"lost_per_s", row.lost_per_s},
                                                {"growth_per_s", row.growth_per_s},
                                                {"state", row.state},
                                                {"reason", row.reason}}));
  for (const auto& row : processes) {
    auto object = tools::to_json(row.info);
    object["reason"] = row.reason;
    q.push_back(object);
  }
  return {{"streams", s}, {"publishers", p}, {"subscribers", r}, {"processes", q}};
}

}  // namespace top
