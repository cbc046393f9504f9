#pragma once
/// keeper_link: requests to busd over its control socket; waking it by its bell.
///
/// Threads    any

#include <chrono>
#include <string>

#include <nlohmann/json.hpp>

#include <bus/error.hpp>

#include "layout/bus_files.hpp"

namespace bus::client {

std::string keeper_socket_path(const std::string& bus_directory);

/// What starts the busd that keeps the log at `log_directory`, which is DIR/BUS/streams/NAME.
std::string keeper_command(const std::string& bus_name, const std::string& log_directory);

/// No busd runs on the bus: what is said to whoever needs one.
error no_keeper(const std::string& bus_name, std::string what,
                const std::string& log_directory = {});

/// Errors: unavailable (no busd), timed_out, whatever busd answers
result<nlohmann::json> ask_keeper(const std::string& bus_directory, const std::string& bus_name,
                                  const nlohmann::json& request,
                                  std::chrono::milliseconds wait = std::chrono::seconds(30));

/// A load, and a system call when it sleeps.
void ring_keeper(layout::control_header& control) noexcept;

}  // namespace bus::client
