#pragma once
/// open_bus: opens a session on the bus of a scratch directory; throws on failure.

#include <bus/bus.hpp>

#include <stdexcept>

#include "scratch.hpp"

namespace test {

inline bus::session open_bus(const scratch& place) {
  auto opened = bus::open(place.url());
  if (!opened) throw std::runtime_error(opened.error().message());
  return std::move(*opened);
}

}  // namespace test
