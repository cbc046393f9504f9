#pragma once
/// keeper_link: sends requests to busd over its control socket, and wakes it by its bell.
///
/// Threads    any

#include <chrono>
#include <string>

#include <nlohmann/json.hpp>

#include <bus/error.hpp>

#include "layout/bus_files.hpp"

namespace bus::registry {

std::string keeper_socket_path(const std::string& bus_directory);

/// The command that starts the busd which keeps the log at `log_directory`: DIR/BUS/streams/NAME.
std::string keeper_command(const std::string& bus_name, const std::string& log_directory);

/// The error of an operation that needs busd when none runs on the bus.
error no_keeper(const std::string& bus_name, std::string what,
                const std::string& log_directory = {});

/// Errors: unavailable (no busd), timed_out, and what busd returns
result<nlohmann::json> ask_keeper(const std::string& bus_directory, const std::string& bus_name,
                                  const nlohmann::json& request,
                                  std::chrono::milliseconds wait = std::chrono::seconds(30));

/// Cost: a load, and a system call if busd sleeps.
void ring_keeper(layout::control_header& control) noexcept;

}  // namespace bus::registry
