#include <bus/bus.hpp>

#include <nlohmann/json.hpp>

#include <fstream>

#include "confirmed.hpp"
#include "server.hpp"

namespace bench {

namespace {

std::string bus_program(const durable_question& asked) {
  if (!asked.bus_program.empty()) return find_program(asked.bus_program, {"", "."});
  const auto self = std::filesystem::read_symlink("/proc/self/exe");
  return find_program("bus", {self.parent_path().string()});
}

// The program makes its own bus, named after its process, and removes it unless it is killed.
struct bus_of {
  explicit bus_of(pid_t pid) : name("bench-" + std::to_string(pid)) {}
  ~bus_of() { (void)bus::remove_bus(name, true); }
  bus_of(const bus_of&) = delete;
  bus_of& operator=(const bus_of&) = delete;
  std::string name;
};

outcome run(const durable_question& asked) {
  const scratch_directory here;
  const std::string answer = here / "answer";
  std::optional<bus_of> bus;  // removed after the program has ended
  // Half of its time is for confirms, half for throughput.
  server program({bus_program(asked), "bench", "durable", "--size", std::to_string(asked.bytes),
                  "--json", "--dir", here / "", "--seconds", std::to_string(2 * asked.seconds)},
                 answer);
  bus.emplace(program.pid());
  if (!program.ends_well("bus bench durable", durable_patience_s(asked)))
    fail("bus bench durable: " + program.last_words());
  const auto told = nlohmann::json::parse(std::ifstream(answer));
  outcome result;
  result.p50_ns = told.at("confirm_p50_us").get<double>() * 1000;
  result.p99_ns = told.at("confirm_p99_us").get<double>() * 1000;
  result.messages_per_s = told.at("messages_per_s").get<double>();
  return result;
}

}  // namespace

durable_peer durable_libbus_peer(const durable_question& asked) {
  const std::string absent =
      bus_program(asked).empty() ? "the program bus was not found: see --bus-program" : "";
  return {"libbus",
          "libbus durable",
          "bus bench durable: stream with storage durable, confirmed by disk, 8 MiB ring",
          absent,
          0,
          [](const durable_question& each) { return guarded([&] { return run(each); }); }};
}

}  // namespace bench
