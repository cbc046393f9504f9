#pragma once
/// buses: short forms for tests of the public API. A failure throws the error's text, which ends
/// the test.

#include <gtest/gtest.h>

#include <bus/bus.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "scratch.hpp"

namespace test {

using namespace std::chrono_literals;

template <class T>
T must(bus::result<T> made) {
  if (!made) throw std::runtime_error(made.error().message());
  return std::move(*made);
}
inline void must(bus::result<void> done) {
  if (!done) throw std::runtime_error(done.error().message());
}

inline bus::session join(const scratch& at, const std::string& more = "") {
  return must(bus::session::open(at.url("t", more)));
}

/// Publishes; throws on failure.
template <class... Arguments>
std::uint64_t send(bus::publisher& from, Arguments&&... arguments) {
  const bus::published done = from.publish(std::forward<Arguments>(arguments)...);
  if (!done)
    throw std::runtime_error(std::string(bus::publish_status_name(done.status)) + ": " +
                             from.last_error().message());
  return done.sequence;
}
inline void send_to(bus::publisher& from, std::string_view subject, std::string_view text) {
  const bus::published done = from.publish_to(subject, text);
  if (!done)
    throw std::runtime_error(std::string(bus::publish_status_name(done.status)) + ": " +
                             from.last_error().message());
}

/// The texts of all messages that are there now.
inline std::vector<std::string> drain(bus::subscriber& from) {
  std::vector<std::string> all;
  while (from.poll(1000, [&](const bus::message& m) { all.emplace_back(m.text()); }) != 0) {
  }
  return all;
}
inline std::vector<std::uint64_t> drain_sequences(bus::subscriber& from) {
  std::vector<std::uint64_t> all;
  while (from.poll(1000, [&](const bus::message& m) { all.push_back(m.sequence()); }) != 0) {
  }
  return all;
}

inline bus::stream_config stream_of(const std::string& name, std::vector<std::string> subjects,
                                    bus::overflow overflow = bus::overflow::block) {
  bus::stream_config config = small_stream(name, overflow);
  config.subjects = std::move(subjects);
  return config;
}

using texts = std::vector<std::string>;

/// Publishes until the ring refuses. Returns how many messages went in.
inline std::size_t fill(bus::publisher& to, std::size_t bytes, bus::published* refusal = nullptr) {
  const std::string payload(bytes, 'f');
  for (std::size_t count = 0;; ++count) {
    const bus::published done = to.publish(payload);
    if (done) continue;
    if (refusal != nullptr) *refusal = done;
    return count;
  }
}

}  // namespace test
