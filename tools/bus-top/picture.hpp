#pragma once
/// picture: one sample of a bus, with rates since the previous sample. Reads shared memory only,
/// and disturbs no process.

#include <bus/bus.hpp>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "json.hpp"

namespace top {

struct stream_row {
  bus::stream_info info;
  double messages_per_s = 0, bytes_per_s = 0;
  double fill = 0;  // held by the slowest reader, of the fullest ring, 0-1
  std::string state, reason;
};
struct publisher_row {
  bus::publisher_info info;
  std::int64_t pid = 0;
  std::string process;
  double messages_per_s = 0;
  std::string state, reason;
};
struct subscriber_row {
  bus::reader_info info;
  std::int64_t pid = 0;
  std::string process;
  double messages_per_s = 0, lost_per_s = 0, growth_per_s = 0;  // growth of the lag
  std::string state, reason;
};
struct process_row {
  bus::process_info info;
  std::string state, reason;
};

struct picture {
  std::vector<stream_row> streams;
  std::vector<publisher_row> publishers;
  std::vector<subscriber_row> subscribers;
  std::vector<process_row> processes;

  tools::json to_json() const;
};

class observer {
 public:
  explicit observer(bus::session session) : session_(std::move(session)) {}
  bus::result<picture> look();
  std::string_view bus_name() const { return session_.name(); }

 private:
  double rate(const std::string& key, double value, double seconds);

  bus::session session_;
  std::map<std::string, double> before_, now_;
  std::optional<std::chrono::steady_clock::time_point> last_;
};

}  // namespace top
